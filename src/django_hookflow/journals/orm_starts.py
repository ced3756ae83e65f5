"""TRIGGER: rows of new runs, one or many, inside the caller's transaction if there is one.

They must not fail in it, since an error of the database would break it on PostgreSQL:
conflicts are found by looking.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Union

from django.db import transaction

from django_hookflow.core.codec import same_value
from django_hookflow.core.entries import RunStatus
from django_hookflow.core.transitions import Conflict, JournalUnavailable, Trigger, Triggered
from django_hookflow.journals.orm_rows import insert_absent, raw, runs
from django_hookflow.journals.orm_transactions import Moment, Transactions
from django_hookflow.models import Encoded, WorkflowRun, WorkflowTag

#: Rows of one INSERT, and names of one SELECT.
BATCH = 500
#: Characters of data in one INSERT: a server takes no longer statements than 4 to 64 MB.
BATCH_DATA = 1_000_000

Answer = Union[Triggered, Conflict]


class _Refused(Exception):
    """Leaves the savepoint: what was inserted goes with it."""


def trigger(tx: Transactions, transition: Trigger) -> Answer:
    return tx.run("trigger", partial(start, tx, transition), durable=False)


def start(tx: Transactions, transition: Trigger) -> Answer:
    """In a transaction that is open already."""
    _insert(tx, [transition])
    answers = _compared(tx, [transition])
    _tag(tx, [transition], answers)
    return answers[0]


def trigger_many(tx: Transactions, transitions: Sequence[Trigger]) -> Sequence[Answer]:
    if not transitions:
        return []
    return tx.run("trigger", partial(_trigger_many, tx, transitions), durable=False)


def _trigger_many(tx: Transactions, transitions: Sequence[Trigger]) -> Sequence[Answer]:
    answers: Sequence[Answer] = []
    try:
        with transaction.atomic(using=tx.alias):
            _insert(tx, transitions)
            answers = _compared(tx, transitions)
            if any(isinstance(answer, Conflict) for answer in answers):
                raise _Refused
            _tag(tx, transitions, answers)
    except _Refused:
        pass
    return answers


def _insert(tx: Transactions, transitions: Sequence[Trigger]) -> None:
    now = tx.now()
    # In one order: two that insert the same names would else wait for each other.
    for batch in _batches(sorted(transitions, key=lambda each: each.run_id)):
        insert_absent(tx.alias, [_row(each, now) for each in batch], "run_id", BATCH)


def _tag(tx: Transactions, transitions: Sequence[Trigger], answers: Sequence[Answer]) -> None:
    """Tag what was created: a run that was there already keeps its own tags."""
    rows = [
        WorkflowTag(workflow_run_id=each.id, key=key, value=value)
        for each, answer in zip(transitions, answers, strict=True)
        if isinstance(answer, Triggered) and answer.created
        for key, value in each.tags
    ]
    insert_absent(tx.alias, rows, "key", BATCH)


def _batches(transitions: Sequence[Trigger]) -> Iterator[list[Trigger]]:
    batch: list[Trigger] = []
    size = 0
    for transition in transitions:
        size += len(transition.data)
        if batch and (len(batch) == BATCH or size > BATCH_DATA):
            yield batch
            batch, size = [], len(transition.data)
        batch.append(transition)
    yield batch


def _row(transition: Trigger, now: Moment) -> WorkflowRun:
    due = transition.not_before if transition.not_before is not None else now + transition.delay
    return WorkflowRun(
        id=transition.id,
        run_id=transition.run_id,
        workflow_id=transition.workflow_id,
        version=transition.version,
        seed=transition.seed,
        data=Encoded(transition.data),
        status=RunStatus.PENDING.value,
        wake_n=1,
        owed_at=now,
        due_at=due,
        deadline=None if transition.timeout is None else due + transition.timeout,
        created_at=now,
        parent_id=transition.parent,
        parent_step=transition.parent_step,
        depth=transition.depth,
    )


def _compared(tx: Transactions, transitions: Sequence[Trigger]) -> list[Answer]:
    # Nobody else can have the id that we made ourselves.
    names = [t.run_id for t in transitions if t.run_id != str(t.id)]
    stored: dict[str, tuple[Any, ...]] = {}
    for start in range(0, len(names), BATCH):
        found = runs(tx.alias).filter(run_id__in=names[start : start + BATCH])
        columns = found.annotate(text=raw("data")).values_list(
            "run_id", "pk", "workflow_id", "text"
        )
        stored.update((run_id, row) for run_id, *row in columns)
    return [_answer(transition, stored) for transition in transitions]


def _answer(transition: Trigger, stored: dict[str, tuple[Any, ...]]) -> Answer:
    if transition.run_id == str(transition.id):
        return Triggered(id=transition.id, created=True)
    if transition.run_id not in stored:
        # REPEATABLE READ in the caller's transaction: it was written after the snapshot.
        raise JournalUnavailable(f"run {transition.run_id!r} is there, but not to be seen yet")
    id, workflow_id, data = stored[transition.run_id]
    if workflow_id != transition.workflow_id or not same_value(data, transition.data):
        return Conflict(workflow_id=workflow_id)
    return Triggered(id=id, created=id == transition.id)
