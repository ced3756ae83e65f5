"""``cb``: what ``ctx.step.callback`` gives, and which of them a delivery's body has made.

A callback has no row in the journal. All that its URL says follows from what is there: the run,
the pass, the number of the call, and the time of the outcome last handed over. So every replay
makes the same one, without a write before it and without a wait for one. The row is the wait's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from django_hookflow.core.callbacks import MAX_CONFIRM, Ticket
from django_hookflow.core.entries import step_key
from django_hookflow.core.requests import check_text
from django_hookflow.core.showing import show
from django_hookflow.exceptions import WorkflowDefinitionError

#: Makes the public URL of a ticket; signing it needs keys that the engine does not have.
UrlOf = Callable[[Ticket], str]

NO_CONFIRM = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """Somebody's way to answer: give ``url`` away, then wait with ``ctx.step.wait_for_callback``.

    Whoever has the URL can answer, once, until ``expires_at``.
    """

    step_id: str
    #: Not shown, so that no log can answer.
    url: str = field(repr=False)
    expires_at: datetime
    _ticket: Ticket = field(repr=False)

    @property
    def key(self) -> str:
        """``step_id#n``, n counted in the order of calls."""
        return self._ticket.key

    @property
    def mailbox(self) -> str:
        """Where in the run's mailbox the answer comes."""
        return self._ticket.name


class Callbacks:
    """The callbacks that the body of one delivery has made, and those it has waited for."""

    def __init__(self, run: UUID, generation: int, url_of: UrlOf) -> None:
        self._run = run
        self._generation = generation
        self._url_of = url_of
        self._counted: Counter[str] = Counter()
        self._made: dict[str, Callback] = {}
        self._waited: set[str] = set()

    def make(self, step_id: str, expires_at: datetime, confirm: str) -> Callback:
        """The next callback of this step id."""
        self._counted[step_id] += 1
        ticket = Ticket(
            run=self._run,
            generation=self._generation,
            key=step_key(step_id, self._counted[step_id]),
            expires_at=_whole(expires_at),
            confirm=confirm,
        )
        made = Callback(
            step_id=step_id,
            url=self._url_of(ticket),
            expires_at=ticket.expires_at,
            _ticket=ticket,
        )
        self._made[made.key] = made
        return made

    @contextmanager
    def waiting(self, callback: Callback) -> Iterator[None]:
        """While the body waits for its answer: one wait for each, or the second waits for ever.

        A branch that was cancelled has waited for nothing.
        """
        if self._made.get(callback.key) is not callback:
            raise WorkflowDefinitionError(
                f"callback {callback.key!r} is not of this run: it was made by another one, or "
                "kept outside of the workflow's body"
            )
        if callback.key in self._waited:
            raise WorkflowDefinitionError(
                f"callback {callback.key!r} was waited for already, and an answer or a timeout "
                "is final: make another by ctx.step.callback; to remind somebody, wait beside "
                "a sleep (asyncio.wait)"
            )
        self._waited.add(callback.key)
        try:
            yield
        except asyncio.CancelledError:
            self._waited.discard(callback.key)
            raise


def check_callback(callback: Any) -> Callback:
    """Return ``callback``, or raise ``TypeError`` saying what is wanted."""
    if not isinstance(callback, Callback):
        raise TypeError(
            f"wait_for_callback takes what ctx.step.callback returned, not {show(callback)}"
        )
    return callback


def check_confirm(confirm: Any) -> str:
    """Return the question of a confirmation page, empty for none."""
    return NO_CONFIRM if confirm is None else check_text("confirm", confirm, MAX_CONFIRM)


def _whole(time: datetime) -> datetime:
    """In UTC, rounded up to a second: the URL has no room for more."""
    time = time.astimezone(timezone.utc)
    rest = timedelta(microseconds=time.microsecond)
    return time - rest + timedelta(seconds=1) if rest else time
