"""Removing what is over: ended runs with their journal, mailbox and tags."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django_hookflow.core.entries import RunStatus
from django_hookflow.journals.orm_rows import OPEN, events, runs, steps
from django_hookflow.journals.orm_transactions import Transactions
from django_hookflow.models import WorkflowTag

#: Steps of one transaction: 200,000 take a second.
MOST_STEPS = 20_000


def count_ended(tx: Transactions, older_than: timedelta, statuses: Sequence[RunStatus]) -> int:
    count: int = tx.read(lambda: _ended(tx, older_than, statuses).count())
    return count


def prune(
    tx: Transactions, older_than: timedelta, statuses: Sequence[RunStatus], limit: int
) -> int:
    # A parent that goes on may still have to collect a child's result.
    free = _ended(tx, older_than, statuses).exclude(parent__status__in=OPEN)
    oldest = free.order_by("finished_at").values_list("pk", "seq")
    found = _short(tx.read(lambda: list(oldest[:limit])))
    return tx.run("", partial(_prune, tx, found, older_than, statuses)) if found else 0


def _short(found: list[tuple[UUID, int]]) -> list[UUID]:
    """The first of them, as many as have so few steps that nobody waits long for SQLite's lock."""
    total = 0
    taken: list[UUID] = []
    for id, outcomes in found:
        total += outcomes
        if taken and total > MOST_STEPS:
            break
        taken.append(id)
    return taken


def _ended(tx: Transactions, older_than: timedelta, statuses: Sequence[RunStatus]) -> Any:
    return runs(tx.alias).filter(status__in=statuses, finished_at__lt=tx.now() - older_than)


def _prune(
    tx: Transactions, found: list[UUID], older_than: timedelta, statuses: Sequence[RunStatus]
) -> int:
    ended = _ended(tx, older_than, statuses).filter(pk__in=found)
    # Locks the rows: a retry() that came first has changed them, one that comes now finds none.
    ended.update(owed_at=None)
    ids = list(ended.values_list("pk", flat=True))
    # In this order: what refers to a step, the steps, the run. Not delete() on the runs, which
    # would read all of it into memory first.
    for rows in (
        events(tx.alias).filter(workflow_run__in=ids),
        WorkflowTag._base_manager.using(tx.alias).filter(workflow_run__in=ids),
        steps(tx.alias).filter(workflow_run__in=ids),
    ):
        rows._raw_delete(tx.alias)
    runs(tx.alias).filter(parent__in=ids).update(parent=None)
    runs(tx.alias).filter(pk__in=ids)._raw_delete(tx.alias)
    return len(ids)
