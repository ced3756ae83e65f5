"""FORK: a new run, with the outcomes of another one up to a step.

Nothing of the source is locked: an outcome never changes, and one that is recorded meanwhile
was not there when the fork began. It joins a transaction of the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Union
from uuid import UUID

from django_hookflow.core.entries import Entry, RunStatus
from django_hookflow.core.forking import UnknownStep, cut
from django_hookflow.core.transitions import Fork, Forked, Over
from django_hookflow.journals.orm_rows import raw, read_entries, runs, step_row, steps
from django_hookflow.journals.orm_starts import BATCH, BATCH_DATA
from django_hookflow.journals.orm_transactions import Transactions
from django_hookflow.models import Encoded, WorkflowRun, WorkflowStep, WorkflowTag

Answer = Union[Forked, UnknownStep, Over]


def fork(tx: Transactions, transition: Fork) -> Answer:
    def landed() -> Union[Forked, None]:
        return Forked() if runs(tx.alias).filter(pk=transition.id).exists() else None

    return tx.run("fork", partial(_fork, tx, transition), durable=False, landed=landed)


def entries(tx: Transactions, id: UUID) -> Union[Sequence[Entry], None]:
    def query() -> Union[list[Entry], None]:
        pass_ = runs(tx.alias).filter(pk=id).values_list("generation", flat=True).first()
        return None if pass_ is None else _in_force(tx, id, pass_)

    return tx.read(query)


def _in_force(tx: Transactions, id: UUID, generation: int) -> list[Entry]:
    journal = steps(tx.alias).filter(workflow_run=id, generation=generation, superseded=False)
    return read_entries(journal)


def _fork(tx: Transactions, transition: Fork) -> Answer:
    same = ("workflow_id", "version", "seed", "generation", "started_at")
    sources = runs(tx.alias).filter(pk=transition.source).annotate(text=raw("data"))
    source = sources.values(*same, "text").first()
    if source is None:
        return Over(status=None)
    generation = source["generation"]
    found = cut(_in_force(tx, transition.source, generation), transition.from_step)
    if isinstance(found, UnknownStep):
        return found
    if not found.kept:
        source["started_at"] = None
    _insert_run(tx, transition, source, outcomes=len(found.kept))
    for batch in _batches(found.kept):
        rows = [step_row(e, run=transition.id, generation=generation, epoch=0) for e in batch]
        WorkflowStep._base_manager.using(tx.alias).bulk_create(rows)
    _copy_tags(tx, transition)
    return Forked()


def _insert_run(
    tx: Transactions, transition: Fork, source: dict[str, Any], *, outcomes: int
) -> None:
    now, data = tx.now(), source.pop("text")
    row = WorkflowRun(
        id=transition.id,
        run_id=transition.run_id,
        data=None if data is None else Encoded(data),
        status=RunStatus.PENDING.value,
        seq=outcomes,
        wake_n=1,
        owed_at=now,
        due_at=now,
        deadline=None if transition.timeout is None else now + transition.timeout,
        created_at=now,
        **source,
    )
    # Not create(): the projects' own signal receivers have no business in here.
    WorkflowRun._base_manager.using(tx.alias).bulk_create([row])


def _copy_tags(tx: Transactions, transition: Fork) -> None:
    tags = WorkflowTag._base_manager.using(tx.alias)
    pairs = tags.filter(workflow_run=transition.source).values_list("key", "value")
    rows = [WorkflowTag(workflow_run_id=transition.id, key=k, value=v) for k, v in pairs]
    tags.bulk_create(rows)


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """As many as one INSERT may carry."""
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        size += len(entry.value or "")
        if batch and (len(batch) == BATCH or size > BATCH_DATA):
            yield batch
            batch, size = [], len(entry.value or "")
        batch.append(entry)
    if batch:
        yield batch
