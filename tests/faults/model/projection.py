"""What the model and a real journal are compared by."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django_hookflow.core.entries import Entry, Kind, RunStatus
from tests.faults.model.programs import CHILD_FAILED, FAILURE, SLEEP, SUPERSEDED, TIMEOUT
from tests.faults.model.state import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    CONSUMED,
    EXPIRED,
    FAILED,
    FREE,
    HELD,
    LEASE,
    NONE,
    NOW,
    PAUSED,
    PENDING,
    RUNNING,
    SEEN,
    SUSPENDED,
    TIMER,
    UNSEEN,
    UNSET,
    State,
    World,
    is_open,
)

STATUSES = {
    RunStatus.PENDING: PENDING,
    RunStatus.RUNNING: RUNNING,
    RunStatus.SUSPENDED: SUSPENDED,
    RunStatus.CANCELLING: CANCELLING,
    RunStatus.PAUSED: PAUSED,
    RunStatus.COMPLETED: COMPLETED,
    RunStatus.FAILED: FAILED,
    RunStatus.CANCELLED: CANCELLED,
}
#: ``due_at`` is in the future, and neither the timer's time nor the lease's end.
STRANGE = 9


class Projection(NamedTuple):
    """The row, its journal and its mailbox, in the model's words."""

    status: int
    epoch: int
    lease: int
    lease_w: int
    wake_n: int
    owed: bool
    due: int
    signals: int
    waits: bool
    seq: int
    journal: str
    timer_written: bool
    mail: str
    failing: bool
    undos: str


def state_of(world: World, s: State) -> Projection:
    timed = SLEEP if SLEEP in world.program.units else "E"
    recorded = s.journal.replace(TIMEOUT, "E")
    return Projection(
        status=s.status,
        epoch=s.epoch,
        lease=s.lease,
        lease_w=s.lease_w,
        wake_n=s.wake_n,
        owed=s.owed,
        due=s.due,
        signals=s.signals,
        waits=s.waits,
        seq=len(s.journal),
        journal=s.journal,
        timer_written=s.timer != UNSET and timed not in recorded,
        mail="".join(mail for mail in s.mail if mail >= UNSEEN),
        failing=s.failing and is_open(s),
        undos=s.undos,
    )


def row_of(bench: Any, id: UUID, timer_at: datetime) -> Projection:
    run, now = bench.run(id), bench.time
    steps = bench.steps(id)
    return Projection(
        status=STATUSES[run.status],
        epoch=run.epoch,
        lease=FREE if run.lease_until is None else HELD if run.leased(now) else EXPIRED,
        lease_w=run.lease_w,
        wake_n=run.wake_n,
        owed=run.owed_at is not None,
        due=_due(run, now, timer_at),
        signals=run.signals,
        waits=run.waits != (),
        seq=run.seq,
        journal=_journal(steps, bench.superseded(id)),
        timer_written=any(e.ready_at == timer_at for e in steps if not e.is_outcome),
        mail="".join(
            CONSUMED if mail.consumed_by else SEEN if mail.seen else UNSEEN
            for mail in bench.mail(id)
        ),
        failing=run.error is not None and run.finished_at is None,
        undos="".join(e.key[0] for e in steps if e.undo and not e.is_outcome),
    )


def _due(run: Any, now: datetime, timer_at: datetime) -> int:
    if run.due_at is None:
        return NONE
    if run.due_at == run.lease_until:
        return LEASE
    if run.due_at == timer_at:
        return TIMER
    return NOW if run.due_at <= now else STRANGE


def _journal(steps: tuple[Entry, ...], superseded: Collection[tuple[str, int]]) -> str:
    """Outcomes in the order of seq; ``?`` where a number is missing or given twice."""
    outcomes = sorted(
        (e.seq or 0, SUPERSEDED if (e.key, e.series) in superseded else unit_of(e))
        for e in steps
        if e.is_outcome
    )
    return "".join("?" if seq != n else unit for n, (seq, unit) in enumerate(outcomes, start=1))


#: What a unit is that has failed.
FAILED_AS = {Kind.EVENT: TIMEOUT, Kind.CHILD: CHILD_FAILED}


def unit_of(outcome: Entry) -> str:
    if outcome.is_failed:
        return FAILED_AS.get(outcome.kind, FAILURE)
    unit = outcome.key[0]
    return unit.lower() if outcome.kind is Kind.UNDO else unit
