"""Drives one delivery of one run: drain the body, hand over outcomes, start what is due.

Rules:

1. An outcome is handed over alone, in the order of ``seq``, and the body is drained before
   the next one. Live outcomes take the same door as recorded ones.
2. New work starts only when the body is quiescent and the replay check has nothing to say.
3. A unit that started is never cut: a delivery ends after its units have ended.
4. The run is suspended while the body is still alive, so that something that arrived
   meanwhile can still be handed to it; only then is the body closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Union

from django_hookflow.core.decisions import Execute, Mismatch, Park, Recorded
from django_hookflow.core.entries import Entry, Kind, StepStatus
from django_hookflow.core.replay import Replay
from django_hookflow.core.transitions import (
    Claimed,
    Committed,
    Fenced,
    Fire,
    SignalsMoved,
    StaysPaused,
    Suspend,
)
from django_hookflow.engine import events
from django_hookflow.engine.calls import CallResponse, HttpCall
from django_hookflow.engine.execute import Broken, Executor, Failed, Settled, UnitEnd
from django_hookflow.engine.leases import Lease
from django_hookflow.engine.loop import new_loop
from django_hookflow.engine.outcomes import raise_as
from django_hookflow.engine.plans import AtomicFunction, Function, Job, Plan, Timer, Wait
from django_hookflow.engine.suspending import WorkflowSuspended, block_delay, next_due
from django_hookflow.engine.time import Clock
from django_hookflow.exceptions import SerializationError, WorkflowDefinitionError

#: A retry this close is awaited in the delivery, a later one suspends.
IN_PLACE = 5.0
#: What a step without a timeout is taken to need of the delivery's time.
USUAL_STEP = 5.0
#: A timer this close to its time is awaited if an earlier delivery wrote it down.
EARLY = 2.0
#: After so long of waiting the database connection is given back.
RELEASE_AFTER = 0.1
#: So many deaths without an outcome in between, and a run is blocked.
MAX_DEATHS = 5


@dataclass(slots=True)
class StopSign:
    """Tells a delivery to start nothing more: its client is gone, or the process ends."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: bool = False

    def stop(self) -> None:
        """Ask for it, from the delivery's loop."""
        self.stopped = True
        self.event.set()


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
        observe: events.Observer,
    ) -> None:
        self.loop = new_loop()
        self.run = claimed.run
        self.executor = executor
        self.replay = Replay(claimed.entries, seq=claimed.run.seq)
        self.handed_at: datetime = claimed.run.created_at
        self.closing = False
        self.end: Union[Ended, None] = None
        self.broken: Union[BaseException, None] = None
        self._dead = claimed.found_dead and claimed.run.deaths >= MAX_DEATHS
        self._lease = lease
        self._stop = stop
        self._clock = clock
        self._delivery_seconds = delivery_seconds
        self._observe = observe
        self._seen = claimed.run.signals
        self._asked: dict[str, tuple[asyncio.Future[Any], Plan]] = {}
        self._ready: list[Job] = []
        self._parked: dict[str, Wait] = {}
        self._units: dict[asyncio.Task[UnitEnd], Job] = {}
        self._ends: deque[UnitEnd] = deque()
        self._started = False
        self._used_up = False
        self._misread: Union[Mismatch, None] = None

    # --- what the body asks

    def request(self, plan: Plan) -> asyncio.Future[Any]:
        """Take a request of the body; the future belongs to the workflow's loop."""
        future = self.loop.create_future()
        requested = self.replay.requests
        decision = self.replay.ask(plan.request)
        if isinstance(decision, Mismatch):
            return future  # never resolved: the check at quiescence speaks
        self._asked[decision.key] = (future, plan)
        if isinstance(decision, Execute):
            self._ready.append(self._job(plan, decision, requested, future))
        elif isinstance(decision, Park):
            self._parked[decision.key] = self._wait(plan, decision, requested, future)
        else:
            assert isinstance(decision, Recorded)
        return future

    def _job(
        self, plan: Plan, decision: Execute, requested: int, future: asyncio.Future[Any]
    ) -> Job:
        return Job(
            plan=plan,
            key=decision.key,
            occurrence=decision.occurrence,
            requested=requested,
            series=decision.series,
            future=future,
            attempt=decision.attempt,
            not_before=decision.ready_at,
        )

    def _wait(
        self, plan: Plan, decision: Park, requested: int, future: asyncio.Future[Any]
    ) -> Wait:
        now = self.executor.stopwatch.now()
        assert isinstance(plan.work, Timer), "the only wait there is"
        until = plan.work.until
        ready_at = until if isinstance(until, datetime) else now + until
        if decision.pending is not None and decision.pending.ready_at is not None:
            ready_at = decision.pending.ready_at  # written once, never moves
        return Wait(
            plan=plan,
            key=decision.key,
            occurrence=decision.occurrence,
            requested=requested,
            future=future,
            started_at=now,
            ready_at=ready_at,
            recorded=decision.pending is not None,
        )

    # --- the loop of a delivery

    async def drive(self, coro: Coroutine[Any, Any, Any]) -> Any:
        """Run one coroutine of a ``def`` body to its end; raises when the delivery is over."""
        if self.closing:
            coro.close()
            raise WorkflowSuspended
        task = self.loop.create_task(coro)
        try:
            over = not await self.pump(task.done)
        except (Exception, asyncio.CancelledError) as error:
            self.broken = error  # raised on once the body's thread has unwound
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
        while self._units or self._ends:
            self._take_in()
            if self._units:
                await self._pause(None)

    def leftover(self) -> Union[Mismatch, None]:
        """After the body's end: what it should have asked for and did not."""
        return self._misread or self.replay.check_end()

    def close(self) -> None:
        """Unwind what is left of an ``async def`` body; durable calls are refused meanwhile."""
        self.closing = True
        self.loop.close_tasks()

    def _take_in(self) -> None:
        while self._ends:
            end = self._ends.popleft()
            if isinstance(end, Settled):
                self.replay.settle(end.committed.entry)
                self._tell_recorded(end)
            elif isinstance(end, Failed):
                self._ready.append(end.job)
                self._tell_retry(end)
            else:
                self.broken = self.broken or end.error

    def _hand_over(self) -> bool:
        entry = self.replay.hand_over()
        if entry is None:
            return False
        future, plan = self._asked.pop(entry.key)
        self._parked.pop(entry.key, None)
        self.handed_at = entry.finished_at or self.handed_at
        if future.done():
            return True  # the body cancelled this branch: the outcome stays recorded
        if entry.status is StepStatus.FAILED:
            future.set_exception(raise_as(entry))
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
        if self.broken is None and self._lease.lost:
            self.broken = Fenced("the lease was taken over")
        mismatch = self._misread or self.replay.check()
        if self.broken is None and mismatch is None and not self._stop.stopped:
            if self._dead and (job := self._startable()):
                await self._block(self._death_notice(job), timedelta(hours=1))
                return
            self._start_ready()
        if self._units or self._ends:
            await self._fire_due()
            await self._pause(self._next_timer())
        elif self.broken is not None:
            raise self.broken
        elif mismatch is not None:
            await self._block(mismatch.reason, block_delay(self.run.blocked_n))
        elif self._stop.stopped or self._used_up:
            await self._suspend(timedelta(0))
        else:
            await self._idle()

    async def _idle(self) -> None:
        """Nothing is executing: await a close timer in place, or suspend."""
        if self._in_place_timer() is not None:
            if not await self._fire_due():
                await self._pause(self._in_place_timer())
            return
        due = next_due(self._live_waits(), self._live_jobs())
        if due is None:
            raise WorkflowDefinitionError(
                "the workflow waits for something that is not a step: no step, sleep or event "
                "is outstanding, so nothing could ever wake it"
            )
        await self._suspend(due)

    # --- starting

    def _live_jobs(self) -> list[Job]:
        return [job for job in self._ready if not job.future.done()]

    def _live_waits(self) -> list[Wait]:
        return [wait for wait in self._parked.values() if not wait.future.done()]

    def _startable(self) -> Union[Job, None]:
        return next(iter(self._live_jobs()), None)

    def _start_ready(self) -> None:
        self._ready = self._live_jobs()
        due = [job for job in self._ready if self._remaining(job) <= 0]
        starting = []
        for job in due:
            if self._fits(job, 0.0):
                starting.append(job)
                self._started = True
            else:
                self._used_up = True
        alone = len(starting) == 1 and not self._units and not self._parked
        for job in starting:
            self._ready.remove(job)
            self._start(job, alone=alone)

    def _remaining(self, job: Job) -> float:
        return 0.0 if job.not_before is None else self.executor.stopwatch.until(job.not_before)

    def _fits(self, job: Job, delay: float) -> bool:
        work = job.plan.work
        needed = job.plan.timeout
        if needed is None:
            needed = work.timeout if isinstance(work, HttpCall) else USUAL_STEP
        elapsed = self.executor.stopwatch.elapsed() + delay
        return not self._started or elapsed + needed <= self._delivery_seconds

    def _start(self, job: Job, *, alone: bool) -> None:
        self._observe(
            events.StepStarted(
                **self._names(),
                key=job.key,
                kind=str(job.plan.request.kind),
                attempt=job.attempt + 1,
            )
        )
        unit = asyncio.ensure_future(self.executor.unit(job, alone=alone))
        self._units[unit] = job
        unit.add_done_callback(self._unit_ended)

    def _unit_ended(self, unit: asyncio.Task[UnitEnd]) -> None:
        self._units.pop(unit, None)
        if unit.cancelled():
            self._ends.append(Broken(error=asyncio.CancelledError()))
        elif (error := unit.exception()) is not None:
            self._ends.append(Broken(error=error))
        else:
            self._ends.append(unit.result())
        self._stop.event.set()

    # --- time

    def _next_timer(self) -> Union[float, None]:
        """Seconds until something falls due while units are executing."""
        stopwatch = self.executor.stopwatch
        times = [stopwatch.until(wait.ready_at) for wait in self._live_waits()]
        times += [self._remaining(job) for job in self._live_jobs() if self._remaining(job) > 0]
        return min(times, default=None)

    def _in_place_timer(self) -> Union[float, None]:
        """Seconds until something falls due that is worth staying for."""
        stopwatch = self.executor.stopwatch
        times = [
            seconds
            for wait in self._live_waits()
            if wait.recorded and (seconds := stopwatch.until(wait.ready_at)) <= EARLY
        ]
        for job in self._live_jobs():
            seconds = self._remaining(job)
            if seconds <= (IN_PLACE if self._started else EARLY) and self._fits(job, seconds):
                times.append(seconds)
        return min(times, default=None)

    async def _fire_due(self) -> bool:
        """Record the sleeps whose time has come; whether there was one."""
        fired = False
        for wait in sorted(self._live_waits(), key=lambda wait: (wait.ready_at, wait.requested)):
            if self.executor.stopwatch.until(wait.ready_at) > 0 or self.broken is not None:
                break
            fired = await self._fire(wait) or fired
        return fired

    async def _fire(self, wait: Wait) -> bool:
        stopwatch = self.executor.stopwatch
        asked_at = stopwatch.before()
        transition = Fire(fence=self.executor.fence, entry=self._wait_entry(wait))
        hops = self.executor.hops
        answer = await hops.own(hops.journal.commit, transition)
        stopwatch.sync(answer.now, asked_at)
        if not isinstance(answer, Committed):
            return False
        del self._parked[wait.key]
        self.replay.settle(answer.entry)
        return True

    def _wait_entry(self, wait: Wait) -> Entry:
        request = wait.plan.request
        return Entry(
            key=wait.key,
            step_id=request.step_id,
            occurrence=wait.occurrence,
            kind=request.kind,
            call=request.call,
            args_sha=request.args_sha,
            requested_seq=wait.requested,
            ready_at=wait.ready_at,
            started_at=wait.started_at,
        )

    async def _pause(self, seconds: Union[float, None]) -> None:
        """Wait for a unit's end, a stop, or so many seconds; idle connections are given back."""
        if self._ends:
            return
        event, busy = self._stop.event, bool(self._units)
        if self._stop.stopped and not busy:
            return
        event.clear()
        if self._may_release() and (seconds is None or seconds > RELEASE_AFTER):
            await self._clock.wait(event, RELEASE_AFTER, busy=busy)
            if event.is_set():
                return
            await self.executor.hops.own(self.executor.hops.journal.close_thread)
            seconds = None if seconds is None else seconds - RELEASE_AFTER
        await self._clock.wait(event, seconds, busy=busy)

    def _may_release(self) -> bool:
        """Whether no unit is using the own thread's connection."""
        return not self.executor.hops.pinned and not any(
            isinstance(job.plan.work, AtomicFunction)
            or (isinstance(job.plan.work, Function) and not job.plan.work.is_async)
            for job in self._units.values()
        )

    # --- suspending

    async def _block(self, reason: str, delay: timedelta) -> None:
        await self._suspend(delay, blocked=reason)

    def _death_notice(self, job: Job) -> str:
        return (
            f"the process died {self.run.deaths} times without recording anything; "
            f"the next step would be {job.key!r}"
        )

    async def _suspend(self, due: Union[datetime, timedelta], *, blocked: str = "") -> None:
        fresh = [wait for wait in self._live_waits() if not wait.recorded and not blocked]
        hops = self.executor.hops
        transition = Suspend(
            fence=self.executor.fence,
            seen=self._seen,
            due=due,
            pending=tuple(self._wait_entry(wait) for wait in fresh),
            blocked=blocked,
        )
        answer = await hops.own(hops.journal.suspend, transition)
        if isinstance(answer, SignalsMoved):
            self._seen = answer.seen  # look again: the loop comes back here
            return
        waiting = tuple(wait.key for wait in self._live_waits())
        self._observe(events.RunSuspended(**self._names(), waiting_for=waiting, blocked=blocked))
        self.end = Ended(owed=not isinstance(answer, StaysPaused) and answer.owed)

    # --- telling

    def _names(self) -> dict[str, Any]:
        run = self.run
        return {"id": run.id, "run_id": run.run_id, "workflow_id": run.workflow_id}

    def _tell_recorded(self, end: Settled) -> None:
        entry = end.committed.entry
        self._observe(
            events.StepRecorded(
                **self._names(),
                key=entry.key,
                kind=str(entry.kind),
                attempt=entry.attempt,
                failed=entry.status is StepStatus.FAILED,
                seconds=end.seconds,
                message=entry.error.message if entry.error else "",
            )
        )

    def _tell_retry(self, end: Failed) -> None:
        entry = end.committed.entry
        self._observe(
            events.StepWillRetry(
                **self._names(),
                key=entry.key,
                kind=str(entry.kind),
                attempt=entry.attempt,
                delay=end.delay,
                message=end.message,
            )
        )
