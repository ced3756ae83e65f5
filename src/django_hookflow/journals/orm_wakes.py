"""Wake-ups that a row owes, rows that are overdue, leases that are renewed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial, reduce
from operator import or_
from typing import Any, Union
from uuid import UUID

from django.db.models import F, Min, Q, Value, When

from django_hookflow.core.entries import ACTIVE, DONE_WITH_CHILDREN, RunStatus
from django_hookflow.core.transitions import Beat, Owed, Rearm, Signal, wait_for
from django_hookflow.journals.orm_outside import signal
from django_hookflow.journals.orm_rows import OPEN, events, insert_absent, moment, runs
from django_hookflow.journals.orm_transactions import Moment, Transactions
from django_hookflow.models import HookflowMark

FIRST_NUDGE = timedelta(seconds=30)
LAST_NUDGE = timedelta(hours=1)


def owed(tx: Transactions, id: UUID) -> Union[Owed, None]:
    return next(iter(owed_many(tx, [id])), None)


def owed_many(tx: Transactions, ids: Sequence[UUID]) -> Sequence[Owed]:
    return tx.read(partial(_owed, tx, ids))


def _owed(tx: Transactions, ids: Sequence[UUID]) -> list[Owed]:
    now = tx.now()
    owing = runs(tx.alias).filter(pk__in=ids, owed_at__isnull=False)
    columns = ("pk", "wake_n", "owed_at", "due_at")
    if isinstance(now, datetime):
        rows = [(*row, now) for row in owing.values_list(*columns)]
    else:
        rows = list(owing.annotate(now=now).values_list(*columns, "now"))
    return [
        Owed(
            run=id,
            number=number,
            owed_at=owed_at,
            delay=timedelta(0) if due_at is None else max(timedelta(0), due_at - now),
        )
        for id, number, owed_at, due_at, now in rows
    ]


def published(tx: Transactions, wakes: Mapping[UUID, int]) -> None:
    if not wakes:
        return
    accepted = reduce(or_, (Q(pk=id, wake_n=number) for id, number in wakes.items()))
    sent = runs(tx.alias).filter(accepted)
    tx.run("published", lambda: sent.update(owed_at=None))


def rearm(tx: Transactions, transition: Rearm) -> bool:
    """``due_at`` may have come meanwhile: then the new wake-up is simply for now."""

    def landed() -> Union[bool, None]:
        new = runs(tx.alias).filter(pk=transition.id, wake_n=transition.wake + 1)
        return new.filter(owed_at__isnull=False).exists() or None

    return bool(tx.run("rearm", partial(_rearm, tx, transition), landed=landed))


def _rearm(tx: Transactions, transition: Rearm) -> bool:
    now = tx.now()
    waiting = runs(tx.alias).filter(
        Q(lease_until__isnull=True) | Q(lease_until__lt=now),
        pk=transition.id,
        status__in=ACTIVE,
        wake_n=transition.wake,
        due_at__isnull=False,
    )
    return bool(waiting.update(wake_n=F("wake_n") + 1, owed_at=now))


def note_blocked(tx: Transactions, id: UUID, reason: str) -> None:
    run = runs(tx.alias).filter(pk=id, status__in=OPEN)
    tx.read(lambda: run.update(blocked=reason))


# --- the sweeper


def find_owed(tx: Transactions, older_than: timedelta, limit: int) -> Sequence[UUID]:
    def query() -> list[UUID]:
        late = runs(tx.alias).filter(owed_at__lt=tx.now() - older_than)
        return list(late.order_by("owed_at").values_list("pk", flat=True)[:limit])

    return tx.read(query)


def find_due(
    tx: Transactions, limit: int, of: Union[Sequence[tuple[str, str]], None]
) -> Sequence[tuple[UUID, int]]:
    def query() -> list[tuple[UUID, int]]:
        now = tx.now()
        due = runs(tx.alias).filter(
            Q(lease_until__isnull=True) | Q(lease_until__lt=now),
            status__in=ACTIVE,
            due_at__lte=now,
        )
        if of is not None:
            due = due.filter(_one_of(of))
        return list(due.order_by("due_at").values_list("pk", "wake_n")[:limit])

    return tx.read(query)


def _one_of(identities: Sequence[tuple[str, str]]) -> Q:
    """A list for each version: SQLite takes no deeper tree than 1,000 ORs."""
    ids: dict[str, list[str]] = {}
    for workflow_id, version in identities:
        ids.setdefault(version, []).append(workflow_id)
    each = (Q(version=version, workflow_id__in=known) for version, known in ids.items())
    return reduce(or_, each, Q(pk__in=[]))


def nudge(tx: Transactions, overdue: timedelta, limit: int) -> Sequence[UUID]:
    found = tx.read(partial(_overdue, tx, overdue, limit))
    return [row[0] for row in found if tx.run("nudge", partial(_nudge, tx, *row))]


def _overdue(tx: Transactions, overdue: timedelta, limit: int) -> list[Any]:
    now = tx.now()
    late = runs(tx.alias).filter(
        Q(nudged_at__isnull=True) | _nudged_long_ago(now),
        status__in=ACTIVE,
        due_at__lt=now - overdue,
        owed_at__isnull=True,
    )
    return list(late.order_by("due_at").values_list("pk", "due_at", "nudges")[:limit])


def _nudged_long_ago(now: Moment) -> Q:
    """In the query, so that a page of rows that back off hides no other; no power needed."""
    steps: list[Q] = []
    wait = FIRST_NUDGE
    while wait < LAST_NUDGE:
        steps.append(Q(nudges=len(steps), nudged_at__lt=now - wait))
        wait *= 2
    return reduce(or_, steps, Q(nudges__gte=len(steps), nudged_at__lt=now - LAST_NUDGE))


def _nudge(tx: Transactions, id: UUID, due_at: datetime, nudges: int) -> bool:
    """``due_at`` stays: it is past, and moving it would delay the wake-up that is sent."""
    now = tx.now()
    unchanged = runs(tx.alias).filter(
        pk=id, status__in=ACTIVE, due_at=due_at, nudges=nudges, owed_at__isnull=True
    )
    return bool(
        unchanged.update(wake_n=F("wake_n") + 1, owed_at=now, nudges=nudges + 1, nudged_at=now)
    )


def signal_unseen(tx: Transactions, limit: int) -> Sequence[UUID]:
    def query() -> list[tuple[UUID, str, str]]:
        unseen = events(tx.alias).filter(seen=False, workflow_run__status__in=ACTIVE)
        named = unseen.values("workflow_run_id", "source", "name").annotate(first=Min("pk"))
        rows = named.order_by("first").values_list("workflow_run_id", "source", "name")
        return list(rows[:limit])

    found = [Signal(id=id, wait=wait_for(source, name)) for id, source, name in tx.read(query)]
    return list(dict.fromkeys(each.id for each in found if signal(tx, each).owed))


def orphans(tx: Transactions, limit: int, of: Union[Sequence[UUID], None]) -> Sequence[UUID]:
    ended = Q(parent__status__in=DONE_WITH_CHILDREN)
    going = [status for status in OPEN if status is not RunStatus.CANCELLING]
    left = runs(tx.alias).filter(ended, status__in=going)
    if of is not None:
        left = left.filter(parent__in=of)
    return tx.read(lambda: list(left.order_by("pk").values_list("pk", flat=True)[:limit]))


# --- the keeper of leases


def beat(tx: Transactions, transition: Beat) -> Sequence[UUID]:
    """One statement for all leases; a second one only if some were not renewed."""
    if not transition.held:
        return []
    return tx.run("", partial(_beat, tx, transition))


def _beat(tx: Transactions, transition: Beat) -> list[UUID]:
    until = tx.now() + transition.lease
    mine = reduce(or_, (Q(pk=id, epoch=epoch) for id, epoch in transition.held.items()))
    held = runs(tx.alias).filter(mine, status__in=OPEN, lease_until__isnull=False)
    paused = When(status=RunStatus.PAUSED.value, then=Value(None))
    renewed = held.update(lease_until=until, due_at=moment(paused, default=until))
    if renewed == len(transition.held):
        return []
    kept = set(held.values_list("pk", flat=True))
    return [id for id in transition.held if id not in kept]


# --- marks


def mark(tx: Transactions, key: str) -> None:
    def write() -> None:
        now = tx.now()
        marks = HookflowMark._base_manager.using(tx.alias)
        if not marks.filter(key=key).update(at=now):
            insert_absent(tx.alias, [HookflowMark(key=key, at=now)], "key")

    tx.run("", write)


def marked_at(tx: Transactions, key: str) -> Union[datetime, None]:
    marks = HookflowMark._base_manager.using(tx.alias)
    at: datetime | None = tx.read(
        lambda: marks.filter(key=key).values_list("at", flat=True).first()
    )
    return at
