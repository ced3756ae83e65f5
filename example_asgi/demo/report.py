"""What came out of it: a table, and a judgement that does not rest on the journal alone."""

from __future__ import annotations

import base64
import json
from collections import Counter, defaultdict
from dataclasses import dataclass

import httpx
from django.conf import settings
from orders import ledger
from payments.models import ApiRequest, Charge
from rich.box import SIMPLE_HEAD
from rich.table import Table

from demo.watch import RunNow

DECLINED = "card-declined"
BUSY, LOST = 503, 504
#: More than a demo sends; the server gives so many log entries at once.
MOST_EVENTS = 1000


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Counted where the journal has no say: at QStash, at the provider, in the ledger."""

    messages: Counter[str]
    charges: Counter[str]
    answers: dict[str, list[int]]
    bodies: Counter[tuple[str, str]]


def collect() -> Facts:
    answers: dict[str, list[int]] = defaultdict(list)
    for order, answer in ApiRequest.objects.values_list("order", "answer"):
        answers[order].append(answer)
    return Facts(
        messages=_messages(),
        charges=Counter(Charge.objects.filter(paid=True).values_list("order", flat=True)),
        answers=answers,
        bodies=ledger.bodies(),
    )


def _messages() -> Counter[str]:
    """How many messages were published for each run; a redelivery is no new message."""
    answer = httpx.get(
        f"{settings.QSTASH_URL}/v2/events",
        params={"state": "CREATED", "count": MOST_EVENTS},
        headers={"Authorization": f"Bearer {settings.QSTASH_TOKEN}"},
        timeout=5,
    )
    bodies = [
        base64.b64decode(event["body"]) for event in answer.raise_for_status().json()["events"]
    ]
    return Counter(json.loads(body).get("run", "") for body in bodies)


def table(runs: list[RunNow], facts: Facts) -> Table:
    drawn = Table(title="Results", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("run", no_wrap=True)
    drawn.add_column("workflow", no_wrap=True)
    drawn.add_column("status", overflow="fold")
    for name in ("steps", "attempts", "seconds", "messages", "charged"):
        drawn.add_column(name, justify="right")
    drawn.add_column("payment API")
    for run in runs:
        drawn.add_row(
            run.run_id,
            run.workflow,
            run.status if run.status == (said := _outcome(run)) else f"{run.status} ({said})",
            str(len(run.steps)),
            str(sum(step.attempts for step in run.steps)),
            f"{run.seconds:.1f}",
            str(facts.messages[run.pk]),
            f"{facts.charges[run.order]} x",
            ", ".join(map(str, facts.answers[run.order])),
        )
    return drawn


def _outcome(run: RunNow) -> str:
    return str(run.result.get("status")) if isinstance(run.result, dict) else run.error


def stories(facts: Facts) -> list[str]:
    """What the payment API's bad moments led to, order by order."""
    told = []
    for order, answers in facts.answers.items():
        if LOST in answers:
            told.append(
                f"order {order}: the answer to its charge was lost ({LOST}). The retry went out "
                f"under the same idempotency key: charged {facts.charges[order]} time."
            )
        elif BUSY in answers:
            told.append(f"order {order}: the payment API was busy ({BUSY}), the step was retried.")
    return told


def problems(runs: list[RunNow], facts: Facts) -> list[str]:
    """What is not as it should be; empty if all is well."""
    found = []
    for run in runs:
        expected = "declined" if run.card == DECLINED else "completed"
        if run.status != "completed" or _outcome(run) != expected:
            found.append(f"{run.run_id} should be {expected}, but is {run.status}: {run.error}")
        due = 0 if run.card == DECLINED else 1
        charged = facts.charges[run.order]
        if charged != due:
            found.append(f"order {run.order} was charged {charged} times instead of {due}")
    return found


def repeated(runs: list[RunNow], facts: Facts) -> list[str]:
    """Steps whose body ran more often than the journal knows: for demos without a kill."""
    return [
        f"the body of step {step.name!r} of {run.run_id} ran {times} times, but "
        f"{step.attempts} attempts are recorded"
        for run in runs
        for step in run.steps
        if step.kind != "sleep" and (times := facts.bodies[run.order, step.name]) != step.attempts
    ]
