"""How a run stands, as far as its delivery has heard, and the delivery's own transactions.

Whoever pauses, cancels or takes over a run does so in its row. A delivery hears of it by its
commits, and looks where it made none.
"""

from __future__ import annotations

from typing import Union

from django_hookflow.core.entries import TERMINAL, RunStatus
from django_hookflow.core.transitions import (
    Commit,
    Committed,
    Fenced,
    JournalUnavailable,
    NotYet,
    RunView,
    SignalsMoved,
    Stopped,
)
from django_hookflow.engine.execute import Executor
from django_hookflow.engine.leases import Lease
from django_hookflow.engine.suspending import StopSign


class Standing:
    """What one delivery may still do, and why not.

    ``seen`` is the number of signals that the run's row had counted when last heard of;
    ``told``: the run is being cancelled, so what executes is recorded and nothing more begins;
    ``paused`` likewise, but its waits go on; ``used_up``: the delivery's time, or the run's, is
    over; ``awaited``: a retry was awaited in here, and somebody may have stopped the run
    meanwhile; ``broken`` is what ends the delivery once its units have ended.
    """

    def __init__(
        self, run: RunView, executor: Executor, lease: Lease, stop: StopSign, *, winding_up: bool
    ) -> None:
        self.seen = run.signals
        self.told = False
        self.paused = False
        self.used_up = False
        self.awaited = False
        self.broken: Union[BaseException, None] = None
        self._run = run
        self._executor = executor
        self._lease = lease
        self._stop = stop
        self._winding_up = winding_up

    def hear(self, committed: Committed) -> None:
        """What a commit tells besides its outcome: that something came, a pause, a cancel."""
        self.seen = max(self.seen, committed.signals)
        self._heard(committed.status)

    def moved(self, answer: SignalsMoved) -> None:
        """The run could not be suspended, because something came."""
        self.seen = answer.seen
        self.told = self.told or (answer.cancelling and not self._winding_up)
        self.paused = False  # it would have stayed so; resuming is a signal too

    def breaks(self, error: BaseException) -> None:
        """Of several errors the first one counts."""
        self.broken = self.broken or error

    def check_lease(self) -> None:
        """The keeper of leases finds out by itself that another holder has the run."""
        if self._lease.lost:
            self.breaks(Fenced("the lease was taken over"))

    def may_begin(self) -> bool:
        """Whether nobody has told that no step, and no child, is to start any more."""
        stopped = self._stop.stopped or self.told or self.paused
        return self.broken is None and not stopped

    def is_ending(self) -> bool:
        """Whether the delivery ends as soon as nothing executes."""
        return self._stop.stopped or self.used_up or self.told or self.paused

    def is_late(self) -> bool:
        """Whether the whole run's time is over; the next delivery fails it."""
        deadline = self._run.deadline
        late = deadline is not None and self._executor.stopwatch.until(deadline) <= 0
        self.used_up = self.used_up or (late and not self._winding_up)
        return late and not self._winding_up

    async def commit(self, transition: Commit) -> Union[Committed, NotYet, None]:
        """One transaction of the delivery's own, from which its clock is set as well.

        ``None`` if it was not to be: what executes still comes to its end before the delivery.
        """
        stopwatch, hops = self._executor.stopwatch, self._executor.hops
        asked_at = stopwatch.before()
        try:
            answer: Union[Committed, NotYet] = await hops.own(hops.journal.commit, transition)
        except Stopped:
            self.told = True
            return None
        except (Fenced, JournalUnavailable) as error:
            self.breaks(error)
            return None
        stopwatch.sync(answer.now, asked_at)
        if isinstance(answer, Committed):
            self.hear(answer)
        return answer

    async def look(self) -> bool:
        """Ask the row, after a wait without a commit, whether anything may begin."""
        self.awaited = False
        hops = self._executor.hops
        try:
            row = await hops.own(hops.journal.look, self._run.id)
        except JournalUnavailable as error:
            self.breaks(error)
            return False
        if row is None or row.epoch != self._run.epoch or row.status in TERMINAL:
            self.breaks(Fenced("the run ended while a retry was awaited"))
            return False
        self._heard(row.status)
        return self.may_begin()

    def _heard(self, status: RunStatus) -> None:
        self.paused = status is RunStatus.PAUSED
        if status is RunStatus.CANCELLING and not self._winding_up:
            self.told = True
