"""The comparison of the journals with the model finds what is wrong with a journal."""

from dataclasses import replace
from typing import Any

import pytest

from django_hookflow.core.entries import RunStatus
from django_hookflow.core.transitions import Cancel, Finish, Invoke, Suspend
from django_hookflow.journals.memory import MemoryJournal
from tests.faults.model.conformance import Disagreement
from tests.faults.model.replaying import in_memory
from tests.faults.model.state import CANCEL, PAUSE, RETRY, World
from tests.faults.model.worlds_walked import CONTROLS, RELATED, walks_of


class GoesOnPaused(MemoryJournal):
    """A holder's outcome is written over the pause."""

    def commit(self, transition: Any) -> Any:
        committed = super().commit(transition)
        run = self.look(transition.fence.id)
        if run is not None and run.status is RunStatus.PAUSED:
            self.alter(run.id, status=RunStatus.RUNNING)
        return committed


class SleepsPaused(MemoryJournal):
    """A paused run is given back without the rows of what it waits for."""

    def suspend(self, transition: Suspend) -> Any:
        run = self.look(transition.fence.id)
        if run is not None and run.status is RunStatus.PAUSED:
            transition = replace(transition, pending=())
        return super().suspend(transition)


class ResumesUnseen(MemoryJournal):
    """A resume leaves the mailbox, so that nobody looks again."""

    def resume(self, transition: Any) -> Any:
        run = self.look(transition.id)
        assert run is not None
        answer = super().resume(transition)
        self.alter(transition.id, signals=run.signals)
        return answer


class RetriesUnfenced(MemoryJournal):
    """A retry keeps the epoch."""

    def retry(self, transition: Any) -> Any:
        run = self.look(transition.id)
        assert run is not None
        answer = super().retry(transition)
        self.alter(transition.id, epoch=run.epoch)
        return answer


class RetriesInVain(MemoryJournal):
    """A retry supersedes nothing."""

    def retry(self, transition: Any) -> Any:
        rows = dict(self._stored.steps[transition.id])
        answer = super().retry(transition)
        self._stored.steps[transition.id] = rows
        return answer


class ForgetsUndos(MemoryJournal):
    """A cancel compensates nothing."""

    def cancel(self, transition: Cancel) -> Any:
        return super().cancel(replace(transition, compensate=False))


class FencesAtCancel(MemoryJournal):
    """A cancel takes the run from whoever executes a step of it."""

    def cancel(self, transition: Cancel) -> Any:
        answer = super().cancel(transition)
        run = self.look(transition.id)
        if run is not None and run.status is RunStatus.CANCELLING:
            self.alter(transition.id, epoch=run.epoch + 1)
        return answer


class CommitsTooLate(MemoryJournal):
    """An atomic step takes effect after the decision to cancel."""

    def commit(self, transition: Any) -> Any:
        id = transition.fence.id
        run = self.look(id)
        if run is None or run.status is not RunStatus.CANCELLING:
            return super().commit(transition)
        self.alter(id, status=RunStatus.RUNNING)
        try:
            return super().commit(transition)
        finally:
            self.alter(id, status=RunStatus.CANCELLING)


class EndsUntold(MemoryJournal):
    """A child's end does not signal its parent."""

    def finish(self, transition: Finish) -> Any:
        return super().finish(replace(transition, parent=None))


class EndsUntoldByCancel(MemoryJournal):
    """A child that is cancelled does not signal its parent."""

    def cancel(self, transition: Cancel) -> Any:
        run = self.look(transition.id)
        parent = None if run is None or run.parent is None else self._stored.runs[run.parent]
        answer = super().cancel(transition)
        if parent is not None:
            self._stored.runs[parent.id] = parent
        return answer


class StartsApart(MemoryJournal):
    """The row of the wait for a child is written, and the child is not."""

    def commit(self, transition: Any) -> Any:
        committed = super().commit(transition)
        if isinstance(transition, Invoke):
            del self._stored.runs[transition.child.id]
        return committed


def _in_which(users: str) -> tuple[World, ...]:
    return tuple(world for world in CONTROLS if users in world.users)


PLANTED: dict[type[MemoryJournal], tuple[World, ...]] = {
    GoesOnPaused: _in_which(PAUSE),
    SleepsPaused: _in_which(PAUSE),
    ResumesUnseen: _in_which(PAUSE),
    RetriesUnfenced: _in_which(RETRY),
    RetriesInVain: _in_which(RETRY),
    ForgetsUndos: _in_which(CANCEL),
    FencesAtCancel: _in_which(CANCEL),
    CommitsTooLate: _in_which(CANCEL),
    EndsUntold: RELATED,
    EndsUntoldByCancel: RELATED,
    StartsApart: RELATED,
}


@pytest.mark.parametrize("broken", PLANTED)
def test_journal_with_a_planted_fault_does_not_follow(broken: type[MemoryJournal]) -> None:
    with pytest.raises(Disagreement) as caught:
        for world in PLANTED[broken]:
            in_memory(world, walks_of(world), broken)
    print(caught.value)
