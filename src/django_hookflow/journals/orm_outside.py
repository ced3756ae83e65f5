"""What comes from outside of a run: signals, events, the end that somebody asks for.

Event, cancel and retry (``orm_retries``) join a transaction of the caller, so they must not fail
in it: an error of the database would break it on PostgreSQL. Conflicts are found by looking.
"""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any, Union
from uuid import UUID

from django.db.models import Exists, F, OuterRef, Q, When

from django_hookflow.core.entries import (
    TERMINAL,
    Kind,
    RunStatus,
    StepStatus,
)
from django_hookflow.core.transitions import (
    STEP,
    Cancel,
    Cancelled,
    Over,
    SendEvent,
    Signal,
    Signalled,
)
from django_hookflow.journals.orm_rows import (
    OPEN,
    events,
    insert_absent,
    moment,
    number,
    raw,
    runs,
    signal_columns,
    signal_parent,
    steps,
)
from django_hookflow.journals.orm_transactions import RolledBack, Transactions
from django_hookflow.models import Encoded, WorkflowEvent
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
        return tx.run("event", body, landed=partial(_answer_landed, tx, transition))
    answer = tx.run("event", partial(_event_in_transaction, tx, transition), durable=False)
    if isinstance(answer, Signalled) and answer.stored:
        later = Signal(id=transition.id, wait=transition.wait)
        tx.connection.on_commit(lambda: _signal_after_commit(tx, later), robust=True)
    return answer


def _event_and_signal(
    tx: Transactions, transition: SendEvent, dedup_id: str
) -> Union[Signalled, Over]:
    if not _move_mailbox(tx, transition.id, transition.wait):
        raise RolledBack(Over(status=status_of(tx, transition.id)))
    if _sent_before(tx, transition) or _too_late(tx, transition):
        raise RolledBack(Signalled(owed=False, stored=False))
    _insert_event(tx, transition, dedup_id, seen=True)
    return Signalled(owed=_owes(tx, transition.id))


def _event_in_transaction(tx: Transactions, transition: SendEvent) -> Union[Signalled, Over]:
    if transition.generation is not None:
        # Answers are told apart by the run's row; whoever answers inside a transaction holds it.
        runs(tx.alias).select_for_update().filter(pk=transition.id).values_list("pk").first()
    status = status_of(tx, transition.id)
    if status is None or status in TERMINAL:
        return Over(status=status)
    if transition.generation is not None and (
        _sent_before(tx, transition) or _too_late(tx, transition)
    ):
        return Signalled(owed=False, stored=False)
    _insert_event(tx, transition, transition.dedup_id, seen=False)
    return Signalled(owed=True)


def _signal_after_commit(tx: Transactions, transition: Signal) -> None:
    """The event is stored: whatever happens here, the sweeper signals for unseen ones."""
    signal(tx, transition)


def _answer_landed(tx: Transactions, transition: SendEvent) -> Union[Signalled, None]:
    """After a COMMIT of unknown outcome: whoever answered must not hear that it was another.

    Only by chance did another one answer the same meanwhile.
    """
    if transition.generation is None:
        return None
    mine = events(tx.alias).filter(
        workflow_run=transition.id, source=transition.source, dedup_id=transition.dedup_id
    )
    found = mine.annotate(text=raw("payload")).values_list("text", flat=True).first()
    if found != transition.payload:
        return None
    return Signalled(owed=_owes(tx, transition.id))


def _too_late(tx: Transactions, transition: SendEvent) -> bool:
    """Whether this is an answer to what is decided, of another pass, or never asked again.

    A cancelled run's body is not run again; a failing one may be retried. The run's row is
    locked: no wait can end meanwhile.
    """
    if transition.generation is None:
        return False
    current = runs(tx.alias).filter(pk=transition.id, generation=transition.generation)
    asking = current.exclude(status=RunStatus.CANCELLING.value)
    decided = steps(tx.alias).filter(
        workflow_run=transition.id,
        generation=transition.generation,
        kind=Kind.CALLBACK.value,
        event=transition.name,
        superseded=False,
    )
    ended = decided.exclude(status=StepStatus.PENDING.value)
    return not asking.exists() or bool(ended.exists())


def _sent_before(tx: Transactions, transition: SendEvent) -> bool:
    if transition.dedup_id is None:
        return False
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
        if status is RunStatus.CANCELLED:
            return Cancelled()
        return Cancelled(owed=True) if status is RunStatus.CANCELLING else None

    # Before, because the first statement of a transaction takes the row lock; it never changes.
    body = partial(_cancel, tx, transition, parent_of(tx, transition.id))
    return tx.run("cancel", body, durable=False, landed=landed)


def parent_of(tx: Transactions, id: UUID) -> tuple[Union[UUID, None], str]:
    columns = runs(tx.alias).filter(pk=id).values_list("parent_id", "parent_step")
    row = columns.first() if tx.in_transaction() else tx.read(columns.first)
    return row or (None, "")


def _cancel(
    tx: Transactions, transition: Cancel, parent: tuple[Union[UUID, None], str]
) -> Union[Cancelled, Over]:
    run = runs(tx.alias).filter(pk=transition.id)
    if parent[0] is not None:
        # Locked before the child, as everywhere; told only if this ends the child.
        runs(tx.alias).filter(pk=parent[0]).update(deaths=F("deaths"))
    if transition.compensate:
        wound_up = _wind_up(tx, transition.id)
        if wound_up is not None:
            return wound_up
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
    if run.filter(status__in=OPEN).update(**ended):
        signal_parent(tx, *parent)
        return Cancelled()
    return Over(status=status_of(tx, transition.id))


def _wind_up(tx: Transactions, id: UUID) -> Union[Cancelled, None]:
    """Leave the run to its compensations, if there are some; they are read under its lock."""
    now, run = tx.now(), runs(tx.alias).filter(pk=id)
    if not run.filter(status__in=OPEN).update(deaths=F("deaths")):
        return None
    undos = steps(tx.alias).filter(
        workflow_run=OuterRef("pk"), generation=OuterRef("generation"), superseded=False
    )
    going = Q(status=RunStatus.CANCELLING.value)
    if not run.filter(going | Exists(undos.exclude(undo=""))).exists():
        return None
    leased = Q(lease_until__isnull=False, lease_until__gte=now)
    run.exclude(status=RunStatus.CANCELLING.value).update(
        status=RunStatus.CANCELLING.value,
        signals=F("signals") + 1,
        deadline=None,
        waits="",
        blocked="",
        blocked_n=0,
        deaths=0,
        wake_n=number(When(leased, then=F("wake_n")), default=F("wake_n") + 1),
        owed_at=moment(When(leased, then=F("owed_at")), default=now),
        due_at=moment(When(leased, then=F("lease_until")), default=now),
    )
    return Cancelled(owed=_owes(tx, id))
