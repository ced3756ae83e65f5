"""Who answers the shop from outside: the warehouse by its link, the carrier by an event."""

from __future__ import annotations

import contextlib
import email
import email.policy
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from django.conf import settings
from wholesale.services import WAREHOUSE
from wholesale.workflows import ship_parcels

from django_hookflow.exceptions import RunFinished
from django_hookflow.models import WorkflowStep

#: Seconds between opening a link and pressing the page's button.
READING = 0.3
#: Between two mails in a file of Django's file-based backend.
BETWEEN = b"-" * 79


@dataclass(kw_only=True)
class Warehouse:
    """Opens the link in each mail, reads the page, and presses its button."""

    #: url -> when the page was opened.
    _opened: dict[str, float] = field(default_factory=dict)
    _pressed: set[str] = field(default_factory=set)
    _done: set[str] = field(default_factory=set)
    _read: dict[Path, int] = field(default_factory=dict)
    _links: list[str] = field(default_factory=list)
    #: What should not have been.
    problems: list[str] = field(default_factory=list)

    def tick(self) -> None:
        """Called with every look at the runs."""
        self._look_for_mail()
        for url in self._links:
            # The web server may be away: then later.
            with contextlib.suppress(httpx.TransportError):
                if url not in self._opened:
                    self._open(url)
                elif url not in self._done and time.monotonic() - self._opened[url] >= READING:
                    self._press(url)

    def _look_for_mail(self) -> None:
        for path in sorted(Path(settings.EMAIL_FILE_PATH).glob("*.log")):
            if (size := path.stat().st_size) != self._read.get(path):
                self._read[path] = size
                for url in _links_in(path):
                    if url not in self._links:
                        self._links.append(url)

    def _open(self, url: str) -> None:
        page = httpx.get(url, timeout=5)
        if page.status_code != 200 or "<form" not in page.text:
            self.problems.append(f"the link's page is answered with {page.status_code}: {url}")
        self._opened[url] = time.monotonic()

    def _press(self, url: str) -> None:
        if url not in self._pressed and _is_answered(url):
            self.problems.append(f"it was enough to open {url}")
        self._pressed.add(url)
        answer = httpx.post(url, data={"confirm": "yes"}, timeout=5)
        # Not to be had: again. Stored already, and the answer was lost: fine.
        if answer.status_code != 503:
            self._done.add(url)
            if answer.status_code not in (202, 409):
                self.problems.append(f"the button is answered with {answer.status_code}: {url}")


@dataclass(kw_only=True)
class Carrier:
    """Its driver comes for the parcels of each run that waits for that."""

    _been: set[str] = field(default_factory=set)

    def tick(self) -> None:
        """Called with every look at the runs."""
        waiting = ship_parcels.runs.filter(steps__step_id="pick-up", steps__status="pending")
        for run in waiting:
            if run.run_id not in self._been:
                self._been.add(run.run_id)
                with contextlib.suppress(RunFinished):  # it was undone meanwhile
                    run.send_event("picked-up", {"driver": "Jo"}, dedup_id="picked-up")


def _is_answered(url: str) -> bool:
    """Whether the run that mailed this link has got its answer."""
    steps = WorkflowStep.objects.all()
    asked = [step.workflow_run_id for step in steps.filter(step_id="ask") if step.result == url]
    waits = steps.filter(workflow_run__in=asked, kind="callback")
    return waits.exclude(status="pending").exists()


def _links_in(path: Path) -> list[str]:
    mails = path.read_bytes().split(BETWEEN)
    read = [email.message_from_bytes(m.strip(), policy=email.policy.default) for m in mails]
    texts = [mail.get_content() for mail in read if mail["To"] == WAREHOUSE]
    return [url for text in texts for url in re.findall(r"https?://\S+", text)]
