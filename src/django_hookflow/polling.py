"""Running what is due without any message: a worker asks the journal instead.

Safe beside deliveries and other workers, because whoever executes a run has claimed its row;
and beside QStash, because a wake-up that finds its run done costs one SELECT. Nothing is
published from here: a wake-up stays owed in its row, so that the sweeper sends it if no worker
is there when the run falls due.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from uuid import UUID

from asgiref.sync import ThreadSensitiveContext, sync_to_async

from django_hookflow.core.transitions import JournalUnavailable
from django_hookflow.engine.driver import DEPLOYING, Answer, Driver
from django_hookflow.engine.suspending import StopSign
from django_hookflow.exceptions import ConfigurationError
from django_hookflow.registry import registry
from django_hookflow.runtime import Runtime
from django_hookflow.wakes import SWEEP_MARK

logger = logging.getLogger("django_hookflow.polling")

#: Seconds between two looks for events that nobody was told of.
EVENTS_EVERY = 15.0
#: A database that cannot be reached is asked again after so many seconds.
UNREACHABLE = 5.0
#: Seconds until a run is looked at again that could not be executed; the wait for a lease, which
#: an answer may ask for, is none, because a run that is held is not found.
AGAIN = 5.0
#: The same for a run that this process has no workflow for, and will have none until it ends.
UNREGISTERED = 600.0
#: The same for a run on which a delivery broke.
BROKEN = 60.0


@dataclass(kw_only=True)
class Polling:
    """One worker. ``told`` is called with a run and how its delivery ended.

    ``every`` is the pause in seconds when nothing is due; ``concurrency`` bounds the runs that
    are executed at once; ``once`` ends when nothing is due any more.
    """

    runtime: Runtime
    every: float
    concurrency: int
    once: bool
    stopped: Callable[[], bool]
    told: Callable[[UUID, Answer], None]
    _driver: Driver = field(init=False)
    _busy: dict[UUID, asyncio.Task[None]] = field(init=False, default_factory=dict)
    _signs: dict[UUID, StopSign] = field(init=False, default_factory=dict)
    _later: dict[UUID, float] = field(init=False, default_factory=dict)
    _events_at: float = field(init=False, default=float("-inf"))
    _unfit: ConfigurationError | None = field(init=False, default=None)

    async def run(self) -> None:
        """Poll until ``stopped()``, or ``once`` nothing is due; lets what executes end well.

        Raises ``ConfigurationError`` if no run can be executed with these settings.
        """
        self._driver = replace(self.runtime.driver, transport=None)
        try:
            while not self.stopped() and self._unfit is None:
                if not await self._look() and self.once and not self._busy:
                    break
        finally:
            for sign in self._signs.values():
                sign.stop()
            if self._busy:
                await asyncio.wait(self._busy.values())
            await self._driver.clients.aclose()
        if self._unfit is not None:
            raise self._unfit

    async def _look(self) -> bool:
        """Start what is due, then wait: for room, for work that ended, or for time."""
        free = self.concurrency - len(self._busy)
        try:
            due = await sync_to_async(self._due)(free) if free else []
        except JournalUnavailable as error:
            logger.warning("the worker cannot look for runs: %s", error)
            await self._pause(UNREACHABLE)
            return True
        for run, wake in due:
            self._start(run, wake)
        if due and len(self._busy) < self.concurrency:
            return True
        # Not held while others work: of a small pool this could be the last one.
        await sync_to_async(self.runtime.journal.close_thread)()
        await self._pause(0.0 if self.once and not self._busy else self.every)
        return bool(due)

    def _due(self, free: int) -> list[tuple[UUID, int]]:
        """Runs to start; more are read than started, so that two workers seldom collide."""
        journal, now = self.runtime.journal, time.monotonic()
        if now - self._events_at > EVENTS_EVERY:
            self._events_at = now
            journal.signal_unseen(limit=500)
            journal.mark(SWEEP_MARK)
        self._later = {run: at for run, at in self._later.items() if at > now}
        skipped = self._busy.keys() | self._later.keys()
        limit = len(skipped) + 4 * self.concurrency
        found = journal.find_due(limit=limit, of=registry.identities())
        fresh = [(run, wake) for run, wake in found if run not in skipped]
        if len(fresh) < free:
            # Those of unregistered workflows last: that they block is noted, and they stay due.
            others = journal.find_due(limit=limit)
            skipped |= dict(fresh).keys()
            fresh += [(run, wake) for run, wake in others if run not in skipped]
        head = fresh[: 4 * free] if len(fresh) > free else fresh
        random.shuffle(head)
        return head[:free]

    def _start(self, run: UUID, wake: int) -> None:
        sign = self._signs[run] = StopSign()
        self._busy[run] = asyncio.ensure_future(self._deliver(run, wake, sign))
        self._busy[run].add_done_callback(lambda task: self._ended(run, task))

    async def _deliver(self, run: UUID, wake: int, sign: StopSign) -> None:
        """One delivery, on a thread and a connection of its own."""
        async with ThreadSensitiveContext():
            try:
                answer = await self._driver.deliver(run, wake, stop=sign)
            finally:
                await sync_to_async(self.runtime.journal.close_thread)()
        if answer is DEPLOYING:
            self._postpone(run, UNREGISTERED)
        elif answer.retry_after is not None:
            self._postpone(run, min(answer.retry_after, AGAIN))
        self.told(run, answer)

    def _ended(self, run: UUID, task: asyncio.Task[None]) -> None:
        del self._busy[run], self._signs[run]
        error = None if task.cancelled() else task.exception()
        if isinstance(error, ConfigurationError):
            self._unfit = error
        elif error is not None:
            # Nobody's fault but this run's, or ours: it must not keep the others waiting.
            logger.error("run %s: its delivery by the worker broke", run, exc_info=error)
            self._postpone(run, BROKEN)

    def _postpone(self, run: UUID, seconds: float) -> None:
        self._later[run] = time.monotonic() + seconds

    async def _pause(self, seconds: float) -> None:
        """Until work ends or so many seconds have passed; in slices, to notice a stop."""
        until = time.monotonic() + seconds
        while not self.stopped() and (left := until - time.monotonic()) > 0:
            if not self._busy:
                await asyncio.sleep(min(left, 0.1))
                continue
            done, _ = await asyncio.wait(
                self._busy.values(), timeout=min(left, 0.1), return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return
