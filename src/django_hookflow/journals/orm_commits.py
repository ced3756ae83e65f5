"""COMMIT: the fence, the number of the outcome and the journal row in one transaction.

Exactly three statements: UPDATE of the run (fence, seq, lease), SELECT of what it made of the
row together with the step's pending row, INSERT or UPDATE of the step row.

A few lines longer than the habit: one function for each kind of commit, to be read together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Union
from uuid import UUID

from django.db import IntegrityError
from django.db.models import F, FilteredRelation, Q, Value, When

from django_hookflow.core.entries import Entry, RunStatus, StepStatus
from django_hookflow.core.transitions import (
    Atomic,
    Attempted,
    Begin,
    Collect,
    Commit,
    Committed,
    Fence,
    Fenced,
    Fire,
    Invoke,
    NotYet,
    Receive,
    Record,
    Stopped,
    Triggered,
)
from django_hookflow.exceptions import WorkflowDefinitionError
from django_hookflow.journals.collecting import collected
from django_hookflow.journals.orm_aliases import writes_only_to
from django_hookflow.journals.orm_rows import (
    OPEN,
    events,
    moment,
    outcome_columns,
    raw,
    read_entries,
    read_run,
    run_view,
    runs,
    step_row,
    steps,
    told,
)
from django_hookflow.journals.orm_starts import start
from django_hookflow.journals.orm_transactions import RolledBack, Transactions
from django_hookflow.models import WorkflowStep


@dataclass(frozen=True, slots=True)
class _Held:
    """What the fence's SELECT read back."""

    seq: int
    now: datetime
    status: RunStatus
    generation: int
    signals: int
    pending: Union[int, None]
    wake_at: Union[datetime, None]
    started_at: Union[datetime, None]
    child: Union[UUID, None]
    undo: Union[str, None]


def commit(tx: Transactions, transition: Commit) -> Union[Committed, NotYet]:
    name = type(transition).__name__.lower()
    landed = partial(_written, tx, transition)
    if isinstance(transition, Atomic):
        work = _Work(transition)
        try:
            return tx.run(
                name,
                partial(work.apply, tx),
                landed=landed,
                foreign=work.raised,
                patience=transition.fence.lease,
            )
        except Stopped:
            raise
        except Fenced:
            if _still_held(tx, transition.fence):
                raise WorkflowDefinitionError(
                    "an atomic step ended or took over its own run: its record and that cannot "
                    "both commit; cancel the run by ctx.step.run"
                ) from None
            raise
    bodies: dict[type, Any] = {
        Record: _record,
        Attempted: _attempted,
        Fire: _fire,
        Receive: _receive,
        Begin: _begin,
        Invoke: _invoke,
        Collect: _collect,
    }
    body = partial(bodies[type(transition)], tx, transition)
    answer: Union[Committed, NotYet] = tx.run(
        name, body, landed=landed, patience=transition.fence.lease
    )
    return answer


# --- the fence


#: A run that is being cancelled records what executes, and begins nothing.
GOING = tuple(status for status in OPEN if status is not RunStatus.CANCELLING)
#: Nor does a paused one, but what it waits for still comes to its end.
BEGINNING = tuple(status for status in GOING if status is not RunStatus.PAUSED)


def _pass_fence(
    tx: Transactions,
    fence: Fence,
    entry: Entry,
    *,
    outcomes: int,
    when: Sequence[RunStatus] = GOING,
) -> _Held:
    """Take the row lock, give the outcome its number and renew the lease."""
    until = tx.now() + fence.lease
    ours = runs(tx.alias).filter(pk=fence.id, epoch=fence.epoch, lease_until__isnull=False)
    held = ours.filter(status__in=when)
    changes: dict[str, Any] = {"seq": F("seq") + outcomes, "deaths": 0} if outcomes else {}
    paused = When(status=RunStatus.PAUSED.value, then=Value(None))
    if not held.update(
        lease_until=until,
        due_at=moment(paused, default=until),
        nudges=0,
        blocked="",
        blocked_n=0,
        **changes,
        **told(fence),
    ):
        # Still held: it was stopped, if only until a moment ago.
        if when is not OPEN and ours.filter(status__in=OPEN).exists():
            raise Stopped
        raise Fenced
    return _read_back(tx, fence, entry)


def _still_held(tx: Transactions, fence: Fence) -> bool:
    """Whether the fence holds once more: what broke it was rolled back with the transaction."""
    held = runs(tx.alias).filter(
        pk=fence.id, epoch=fence.epoch, status__in=OPEN, lease_until__isnull=False
    )
    return bool(tx.read(held.exists))


def _read_back(tx: Transactions, fence: Fence, entry: Entry) -> _Held:
    same = Q(
        steps__generation=F("generation"), steps__key=entry.key, steps__series=entry.series
    ) & Q(steps__status=StepStatus.PENDING.value)
    query = runs(tx.alias).annotate(pending=FilteredRelation("steps", condition=same))
    columns = ("seq", "lease_until", "status", "generation", "signals")
    joined = ("id", "wake_at", "started_at", "child", "undo")
    row = query.values_list(*columns, *(f"pending__{name}" for name in joined)).get(pk=fence.id)
    seq, lease_until, status, *rest = row
    return _Held(seq, lease_until - fence.lease, RunStatus(status), *rest)


def _write(tx: Transactions, fence: Fence, held: _Held, entry: Entry) -> int:
    """Write the step row and return its key; an outcome that is there already fences."""
    if held.pending is not None:
        changed = steps(tx.alias).filter(pk=held.pending, status=StepStatus.PENDING.value)
        if not changed.update(epoch=fence.epoch, **outcome_columns(entry)):
            raise Fenced("another holder recorded this step")
        return held.pending
    row = step_row(entry, run=fence.id, generation=held.generation, epoch=fence.epoch)
    try:
        # Not create(): the projects' own signal receivers have no business in here.
        WorkflowStep._base_manager.using(tx.alias).bulk_create([row])
    except IntegrityError as error:
        raise Fenced("another holder recorded this step") from error
    return row.pk or _key_of(tx, row)


def _key_of(tx: Transactions, row: WorkflowStep) -> int:
    """The key that MySQL, and SQLite before 3.35, do not return from an INSERT of rows."""
    same = {name: getattr(row, name) for name in ("generation", "key", "series")}
    mine = steps(tx.alias).filter(workflow_run=row.workflow_run_id, **same)
    return int(mine.values_list("pk", flat=True).get())


def _outcome(tx: Transactions, fence: Fence, held: _Held, entry: Entry) -> tuple[Committed, int]:
    done = replace(
        entry, seq=held.seq, finished_at=held.now, started_at=entry.started_at or held.now
    )
    pk = _write(tx, fence, held, done)
    return _committed(held, done), pk


def _committed(held: _Held, entry: Entry) -> Committed:
    return Committed(entry=entry, now=held.now, status=held.status, signals=held.signals)


def _as_asked(held: _Held, entry: Entry) -> Entry:
    """A wait whose row is there keeps the times that the row says."""
    if held.pending is None:
        return entry
    return replace(
        entry,
        ready_at=held.wake_at,
        started_at=held.started_at,
        child=held.child,
        undo=held.undo or "",
    )


# --- one per transition


def _record(tx: Transactions, transition: Record) -> Committed:
    fence, entry = transition.fence, transition.entry
    held = _pass_fence(tx, fence, entry, outcomes=1, when=OPEN)
    return _outcome(tx, fence, held, entry)[0]


def _attempted(tx: Transactions, transition: Attempted) -> Committed:
    fence, entry = transition.fence, transition.entry
    held = _pass_fence(tx, fence, entry, outcomes=0, when=OPEN)
    entry = replace(
        entry,
        status=StepStatus.PENDING,
        seq=None,
        ready_at=held.now + transition.retry_in,
        started_at=entry.started_at or held.now,
        finished_at=None,
    )
    _write(tx, fence, held, entry)
    return _committed(held, entry)


def _fire(tx: Transactions, transition: Fire) -> Committed:
    fence, entry = transition.fence, transition.entry
    held = _pass_fence(tx, fence, entry, outcomes=1)
    entry = _as_asked(held, entry)
    if entry.ready_at is not None and entry.ready_at > held.now:
        raise RolledBack(NotYet(now=held.now))
    return _outcome(tx, fence, held, replace(entry, status=StepStatus.COMPLETED))[0]


def _receive(tx: Transactions, transition: Receive) -> Committed:
    fence, entry = transition.fence, transition.entry
    held = _pass_fence(tx, fence, entry, outcomes=1)
    if transition.after not in (None, held.seq - 1):
        raise RolledBack(NotYet(now=held.now, moved=True))
    entry = _as_asked(held, entry)
    named = {"source": transition.source, "name": entry.event}
    mailbox = events(tx.alias).filter(workflow_run=fence.id, **named)
    oldest = mailbox.filter(consumed_by__isnull=True).annotate(text=raw("payload"))
    event = oldest.order_by("pk").values_list("pk", "text").first()
    if event is None:
        if entry.ready_at is None or entry.ready_at > held.now:
            raise RolledBack(NotYet(now=held.now))
        late = replace(entry, status=StepStatus.FAILED, error=transition.timeout_error)
        return _outcome(tx, fence, held, late)[0]
    taken = replace(entry, status=StepStatus.COMPLETED, value=event[1])
    committed, pk = _outcome(tx, fence, held, taken)
    events(tx.alias).filter(pk=event[0]).update(consumed_by=pk, seen=True)
    return committed


def _begin(tx: Transactions, transition: Begin) -> Committed:
    fence, entry = transition.fence, transition.entry
    held = _pass_fence(tx, fence, entry, outcomes=0, when=BEGINNING)
    entry = replace(entry, started_at=entry.started_at or held.now)
    _write(tx, fence, held, entry)
    return _committed(held, entry)


def _invoke(tx: Transactions, transition: Invoke) -> Committed:
    fence, entry = transition.fence, transition.entry
    held = _pass_fence(tx, fence, entry, outcomes=0, when=BEGINNING)
    entry = _as_asked(held, replace(entry, started_at=entry.started_at or held.now))
    if held.pending is not None:
        return _committed(held, entry)
    stored = start(tx, transition.child)
    if isinstance(stored, Triggered) and (stored.created or _is_ours(tx, transition, stored.id)):
        if not stored.created:
            # It may be over already, and its end has told nobody.
            runs(tx.alias).filter(pk=fence.id).update(signals=F("signals") + 1)
            held = replace(held, signals=held.signals + 1)
        entry = replace(entry, child=stored.id)
        _write(tx, fence, held, entry)
        return _committed(held, entry)
    runs(tx.alias).filter(pk=fence.id).update(seq=F("seq") + 1, deaths=0)
    taken = replace(entry, status=StepStatus.FAILED, error=transition.conflict)
    return _outcome(tx, fence, replace(held, seq=held.seq + 1), taken)[0]


def _is_ours(tx: Transactions, transition: Invoke, child: UUID) -> bool:
    mine = {"parent": transition.fence.id, "parent_step": transition.entry.key}
    return bool(runs(tx.alias).filter(pk=child, **mine).exists())


def _collect(tx: Transactions, transition: Collect) -> Committed:
    fence = transition.fence
    held = _pass_fence(tx, fence, transition.entry, outcomes=1)
    entry = _as_asked(held, transition.entry)
    if entry.child is None:
        raise Fenced("another holder recorded this step")
    child = read_run(tx.alias, entry.child, held.now)
    result = runs(tx.alias).filter(pk=entry.child).annotate(text=raw("result"))
    text = result.values_list("text", flat=True).first()
    done = collected(entry, None if child is None else run_view(child), text)
    if done is None:
        raise RolledBack(NotYet(now=held.now))
    return _outcome(tx, fence, held, done)[0]


class _Work:
    """A user's function in the transaction; remembers what it raised itself."""

    def __init__(self, transition: Atomic) -> None:
        self._transition = transition
        self._error: Union[BaseException, None] = None

    def apply(self, tx: Transactions) -> Committed:
        """The user's writes first: the run row is then locked for milliseconds only."""
        fence, entry = self._transition.fence, self._transition.entry
        try:
            with writes_only_to(tx.alias):
                value = self._transition.work()
        except BaseException as error:
            self._error = error
            raise
        entry = replace(entry, status=StepStatus.COMPLETED, value=value)
        held = _pass_fence(tx, fence, entry, outcomes=1)
        return _outcome(tx, fence, held, entry)[0]

    def raised(self, error: BaseException) -> bool:
        """Whether the error is the user's own."""
        return error is self._error


# --- after a COMMIT whose answer was lost


def _written(tx: Transactions, transition: Commit) -> Union[Committed, None]:
    """The step row of this very transition, if it is there: only its holder has the epoch."""
    fence, entry = transition.fence, transition.entry
    row = runs(tx.alias).filter(pk=fence.id).values_list("generation", "status").first()
    if row is None:
        return None
    mine = steps(tx.alias).filter(
        workflow_run=fence.id, generation=row[0], key=entry.key, series=entry.series
    )
    for found in read_entries(mine.filter(epoch=fence.epoch, attempts=entry.attempt)):
        may_be_either = isinstance(transition, Invoke)
        if may_be_either or found.is_outcome != isinstance(transition, (Attempted, Begin)):
            started = found.finished_at or found.started_at
            assert started is not None, "every row has times"
            return Committed(entry=found, now=started, status=RunStatus(row[1]))
    return None
