"""Runs in words: how long, when, and in one sentence why a run waits or how it ended.

The command and the admin say the same. It reads nothing: what it tells of is given to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from django_hookflow.core.entries import ACTIVE, Kind, RunStatus
from django_hookflow.models import LOST, WorkflowRun, WorkflowStep

__all__ = ["cause", "label", "length", "moment", "next_wake", "why"]

#: The sweeper takes a run for overdue after so long.
OVERDUE = timedelta(seconds=30)

#: What goes on for a paused run.
_KEPT = (Kind.SLEEP, Kind.EVENT)

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def length(time: timedelta) -> str:
    """Two units at most: ``0.12s``, ``4.2s``, ``1m 5s``, ``3d 4h``."""
    seconds = max(0.0, time.total_seconds())
    if seconds < 9.95:
        return f"{seconds:.2f}s" if seconds < 0.995 else f"{seconds:.1f}s"
    whole = round(seconds)
    at = next(n for n, (size, _) in enumerate(_UNITS) if whole >= size)
    size, unit = _UNITS[at]
    text = f"{whole // size}{unit}"
    if at + 1 < len(_UNITS) and (rest := whole % size // _UNITS[at + 1][0]):
        text += f" {rest}{_UNITS[at + 1][1]}"
    return text


def moment(time: datetime | None) -> str:
    """In the project's time zone, to the second."""
    return "-" if time is None else timezone.localtime(time).strftime("%Y-%m-%d %H:%M:%S")


def _when(time: datetime, now: datetime) -> str:
    distance = f"in {length(time - now)}" if time >= now else f"{length(now - time)} ago"
    return f"{moment(time)} ({distance})"


def label(step: WorkflowStep) -> str:
    """The step's id, numbered from its second request on."""
    return step.step_id if step.occurrence == 1 else f"{step.step_id}#{step.occurrence}"


def next_wake(run: WorkflowRun) -> datetime | None:
    """When the run goes on by itself, if it waits for a time."""
    waits = run.status in ACTIVE and run.status_now != RunStatus.RUNNING
    return run.due_at if waits else None


def why(run: WorkflowRun, pending: Sequence[WorkflowStep], now: datetime) -> str:
    """One sentence: why the run waits, what it does, or how it ended."""
    if run.status in ACTIVE and run.blocked:
        return f"is blocked: {run.blocked}{_looked_at(run, now)}"
    match run.status_now:
        case RunStatus.COMPLETED:
            return f"completed{_took(run)}"
        case RunStatus.FAILED:
            return f"failed{_took(run)}{_failure(run)}"
        case RunStatus.CANCELLED:
            return f"was cancelled{_took(run)}"
        case RunStatus.PAUSED:
            return f"is paused until somebody calls resume(){_meanwhile(run, pending, now)}"
        case RunStatus.RUNNING:
            return "is executing"
        case str(status) if status == LOST:
            return f"its process went silent at {moment(run.lease_until)}{_unsent(run, now)}"
        case _:
            return f"{_waits(run, pending, now)}{_unsent(run, now)}"


def _meanwhile(run: WorkflowRun, pending: Sequence[WorkflowStep], now: datetime) -> str:
    """What a paused run would wait for anyway, or what its holder still executes."""
    if run.lease_until is not None and run.lease_until >= now:
        return "; a step that was executing may still be recorded"
    waits = [_pending(step, now) for step in pending[:3] if step.kind in _KEPT]
    return f"; it {', '.join(waits)}" if waits else ""


def _looked_at(run: WorkflowRun, now: datetime) -> str:
    return f"; looked at again at {_when(run.due_at, now)}" if run.due_at else ""


def _took(run: WorkflowRun) -> str:
    if run.finished_at is None:
        return ""
    return f" after {length(run.finished_at - (run.started_at or run.created_at))}"


def cause(error: Mapping[str, Any]) -> str:
    """An error as a traceback's last line has it, but without the module."""
    kind = str(error["type"]).rpartition(".")[2]
    return f"{kind}: {error['message']}" if kind else str(error["message"])


def _failure(run: WorkflowRun) -> str:
    if not run.error:
        return ""
    step = f' at step "{run.error["step"]}"' if run.error["step"] else ""
    return f"{step}: {cause(run.error)}"


def _waits(run: WorkflowRun, pending: Sequence[WorkflowStep], now: datetime) -> str:
    if run.status == RunStatus.CANCELLING:
        return "is being cancelled"
    if pending:
        shown = [_pending(step, now) for step in pending[:3]]
        more = f" and {len(pending) - 3} more" if len(pending) > 3 else ""
        return "; ".join(shown) + more
    if run.due_at is not None and run.due_at > now:
        return f"goes on at {_when(run.due_at, now)}"
    begun = "next" if run.started_at else "first"
    return f"waits for its {begun} delivery since {length(now - (run.due_at or run.created_at))}"


def _pending(step: WorkflowStep, now: datetime) -> str:
    until = "" if step.wake_at is None else f" until {_when(step.wake_at, now)}"
    name = f'"{label(step)}"'
    if step.kind == Kind.SLEEP:
        return f"sleeps in {name}{until}"
    if step.kind == Kind.EVENT:
        return f'waits in {name} for event "{step.event}"{until}'
    if step.kind == Kind.CALLBACK:
        return f"waits for an answer to callback {name}{until}"
    if step.attempts and step.wake_at is not None:
        told = f": {cause(step.error)}" if step.error else ""
        again = _when(step.wake_at, now)
        return f"tries {name} again at {again} after {step.attempts} failed attempt(s){told}"
    return f"waits for {step.kind} {name}{until}"


def _unsent(run: WorkflowRun, now: datetime) -> str:
    """What stands between an active run and its next delivery, if something does."""
    if run.owed_at is not None and now - run.owed_at > timedelta(seconds=2):
        return f"; its wake-up is not sent yet, owed for {length(now - run.owed_at)}"
    if run.due_at is not None and now - run.due_at > OVERDUE:
        nudged = f", sent again {run.nudges} time(s)" if run.nudges else ""
        return f"; overdue by {length(now - run.due_at)}{nudged}"
    return ""
