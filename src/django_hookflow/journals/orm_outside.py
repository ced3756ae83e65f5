"""What comes from outside of a run: signals, events, the end or the retry that somebody asks for.

Event, cancel and retry join a transaction of the caller, so they must not fail in it: an
error of the database would break it on PostgreSQL. Conflicts are found by looking.
"""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any, Union
from uuid import UUID

from django.db.models import F

from django_hookflow.core.entries import TERMINAL, RunStatus, StepStatus
from django_hookflow.core.transitions import (
    STEP,
    Cancel,
    Cancelled,
    NotFailed,
    Over,
    Retried,
    Retry,
    SendEvent,
    Signal,
    Signalled,
)
from django_hookflow.journals.orm_rows import (
    OPEN,
    events,
    insert_absent,
    raw,
    runs,
    signal_columns,
    steps,
)
from django_hookflow.journals.orm_transactions import RolledBack, Transactions
from django_hookflow.models import Encoded, WorkflowEvent, read_error
from django_hookflow.querysets import waiting_for

# --- SIGNAL


def signal(tx: Transactions, transition: Signal) -> Signalled:
    return tx.run("signal", partial(_signal, tx, transition))


def _signal(tx: Transactions, transition: Signal) -> Signalled:
    if not _move_mailbox(tx, transition.id, transition.wait):
        return Signalled(owed=False)
    source, _, name = transition.wait.partition(":")
    if source != STEP:
        unseen = events(tx.alias).filter(
            workflow_run=transition.id, source=source, name=name, seen=False
        )
        # By key: MariaDB's UPDATE over a range waits for rows that others have not committed yet,
        # while this transaction holds the row that every holder needs.
        if ids := list(unseen.values_list("pk", flat=True)):
            events(tx.alias).filter(pk__in=ids).update(seen=True)
    return Signalled(owed=_owes(tx, transition.id))


def _move_mailbox(tx: Transactions, id: UUID, wait: str) -> bool:
    run = runs(tx.alias).filter(pk=id, status__in=OPEN)
    return bool(run.update(**signal_columns(waiting_for(wait), tx.now())))


def _owes(tx: Transactions, id: UUID) -> bool:
    return bool(runs(tx.alias).filter(pk=id, owed_at__isnull=False).exists())


# --- EVENT


def send_event(tx: Transactions, transition: SendEvent) -> Union[Signalled, Over]:
    if not tx.in_transaction():
        # One of its own makes a repeat after an unknown COMMIT harmless.
        dedup_id = transition.dedup_id or f"auto:{uuid.uuid4().hex}"
        body = partial(_event_and_signal, tx, transition, dedup_id)
        return tx.run("event", body)
    answer = tx.run("event", partial(_event_in_transaction, tx, transition), durable=False)
    if isinstance(answer, Signalled):
        later = Signal(id=transition.id, wait=transition.wait)
        tx.connection.on_commit(lambda: _signal_after_commit(tx, later), robust=True)
    return answer


def _event_and_signal(
    tx: Transactions, transition: SendEvent, dedup_id: str
) -> Union[Signalled, Over]:
    if not _move_mailbox(tx, transition.id, transition.wait):
        raise RolledBack(Over(status=status_of(tx, transition.id)))
    if transition.dedup_id is not None and _sent_before(tx, transition):
        raise RolledBack(Signalled(owed=False))
    _insert_event(tx, transition, dedup_id, seen=True)
    return Signalled(owed=_owes(tx, transition.id))


def _event_in_transaction(tx: Transactions, transition: SendEvent) -> Union[Signalled, Over]:
    status = status_of(tx, transition.id)
    if status is None or status in TERMINAL:
        return Over(status=status)
    _insert_event(tx, transition, transition.dedup_id, seen=False)
    return Signalled(owed=True)


def _signal_after_commit(tx: Transactions, transition: Signal) -> None:
    """The event is stored: whatever happens here, the sweeper signals for unseen ones."""
    signal(tx, transition)


def _sent_before(tx: Transactions, transition: SendEvent) -> bool:
    sent = events(tx.alias).filter(
        workflow_run=transition.id, source=transition.source, dedup_id=transition.dedup_id
    )
    return bool(sent.exists())


def _insert_event(
    tx: Transactions, transition: SendEvent, dedup_id: Union[str, None], *, seen: bool
) -> None:
    row = WorkflowEvent(
        workflow_run_id=transition.id,
        source=transition.source,
        name=transition.name,
        payload=Encoded(transition.payload),
        dedup_id=dedup_id,
        seen=seen,
        created_at=tx.now(),
    )
    insert_absent(tx.alias, [row], "dedup_id")


def status_of(tx: Transactions, id: UUID) -> Union[RunStatus, None]:
    status = runs(tx.alias).filter(pk=id).values_list("status", flat=True).first()
    return None if status is None else RunStatus(status)


# --- CANCEL


def cancel(tx: Transactions, transition: Cancel) -> Union[Cancelled, Over]:
    def landed() -> Union[Cancelled, None]:
        status = status_of(tx, transition.id)
        return Cancelled() if status is RunStatus.CANCELLED else None

    body = partial(_cancel, tx, transition)
    return tx.run("cancel", body, durable=False, landed=landed)


def _cancel(tx: Transactions, transition: Cancel) -> Union[Cancelled, Over]:
    ended: dict[str, Any] = {
        "epoch": F("epoch") + 1,
        "status": RunStatus.CANCELLED.value,
        "lease_until": None,
        "due_at": None,
        "owed_at": None,
        "waits": "",
        "blocked": "",
        "blocked_n": 0,
        "finished_at": tx.now(),
    }
    if runs(tx.alias).filter(pk=transition.id, status__in=OPEN).update(**ended):
        return Cancelled()
    return Over(status=status_of(tx, transition.id))


# --- RETRY


def retry(tx: Transactions, transition: Retry) -> Union[Retried, NotFailed]:
    def landed() -> Union[Retried, None]:
        # Nothing else re-opens a failed run.
        return None if status_of(tx, transition.id) is RunStatus.FAILED else Retried()

    return tx.run("retry", partial(_retry, tx, transition), durable=False, landed=landed)


def _retry(tx: Transactions, transition: Retry) -> Union[Retried, NotFailed]:
    now, run = tx.now(), runs(tx.alias).filter(pk=transition.id)
    reopened: dict[str, Any] = {
        "epoch": F("epoch") + 1,
        "status": RunStatus.SUSPENDED.value,
        "deaths": 0,
        "due_at": now,
        "wake_n": F("wake_n") + 1,
        "owed_at": now,
        "finished_at": None,
    }
    if not run.filter(status=RunStatus.FAILED.value).update(**reopened):
        return NotFailed(status=status_of(tx, transition.id))
    # The error says what to repeat, so it goes in a statement of its own.
    generation, error = run.annotate(text=raw("error")).values_list("generation", "text").get()
    uncaught = read_error(error).uncaught if error else ()
    failed = steps(tx.alias).filter(
        workflow_run=transition.id, generation=generation, status=StepStatus.FAILED.value
    )
    failed.filter(key__in=uncaught).update(superseded=True)
    run.update(error=None)
    return Retried()
