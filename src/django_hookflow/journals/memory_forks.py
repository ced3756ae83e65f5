"""FORK, on drafts of the memory journal."""

from __future__ import annotations

from typing import Union
from uuid import UUID

from django_hookflow.core.entries import Entry
from django_hookflow.core.forking import UnknownStep, cut
from django_hookflow.core.transitions import Fork, Forked, Over
from django_hookflow.journals.memory_holder import current
from django_hookflow.journals.memory_rows import Draft, MemoryRun, MemoryStep


def fork(draft: Draft, transition: Fork) -> Union[Forked, UnknownStep, Over]:
    source = draft.run(transition.source)
    if source is None:
        return Over(status=None)
    found = cut(current(draft, source), transition.from_step)
    if isinstance(found, UnknownStep):
        return found
    run = MemoryRun(
        id=transition.id,
        run_id=transition.run_id,
        workflow_id=source.workflow_id,
        version=source.version,
        seed=source.seed,
        data=source.data,
        generation=source.generation,
        seq=len(found.kept),
        created_at=draft.now,
        started_at=source.started_at if found.kept else None,
        due_at=draft.now,
        owed_at=draft.now,
        deadline=None if transition.timeout is None else draft.now + transition.timeout,
    )
    draft.put_run(run)
    for entry in found.kept:
        draft.put_step(run.id, run.generation, MemoryStep(entry=entry, epoch=0))
    draft.put_tags(run.id, draft.tags(source.id))
    return Forked()


def entries(draft: Draft, id: UUID) -> Union[tuple[Entry, ...], None]:
    run = draft.run(id)
    return None if run is None else current(draft, run)
