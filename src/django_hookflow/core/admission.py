"""Which row of the answer table a delivery falls into, from one read of the run row.

Rows are numbered as in the protocol, section 4; rows 1 to 4 are the edge's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Union

from django_hookflow.core.entries import TERMINAL, RunStatus
from django_hookflow.core.transitions import RunView

#: A run this close to its time is claimed; the rest is awaited in the delivery.
EARLY = timedelta(seconds=2)
#: For so long an unregistered workflow is taken for a rolling deploy.
DEPLOY_GRACE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownRun:
    """Row 5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Row 6: terminal, or paused."""

    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownWorkflow:
    """Row 7; ``blocked`` is what to write into the row, if it is time to."""

    blocked: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Row 8: the holder's own message came again; ask for it once more after the lease."""

    retry_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """Row 9: held under another wake-up, and the reason for this one is in the row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Early:
    """Row 10: nothing due yet under this very wake-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """Row 11: nothing due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proceed:
    """Row 12: claim it."""


Admission = Union[UnknownRun, Ended, UnknownWorkflow, Busy, Covered, Early, Stale, Proceed]


def admit(run: RunView | None, *, wake: int, registered: bool) -> Admission:
    """Decide from the row alone; ``wake`` is the number in the message."""
    if run is None:
        return UnknownRun()
    if run.status in TERMINAL:
        return Ended(paused=False)
    if run.status is RunStatus.PAUSED:
        # The holder's own message goes on being its dead-man's switch: resumed, the run's new
        # wake-up is covered by the lease that a dead holder has left.
        held = run.leased and wake == run.lease_w
        return _leased(run, wake) if held else Ended(paused=True)
    if not registered:
        return UnknownWorkflow(blocked=_unregistered(run))
    if run.leased:
        return _leased(run, wake)
    if run.due_at is not None and run.due_at <= run.now + EARLY:
        return Proceed()
    if run.due_at is not None and wake == run.wake_n:
        return Early()
    return Stale()


def _unregistered(run: RunView) -> str:
    if run.due_at is None or run.due_at > run.now - DEPLOY_GRACE:
        return ""
    return f"workflow {run.workflow_id!r} is not registered"


def _leased(run: RunView, wake: int) -> Admission:
    if wake != run.lease_w or run.lease_until is None:
        return Covered()
    left = (run.lease_until - run.now).total_seconds()
    return Busy(retry_after=math.ceil(left) + 1)
