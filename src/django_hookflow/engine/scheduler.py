"""Drives one delivery of one run: drain the body, hand over outcomes, start what is due.

Rules:

1. An outcome is handed over alone, in the order of ``seq``, and the body is drained before
   the next one. Live outcomes take the same door as recorded ones.
2. New work starts only when the body is quiescent and the replay check has nothing to say.
3. A unit that started is never cut: a delivery ends after its units have ended.
4. The run is suspended while the body is still alive, so that something that arrived
   meanwhile can still be handed to it; only then is the body closed.

Longer than other modules because it is one loop: what is outstanding, what runs and what is
told live in rooms of their own, and what is left decides over all three at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Union
from uuid import UUID

from django_hookflow.core.decisions import Mismatch
from django_hookflow.core.entries import Entry, Kind, StepStatus
from django_hookflow.core.replay import Replay
from django_hookflow.core.transitions import (
    Claimed,
    Fenced,
    SignalsMoved,
    StaysPaused,
    Stopped,
    Suspend,
)
from django_hookflow.engine import events
from django_hookflow.engine.calls import CallResponse, HttpCall
from django_hookflow.engine.endings import Endings
from django_hookflow.engine.execute import Executor, Failed, Settled
from django_hookflow.engine.failures import Failures
from django_hookflow.engine.leases import Lease
from django_hookflow.engine.live_state import LiveState
from django_hookflow.engine.loop import new_loop
from django_hookflow.engine.outcomes import raise_as
from django_hookflow.engine.outstanding import Outstanding
from django_hookflow.engine.plans import Child, Job, Plan
from django_hookflow.engine.standing import Standing
from django_hookflow.engine.suspending import StopSign, WorkflowSuspended, block_delay
from django_hookflow.engine.telling import Teller
from django_hookflow.engine.time import Clock
from django_hookflow.engine.units import Units, needs_thread
from django_hookflow.engine.waits import wait_entry
from django_hookflow.exceptions import SerializationError, WorkflowDefinitionError

#: A retry this close is awaited in the delivery, a later one suspends.
IN_PLACE = 5.0
#: What a step without a timeout is taken to need of the delivery's time.
USUAL_STEP = 5.0
#: A timer this close to its time is awaited if an earlier delivery wrote it down.
EARLY = 2.0
#: So many deaths without an outcome in between, and a run is blocked.
MAX_DEATHS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The delivery suspended the run (or found it paused)."""

    owed: bool


class Scheduler:
    """One delivery's scheduler. The bodies in ``bodies`` drive it, ``driver`` ends it."""

    def __init__(
        self,
        *,
        claimed: Claimed,
        executor: Executor,
        lease: Lease,
        stop: StopSign,
        clock: Clock,
        delivery_seconds: float,
        threads: int,
        observe: events.Observer,
        state: LiveState,
        wake: Callable[[Sequence[UUID]], Awaitable[None]],
        winding_up: bool = False,
    ) -> None:
        self.loop = new_loop()
        self.run = claimed.run
        self.executor = executor
        self.replay = Replay(claimed.entries, seq=claimed.run.seq, series=claimed.series)
        # Not when it was triggered: with a delay that may be long ago.
        self.handed_at: datetime = claimed.run.started_at or claimed.run.created_at
        self.closing = False
        self.rehearsing = False
        self.refusals = 0
        self._numbered = 0
        self.body_thread: Union[int, None] = None
        self.end: Union[Ended, None] = None
        self._dead = claimed.found_dead and claimed.run.deaths >= MAX_DEATHS
        self._stop = stop
        self._clock = clock
        self._delivery_seconds = delivery_seconds
        self._threads = threads
        self.standing = Standing(self.run, executor, lease, stop, winding_up=winding_up)
        self._outstanding = Outstanding(self.loop, self.replay, executor.stopwatch)
        self._endings = Endings(executor, self.replay, self._outstanding, self.standing, wake)
        self._units = Units(executor, stop.event)
        self._tell = Teller(claimed.run, observe)
        self._state = state
        self._failures = Failures()
        self._started = False
        self._misread: Union[Mismatch, None] = None

    def request(self, plan: Plan) -> asyncio.Future[Any]:
        """Take a request of the body; the future belongs to the workflow's loop."""
        return self._outstanding.request(plan)

    def next_number(self) -> int:
        """A number for the body's next step call; called by the body itself."""
        self._numbered += 1
        return self._numbered

    def tell(self, key: str, value: Any) -> None:
        """Take a part of the live state, unless the body is only being unwound."""
        if not self.closing:
            self._state.set(key, value, replaying=self.replay.replaying)

    # --- the loop of a delivery

    async def drive(self, coro: Coroutine[Any, Any, Any]) -> Any:
        """Run one coroutine of a ``def`` body to its end; raises when the delivery is over."""
        if self.closing:
            coro.close()
            raise WorkflowSuspended
        task = self.loop.create_task(coro)
        try:
            over = not await self.pump(task.done)
            if not over:
                # A map or gather that failed may leave units behind. They end here, because the
                # bridge that they came by leads nowhere once this coroutine has returned.
                await self.finish_units()
        except BaseException as error:  # the end of this process too: it is not the body's error
            self.standing.broken = error  # raised on once the body's thread has unwound
            over = True
        if over:
            self.closing = True
            self.loop.close_tasks()
            raise WorkflowSuspended
        return task.result()

    async def pump(self, done: Callable[[], bool]) -> bool:
        """Drive until ``done()`` (True) or until the delivery has ended (False)."""
        while True:
            self._take_in()
            self.loop.drain()
            if done():
                return True
            if self._hand_over():
                continue
            await self._advance()
            if self.end is not None:
                return False

    async def finish_units(self) -> None:
        """Let the units that a returning body left behind record what they did."""
        while self._units.running or self._units.ends:
            self._take_in()
            if self._units.running:
                await self._pause(None)

    def leftover(self) -> Union[Mismatch, None]:
        """After the body's end: what it should have asked for and did not."""
        return self._misread or self.replay.check_end()

    def uncaught(self, ending: BaseException) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """After the body's end: the failed steps that it had not caught, and those that it may
        have built on before it raised them.
        """
        requests = self.replay.requests
        certain = self._failures.unanswered(requests, self.replay.left_over())
        return certain, self._failures.raised_late(ending, requests)

    def rehearse(self) -> bool:
        """Replay an ``async def`` body as far as the journal goes: does it ask for all of it?

        Nothing is executed, recorded or told.
        """
        self.rehearsing = True
        self.loop.drain()
        while self._hand_over():
            self.loop.drain()
        return self._misread is None and self.replay.asked_for_all()

    def close(self) -> None:
        """Unwind what is left of an ``async def`` body; durable calls are refused meanwhile."""
        self.closing = True
        self.loop.close_tasks()

    def _take_in(self) -> None:
        while self._units.ends:
            end = self._units.ends.popleft()
            if isinstance(end, Settled):
                self.replay.settle(end.committed.entry)
                self.standing.hear(end.committed)
                self._tell.recorded(end)
            elif isinstance(end, Failed):
                self.replay.note(end.committed.entry)
                self.standing.hear(end.committed)
                self._outstanding.ready.append(end.job)
                self._tell.will_retry(end)
            elif isinstance(end.error, Stopped):
                self.standing.told = True
            else:
                self.standing.breaks(end.error)

    def _hand_over(self) -> bool:
        entry = self.replay.hand_over()
        if entry is None:
            return False
        future, plan = self._outstanding.answer(entry.key)
        self.handed_at = entry.finished_at or self.handed_at
        if future.done():
            return True  # the body cancelled this branch: the outcome stays recorded
        if entry.status is StepStatus.FAILED:
            error = raise_as(entry)
            self._failures.handed(entry.key, error, self.replay.requests)
            future.set_exception(error)
            return True
        try:
            future.set_result(self._decoded(entry, plan))
        except SerializationError as error:
            self._misread = Mismatch(reason=f"step {entry.key!r}: its value is not read: {error}")
        return True

    def _decoded(self, entry: Entry, plan: Plan) -> Any:
        if entry.value is None:
            return None
        value = self.executor.codec.decode(entry.value, hint=plan.hint)
        return CallResponse.from_plain(value) if entry.kind is Kind.CALL else value

    async def _advance(self) -> None:
        """The body is quiescent: start, wait, or suspend."""
        standing = self.standing
        standing.check_lease()
        mismatch = self._misread or self.replay.check()
        if mismatch is None and standing.may_begin():
            if self._dead and (job := self._startable()):
                await self._block(self._death_notice(job), timedelta(hours=1))
                return
            if await self._endings.start_children():
                return
            if standing.awaited and not await standing.look():
                return
            self._start_ready()
        if self._units.running or self._units.ends:
            if mismatch is None and not standing.told and await self._end_one():
                return
            # A holder that lost the run fires nothing more: its timers are not to be waited for.
            # Nor is one whose turn comes after an outcome that a unit is about to bring.
            held_up = standing.broken is not None or standing.told or self._endings.untold
            await self._pause(None if held_up else self._next_timer())
        elif standing.broken is not None:
            raise standing.broken
        elif mismatch is not None and not standing.told:  # what does not fit is undone all the same
            await self._block(mismatch.reason, block_delay(self.run.blocked_n))
        elif standing.is_ending():
            await self._suspend(timedelta(0))
        else:
            await self._idle()

    async def _end_one(self) -> bool:
        ended = await self._endings.end_one()
        if self._endings.untold and not (self._units.running or self._units.ends):
            self.standing.breaks(Fenced("an outcome is recorded that nobody here has brought"))
        return ended

    async def _idle(self) -> None:
        """Nothing is executing: look into the mailbox, await a close timer, or suspend."""
        if self._endings.has_mail():
            await self._end_one()
            return
        if self._in_place_timer() is not None:
            ended = await self._end_one()
            if not ended and self.standing.broken is None and not self.standing.told:
                await self._pause(self._in_place_timer())
            return
        due = self._outstanding.next_due()
        if due is None and not self._outstanding.live_waits():
            raise WorkflowDefinitionError(
                "the workflow waits for something that is not a step: no step, sleep or event "
                "is outstanding, so nothing could ever wake it"
            )
        await self._suspend(due)

    # --- starting

    def _startable(self) -> Union[Job, None]:
        return next(iter(self._outstanding.live_jobs()), None)

    def _start_ready(self) -> None:
        jobs = self._outstanding.ready = self._outstanding.live_jobs()
        if self.standing.is_late():
            return
        due = [job for job in jobs if self._remaining(job) <= 0]
        starting: list[Job] = []
        free = self._threads - self._units.threads
        for job in due:
            if needs_thread(job):
                # Queued for a thread it would start when the delivery's time may be over.
                free -= 1
                if free < 0:
                    continue
            if self._fits(job, 0.0):
                starting.append(job)
                self._started = True
            else:
                self.standing.used_up = True
        alone = len(starting) == 1 and not self._units.running and not self._outstanding.parked
        for job in starting:
            self._outstanding.ready.remove(job)
            self._tell.started(job)
            self._units.start(job, alone=alone)

    def _remaining(self, job: Job) -> float:
        if job.not_before is None:
            return 0.0
        return self.executor.stopwatch.surely_until(job.not_before)

    def _fits(self, job: Job, delay: float) -> bool:
        work = job.plan.work
        needed = job.plan.timeout
        if needed is None:
            needed = work.timeout if isinstance(work, HttpCall) else USUAL_STEP
        elapsed = self.executor.stopwatch.elapsed() + delay
        return not self._started or elapsed + needed <= self._delivery_seconds

    # --- time

    def _next_timer(self) -> Union[float, None]:
        """Seconds until something falls due while units are executing."""
        stopwatch = self.executor.stopwatch
        times = [
            stopwatch.until(wait.ready_at)
            for wait in self._outstanding.live_waits()
            if wait.ready_at is not None
        ]
        times += [
            self._remaining(job)
            for job in self._outstanding.live_jobs()
            if self._remaining(job) > 0
        ]
        return min(times, default=None)

    def _in_place_timer(self) -> Union[float, None]:
        """Seconds until something falls due that is worth staying for."""
        stopwatch = self.executor.stopwatch
        times = [
            seconds
            for wait in self._outstanding.live_waits()
            if wait.recorded
            and wait.ready_at is not None
            and (seconds := stopwatch.until(wait.ready_at)) <= EARLY
        ]
        for job in self._outstanding.live_jobs():
            seconds = self._remaining(job)
            if seconds <= (IN_PLACE if self._started else EARLY) and self._fits(job, seconds):
                times.append(seconds)
        return min(times, default=None)

    async def _pause(self, seconds: Union[float, None]) -> None:
        """Wait for a unit's end, a stop, or so many seconds; idle connections are given back."""
        if self._units.ends:
            return
        event, busy = self._stop.event, self._units.running
        if self._stop.stopped and not busy:
            return
        self.standing.awaited |= any(
            self._remaining(job) > 0 for job in self._outstanding.live_jobs()
        )
        event.clear()
        after = None if self._units.on_own_thread else self.executor.hops.release_after
        if after is not None and (seconds is None or seconds > after):
            if after:
                await self._clock.wait(event, after, busy=busy)
            if event.is_set():
                return
            close = self.executor.hops.journal.close_thread
            await self.executor.hops.own(close, self._units.since)
            seconds = None if seconds is None else seconds - after
        await self._clock.wait(event, seconds, busy=busy)

    # --- suspending

    async def _block(self, reason: str, delay: timedelta) -> None:
        await self._suspend(delay, blocked=reason)

    def _death_notice(self, job: Job) -> str:
        return (
            f"the process died {self.run.deaths} times without recording anything; "
            f"the next step would be {job.key!r}. If it takes longer than the web server's "
            "timeout (gunicorn's --timeout ends sync workers, by default after 30 s), raise that "
            "or split the step; else find what kills the process, such as too little memory"
        )

    async def _suspend(self, due: Union[datetime, timedelta, None], *, blocked: str = "") -> None:
        if blocked:
            self._state.forget()
        waits = [] if blocked else self._outstanding.live_waits()
        # A child's row is written with the child: else the next delivery took it for started.
        fresh = [
            wait for wait in waits if not wait.recorded and not isinstance(wait.plan.work, Child)
        ]
        hops = self.executor.hops
        transition = Suspend(
            fence=self.executor.fence,
            seen=self.standing.seen,
            due=due,
            waits=tuple(wait.listens for wait in waits if wait.listens),
            pending=tuple(wait_entry(wait) for wait in fresh),
            blocked=blocked,
        )
        answer = await hops.own(hops.journal.suspend, transition)
        if isinstance(answer, SignalsMoved):
            self.standing.moved(answer)  # look again: the loop comes back here
            return
        waiting = tuple(wait.key for wait in self._outstanding.live_waits())
        self._tell.suspended(waiting_for=waiting, blocked=blocked)
        self.end = Ended(owed=not isinstance(answer, StaysPaused) and answer.owed)
