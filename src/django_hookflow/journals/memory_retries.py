"""RETRY on drafts of the memory journal: to be read beside ``orm_retries``."""

from __future__ import annotations

from dataclasses import replace
from typing import Union
from uuid import UUID

from django_hookflow.core.entries import CAME_TO_NOTHING, Kind, RunStatus
from django_hookflow.core.transitions import Compensated, NotFailed, Replaced, Retried, Retry
from django_hookflow.journals.collecting import waits_again
from django_hookflow.journals.memory_rows import Draft, MemoryRun, MemoryStep, changed


def retry(draft: Draft, transition: Retry) -> Union[Retried, NotFailed, Compensated, Replaced]:
    run = draft.run(transition.id)
    if run is None or run.status is not RunStatus.FAILED:
        return NotFailed(status=None if run is None else run.status)
    if run.parent is not None and _is_replaced(draft, run.id, run.parent):
        return Replaced()
    uncaught = run.error.uncaught if run.error else ()
    mine = [
        step
        for (generation, _, _), step in draft.steps(run.id).items()
        if generation == run.generation and not step.superseded
    ]
    if any(step.entry.kind is Kind.UNDO for step in mine):
        return Compensated()
    for step in mine:
        entry = step.entry
        failed = entry.key in uncaught and entry.is_failed
        child = None if entry.child is None else draft.run(entry.child)
        well = child is not None and _goes_on(child, transition)
        in_vain = not entry.is_outcome and child is not None and not well
        if failed or entry.kind is Kind.ON_FAILURE or in_vain:
            draft.put_step(run.id, run.generation, replace(step, superseded=True))
        if failed and well:
            again = MemoryStep(entry=waits_again(entry), epoch=0)
            draft.put_step(run.id, run.generation, again)
    draft.put_run(
        changed(
            run,
            epoch=run.epoch + 1,
            status=RunStatus.SUSPENDED,
            signals=run.signals + 1,
            deaths=0,
            due_at=draft.now,
            wake_n=run.wake_n + 1,
            owed_at=draft.now,
            error=None,
            deadline=None if transition.timeout is None else draft.now + transition.timeout,
            finished_at=None,
        )
    )
    return Retried()


def _goes_on(child: MemoryRun, transition: Retry) -> bool:
    """Whether it may be waited for, again or still."""
    return child.status not in CAME_TO_NOTHING or child.id in transition.going_on


def _is_replaced(draft: Draft, child: UUID, parent: UUID) -> bool:
    """Whether its parent waited for it, and has another one in its place."""
    theirs = [step for step in draft.steps(parent).values() if step.entry.child == child]
    return bool(theirs) and all(step.superseded for step in theirs)
