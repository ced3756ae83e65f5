"""The beginning and the end of what a body waits for: timers, messages, other runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from uuid import UUID

from django_hookflow.core.replay import Replay
from django_hookflow.core.transitions import Committed, JournalUnavailable
from django_hookflow.engine.execute import Executor
from django_hookflow.engine.outstanding import Outstanding
from django_hookflow.engine.plans import Child, Wait
from django_hookflow.engine.standing import Standing
from django_hookflow.engine.waits import ending, invocation


class Endings:
    """Starts the runs that the body waits for, and ends its waits, one at a time."""

    def __init__(
        self,
        executor: Executor,
        replay: Replay,
        outstanding: Outstanding,
        standing: Standing,
        wake: Callable[[Sequence[UUID]], Awaitable[None]],
    ) -> None:
        self._executor = executor
        self._replay = replay
        self._outstanding = outstanding
        self._standing = standing
        self._wake = wake
        #: Whether the row had an outcome, at the last look, that has not come here yet.
        self.untold = False

    async def start_children(self) -> bool:
        """Start the runs that were invoked, and wake them together.

        Whether to look again first: a name was taken, or nothing more may begin.
        """
        started, taken = [], False
        for wait in self._outstanding.live_waits():
            work = wait.plan.work
            if wait.recorded or not isinstance(work, Child) or self._standing.is_late():
                continue
            fence, run = self._executor.fence, self._executor.run
            answer = await self._standing.commit(invocation(run, fence, wait, work))
            if answer is None:
                break
            assert isinstance(answer, Committed), "only waits answer NotYet"
            if answer.entry.is_outcome:
                self._settle(wait, answer)
                taken = True
                continue
            wait.recorded = True
            self._replay.note(answer.entry)
            if answer.entry.child is not None:
                started.append(answer.entry.child)
        if started:
            with suppress(JournalUnavailable):  # they stay owed
                await self._wake(started)
        return taken or not self._standing.may_begin()

    def has_mail(self) -> bool:
        """Whether something may have come for one of the waits."""
        return any(self._may_have_come(wait) for wait in self._outstanding.live_waits())

    async def end_one(self) -> bool:
        """Record the end of the first wait that is over: in time, or because something came.

        Of that one alone: it may be what the body gives up another for, whose event is then for
        whoever asks next.
        """
        self.untold = False
        until = self._executor.stopwatch.until
        waits = [
            wait
            for wait in self._outstanding.live_waits()
            if wait.is_due(until) or self._may_have_come(wait)
        ]
        for wait in sorted(waits, key=lambda wait: (_due_first(wait), wait.requested)):
            if self._standing.broken is not None or self._standing.told:
                break
            if await self._end(wait):
                return True
            if self.untold:
                break
        return False

    def _may_have_come(self, wait: Wait) -> bool:
        """Whether the mailbox has moved since it was looked into for this one.

        Nothing comes of a child that is not started yet.
        """
        to_come = wait.recorded or not isinstance(wait.plan.work, Child)
        return bool(wait.listens) and to_come and wait.looked < self._standing.seen

    async def _end(self, wait: Wait) -> bool:
        seen = self._standing.seen
        transition = ending(self._executor.fence, wait, after=self._replay.handed)
        answer = await self._standing.commit(transition)
        if isinstance(answer, Committed):
            self._settle(wait, answer)
            return True
        if answer is not None:
            self.untold = answer.moved
            wait.looked = wait.looked if answer.moved else seen
        return False

    def _settle(self, wait: Wait, committed: Committed) -> None:
        del self._outstanding.parked[wait.key]
        self._replay.settle(committed.entry)


def _due_first(wait: Wait) -> float:
    """Timers in the order of their times; what waits for something else comes behind them."""
    return float("inf") if wait.ready_at is None or wait.listens else wait.ready_at.timestamp()
