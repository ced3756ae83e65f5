"""How a holder ends its delivery: it suspends the run, gives it back or ends it.

The first statement of each transaction is an UPDATE of a run row: it takes the row's lock,
so that what is read afterwards is current at every isolation level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Union

from django.db.models import F, QuerySet, When

from django_hookflow.core.entries import ACTIVE, TERMINAL, Entry, RunStatus
from django_hookflow.core.transitions import (
    Fail,
    Failing,
    Fence,
    Fenced,
    Finish,
    Finished,
    Release,
    SignalsMoved,
    StaysPaused,
    Suspend,
    Suspended,
)
from django_hookflow.journals.orm_rows import (
    OPEN,
    becomes,
    insert_absent,
    moment,
    number,
    pack_waits,
    read_run,
    runs,
    signal_parent,
    step_row,
    told,
)
from django_hookflow.journals.orm_transactions import RolledBack, Transactions
from django_hookflow.models import Encoded, WorkflowRun


def held_by(tx: Transactions, fence: Fence) -> QuerySet[WorkflowRun]:
    """The active run, if the fence still holds: ``lease_until`` may be past, but not gone."""
    held: QuerySet[WorkflowRun] = runs(tx.alias).filter(
        pk=fence.id, epoch=fence.epoch, status__in=ACTIVE, lease_until__isnull=False
    )
    return held


# --- SUSPEND


def suspend(tx: Transactions, transition: Suspend) -> Union[Suspended, SignalsMoved, StaysPaused]:
    fence = transition.fence
    body = partial(_suspend, tx, transition)
    landed = partial(_suspended_already, tx, fence)
    answer = tx.run("suspend", body, landed=landed, patience=fence.lease)
    if answer is not None:
        return answer
    if tx.run("suspend", partial(_leave_paused, tx, fence, transition)):
        return StaysPaused()
    row = tx.read(lambda: read_run(tx.alias, fence.id, datetime.min))
    held = row is not None and row["epoch"] == fence.epoch and row["lease_until"] is not None
    if row is None or not held or row["status"] not in OPEN:
        raise Fenced
    cancelling = row["status"] == RunStatus.CANCELLING
    return SignalsMoved(seen=row["signals"], cancelling=cancelling)


def _suspend(tx: Transactions, transition: Suspend) -> Union[Suspended, None]:
    now, fence = tx.now(), transition.fence
    held = held_by(tx, fence)
    changed = held.filter(signals=transition.seen).update(
        status=becomes(RunStatus.SUSPENDED),
        lease_until=None,
        waits=pack_waits(transition.waits),
        nudges=0,
        blocked=transition.blocked,
        blocked_n=F("blocked_n") + 1 if transition.blocked else 0,
        **_due(transition.due, now),
        **told(fence),
    )
    if not changed:
        return None
    owed = transition.due is not None
    if transition.pending or not owed:
        row = runs(tx.alias).filter(pk=fence.id).values("generation", "due_at").get()
        owed = row["due_at"] is not None
        _write_pending(tx, fence, row["generation"], transition.pending)
    return Suspended(owed=owed)


def _due(due: Union[datetime, timedelta, None], now: Any) -> dict[str, Any]:
    """The next look, at the latest at the run's deadline, and the wake-up for it."""
    if due is None:
        ends = When(deadline__isnull=False, then=F("wake_n") + 1)
        return {
            "wake_n": number(ends, default=F("wake_n")),
            "owed_at": moment(When(deadline__isnull=False, then=now), default=F("owed_at")),
            "due_at": F("deadline"),
        }
    at = now + due if isinstance(due, timedelta) else due
    return {
        "wake_n": F("wake_n") + 1,
        "owed_at": now,
        "due_at": moment(When(deadline__lt=at, then=F("deadline")), default=at),
    }


def _write_pending(
    tx: Transactions, fence: Fence, generation: int, pending: Sequence[Entry]
) -> None:
    """Rows of waits; one that is there already stays: its time is written once."""
    rows = [
        step_row(
            replace(entry, started_at=entry.started_at or tx.now()),
            run=fence.id,
            generation=generation,
            epoch=fence.epoch,
        )
        for entry in pending
    ]
    insert_absent(tx.alias, rows, "key")


def _leave_paused(tx: Transactions, fence: Fence, suspending: Union[Suspend, None] = None) -> bool:
    """Release the lease of a run that was paused meanwhile; its timers go on.

    What it waits for is only known where it was about to be suspended.
    """
    paused = runs(tx.alias).filter(
        pk=fence.id, epoch=fence.epoch, status=RunStatus.PAUSED.value, lease_until__isnull=False
    )
    waits = {} if suspending is None else {"waits": pack_waits(suspending.waits)}
    if not paused.update(lease_until=None, **waits, **told(fence)):
        return False
    if suspending is not None and suspending.pending:
        generation = runs(tx.alias).values_list("generation", flat=True).get(pk=fence.id)
        _write_pending(tx, fence, generation, suspending.pending)
    return True


def _suspended_already(tx: Transactions, fence: Fence) -> Union[Suspended, None]:
    """Only the holder itself lets go of a lease without raising the epoch."""
    row = read_run(tx.alias, fence.id, datetime.min)
    if row is None or row["epoch"] != fence.epoch or row["lease_until"] is not None:
        return None
    return Suspended(owed=row["owed_at"] is not None)


# --- RELEASE and FINISH


def release(tx: Transactions, transition: Release) -> None:
    fence = transition.fence

    def landed() -> Union[bool, None]:
        return True if _suspended_already(tx, fence) else None

    body = partial(_release, tx, fence)
    while not tx.run("release", body, landed=landed, patience=fence.lease):
        _cancelling(tx, fence)


def _release(tx: Transactions, fence: Fence) -> bool:
    held = held_by(tx, fence)
    given_back = held.update(status=becomes(RunStatus.SUSPENDED), lease_until=None, due_at=tx.now())
    return bool(given_back) or _leave_paused(tx, fence)


def fail(tx: Transactions, transition: Fail) -> Union[Failing, StaysPaused, SignalsMoved]:
    fence = transition.fence

    def landed() -> Union[Failing, None]:
        row = read_run(tx.alias, fence.id, datetime.min)
        failing = row is not None and row["raw_error"] is not None
        return Failing() if failing and row and row["epoch"] == fence.epoch else None

    def body() -> Union[Failing, None]:
        until = tx.now() + fence.lease
        changed = (
            held_by(tx, fence)
            .exclude(status=RunStatus.CANCELLING.value)
            .update(
                error=transition.error,
                lease_until=until,
                due_at=until,
                deadline=None,
                nudges=0,
                blocked="",
                blocked_n=0,
                deaths=0,
                **told(fence),
            )
        )
        return Failing() if changed else None

    while True:
        if (answer := tx.run("fail", body, landed=landed, patience=fence.lease)) is not None:
            return answer
        if tx.run("fail", partial(_leave_paused, tx, fence)):
            return StaysPaused()
        if (cancelling := _cancelling(tx, fence)) is not None:
            return cancelling


def _cancelling(tx: Transactions, fence: Fence) -> Union[SignalsMoved, None]:
    """What a holder that may not end its run is told; raises if it holds it no more.

    ``None``: ask once more. The run was neither active nor paused only because somebody
    resumed it between the two statements that asked.
    """
    row = tx.read(lambda: read_run(tx.alias, fence.id, datetime.min))
    held = row is not None and row["epoch"] == fence.epoch and row["lease_until"] is not None
    if row is None or not held or row["status"] not in OPEN:
        raise Fenced
    if row["status"] != RunStatus.CANCELLING:
        return None
    return SignalsMoved(seen=row["signals"], cancelling=True)


def finish(tx: Transactions, transition: Finish) -> Union[Finished, StaysPaused, SignalsMoved]:
    def landed() -> Union[Finished, None]:
        row = read_run(tx.alias, transition.fence.id, datetime.min)
        ended = row is not None and row["status"] in TERMINAL
        return Finished() if ended and row and row["epoch"] == transition.fence.epoch else None

    body, patience = partial(_finish, tx, transition), transition.fence.lease
    while True:
        if (ended := tx.run("finish", body, landed=landed, patience=patience)) is not None:
            return ended
        if tx.run("finish", partial(_leave_paused, tx, transition.fence)):
            return StaysPaused()
        if (cancelling := _cancelling(tx, transition.fence)) is not None:
            return cancelling


def _finish(tx: Transactions, transition: Finish) -> Union[Finished, None]:
    now, fence = tx.now(), transition.fence
    signal_parent(tx, transition.parent, transition.parent_step)
    held = held_by(tx, fence)
    if transition.status is not RunStatus.CANCELLED:
        held = held.exclude(status=RunStatus.CANCELLING.value)
    changes: dict[str, Any] = {} if transition.error is None else {"error": transition.error}
    if transition.result is not None:
        changes["result"] = Encoded(transition.result)
    ended = held.update(
        status=transition.status.value,
        lease_until=None,
        due_at=None,
        owed_at=None,
        waits="",
        blocked="",
        blocked_n=0,
        finished_at=now,
        **changes,
        **told(fence),
    )
    if not ended:
        raise RolledBack(None)  # the parent's signal too
    return Finished()
