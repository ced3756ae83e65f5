"""One attempt of one step: execute, then record, as one unit that is never cut in half.

The unit is a task of its own on the delivery's loop. It ends by handing a
:class:`Settled` outcome, a :class:`Failed` attempt or what broke it to the scheduler.

Longer than other modules because the colours and kinds of steps stand beside each other here.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Union

from django_hookflow.core.entries import Entry, StepStatus, idempotency_key
from django_hookflow.core.ports import ValueCodec
from django_hookflow.core.retry import TryAgain, judge
from django_hookflow.core.transitions import (
    Atomic,
    Attempted,
    Begin,
    Committed,
    Fence,
    Fenced,
    JournalUnavailable,
    Record,
    RunView,
)
from django_hookflow.engine.calls import CallClients, CallError, HttpCall, perform, shown
from django_hookflow.engine.hops import Hops, Raised, bounded, catching
from django_hookflow.engine.outcomes import TimeUp, record_error
from django_hookflow.engine.place import StepInfo, place
from django_hookflow.engine.plans import AtomicFunction, Function, Job
from django_hookflow.engine.time import Stopwatch
from django_hookflow.exceptions import RetryAfter, SerializationError, TerminalError


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The outcome is committed."""

    job: Job
    committed: Committed
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The attempt failed and is committed; the next may begin at ``job.not_before``."""

    job: Job
    committed: Committed
    delay: float
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The unit could not record: fenced, the database away, or the process ending."""

    error: BaseException


UnitEnd = Union[Settled, Failed, Broken]


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor:
    """What every unit of one delivery shares."""

    run: RunView
    fence: Fence
    hops: Hops
    codec: ValueCodec
    clients: CallClients
    stopwatch: Stopwatch
    max_value_bytes: int
    chance: Callable[[], float] = random.random

    async def unit(self, job: Job, *, alone: bool) -> UnitEnd:
        """Execute and record one attempt; ``alone`` keeps ``def`` code on the own thread."""
        started = self.stopwatch.elapsed()
        job.began, job.raised = self.stopwatch.surely(), None
        try:
            committed, delay, message = await self._attempt(job, alone=alone)
        except (Fenced, JournalUnavailable, asyncio.CancelledError) as error:
            return Broken(error=error)
        if delay is None:
            return Settled(job=job, committed=committed, seconds=self._since(started))
        job.attempt = committed.entry.attempt
        job.not_before = committed.entry.ready_at
        return Failed(job=job, committed=committed, delay=delay, message=message)

    def _since(self, started: float) -> float:
        return self.stopwatch.elapsed() - started

    async def _attempt(self, job: Job, *, alone: bool) -> tuple[Committed, float | None, str]:
        place.set(self._info(job))
        work = job.plan.work
        if job.plan.undo and not job.recorded and not isinstance(work, AtomicFunction):
            # An atomic one takes effect together with its record, or not at all.
            entry = replace(self._entry(job), attempt=job.attempt)
            begun = await self.hops.own(
                self.hops.journal.commit, Begin(fence=self.fence, entry=entry)
            )
            job.recorded = isinstance(begun, Committed)
        if isinstance(work, AtomicFunction):
            committed = await self._atomic(job, work, alone=alone)
            if isinstance(committed, Committed):
                return committed, None, ""
            return await self._record_failure(job, committed.error)
        text = await self._text(job, alone=alone)
        if isinstance(text, Raised):
            return await self._record_failure(job, text.error)
        entry = replace(self._entry(job), status=StepStatus.COMPLETED, value=text)
        return await self._commit(Record(fence=self.fence, entry=entry)), None, ""

    def _info(self, job: Job) -> StepInfo:
        timeout = job.plan.timeout
        return StepInfo(
            run_id=self.run.run_id,
            workflow_id=self.run.workflow_id,
            step_id=job.plan.request.step_id,
            occurrence=job.occurrence,
            attempt=job.attempt + 1,
            idempotency_key=self.idempotency_key(job),
            deadline=None if timeout is None else self.stopwatch.now() + timedelta(seconds=timeout),
        )

    def idempotency_key(self, job: Job) -> str:
        """The key of every attempt of this step."""
        return idempotency_key(str(self.run.id), self.run.generation, job.series, job.key)

    # --- what a step does

    async def _text(self, job: Job, *, alone: bool) -> Union[str, Raised]:
        value = await self._value(job, alone=alone)
        return value if isinstance(value, Raised) else self._text_of(value, job.plan.hint)

    def _text_of(self, value: Any, hint: Any) -> Union[str, Raised]:
        try:
            return self._encode(value, hint)
        except SerializationError as error:
            return Raised(error)

    def _encode(self, value: Any, hint: Any) -> str:
        return self.codec.encode(value, hint=hint, limit=self.max_value_bytes)

    async def _value(self, job: Job, *, alone: bool) -> Any:
        work, timeout = job.plan.work, job.plan.timeout
        if isinstance(work, HttpCall):
            return await self._call(job, work)
        assert isinstance(work, Function), "timers are not executed"
        if work.is_async:
            return await _run_async(lambda: work.fn(*work.args, **work.kwargs), timeout)
        bound = _Bound(work.fn, work.args, work.kwargs)

        def call() -> Any:
            return self.hops.journal.guard(bound)

        if timeout is None:
            hop = self.hops.slowly if alone else self.hops.side
            return await hop(catching, call)
        if not self.hops.pinned:
            return await self._on_thread(call, timeout)
        # Pinned to the own thread nothing can cut it short: judged when it ends.
        started = self.stopwatch.elapsed()
        value = await self.hops.own(catching, call)
        return value if self._since(started) <= timeout else _time_up(timeout)

    async def _on_thread(self, call: Callable[[], Any], timeout: float) -> Any:
        """Give up ``timeout`` seconds after the thread began; queueing is not the step's time."""
        loop, begun = asyncio.get_running_loop(), asyncio.Event()

        def begin() -> Any:
            loop.call_soon_threadsafe(begun.set)
            return catching(call)

        thread = asyncio.ensure_future(self.hops.side(begin))
        waiting = asyncio.ensure_future(begun.wait())
        await asyncio.wait({thread, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        value = await _run_async(lambda: asyncio.shield(thread), timeout)
        # A late result is discarded; retrieved, so that nobody is told it was not.
        thread.add_done_callback(lambda late: late.cancelled() or late.exception())
        return value

    async def _call(self, job: Job, call: HttpCall) -> Any:
        client, key = self.clients.current(), self.idempotency_key(job)
        timeout = call.timeout if job.plan.timeout is None else job.plan.timeout
        answer = await _run_async(lambda: perform(call, client, key), timeout)
        if isinstance(answer, Raised):
            if isinstance(answer.error, TimeUp):
                return Raised(
                    CallError(f"{call.method} {shown(call.url)}: no answer in {timeout:g} s")
                )
            return answer
        return answer.to_plain()

    async def _atomic(
        self, job: Job, work: AtomicFunction, *, alone: bool
    ) -> Union[Committed, Raised]:
        raised_by_work: list[BaseException] = []

        def text() -> str:
            try:
                return self._encode(work.fn(*work.args, **work.kwargs), work.hint)
            except BaseException as error:
                raised_by_work.append(error)
                raise

        transition = Atomic(
            fence=self.fence,
            entry=replace(self._entry(job), status=StepStatus.COMPLETED),
            work=text,
        )
        hop = self.hops.own if alone else self.hops.side
        result = await hop(catching, lambda: self.hops.journal.commit(transition))
        if isinstance(result, Raised):
            # A constraint that speaks up at COMMIT is the step's failure as well; what is no
            # Exception and not the work's is the end of this process.
            ours = not isinstance(result.error, Exception) and result.error not in raised_by_work
            if ours or isinstance(result.error, (Fenced, JournalUnavailable)):
                raise result.error
            return result
        assert isinstance(result, Committed), "only timers and events answer NotYet"
        return result

    # --- what is written

    def _entry(self, job: Job) -> Entry:
        request = job.plan.request
        return Entry(
            key=job.key,
            step_id=request.step_id,
            occurrence=job.occurrence,
            kind=request.kind,
            call=request.call,
            args_sha=job.args_sha,
            requested_seq=job.requested,
            series=job.series,
            attempt=job.attempt + 1,
            started_at=job.began,
            undo=job.plan.undo,
        )

    async def _record_failure(
        self, job: Job, error: BaseException
    ) -> tuple[Committed, float | None, str]:
        attempt, job.raised = job.attempt + 1, error
        kept = self._kept_answer(job, error, attempt)
        if isinstance(kept, Raised):
            error = kept.error
        elif kept is not None:
            entry = replace(self._entry(job), status=StepStatus.COMPLETED, value=kept)
            return await self._commit(Record(fence=self.fence, entry=entry)), None, ""
        step, limit = job.plan.request.step_id, self.max_value_bytes
        record = record_error(error, step=step, limit=limit)
        entry = replace(self._entry(job), status=StepStatus.FAILED, error=record)
        verdict = self._judge(job, error, attempt)
        if not isinstance(verdict, TryAgain):
            return await self._commit(Record(fence=self.fence, entry=entry)), None, ""
        transition = Attempted(
            fence=self.fence,
            entry=replace(entry, status=StepStatus.PENDING),
            retry_in=timedelta(seconds=verdict.delay),
        )
        return await self._commit(transition), verdict.delay, record.message

    def _judge(self, job: Job, error: BaseException, attempt: int) -> Any:
        if isinstance(error, CallError):
            if error.final:
                error = TerminalError(str(error))
            elif error.retry_after is not None:
                error = RetryAfter(error.retry_after)
        return judge(job.plan.retry, error, attempt=attempt, chance=self.chance())

    def _kept_answer(
        self, job: Job, error: BaseException, attempt: int
    ) -> Union[str, Raised, None]:
        """A transient answer is the value if nobody asked to raise and no attempt is left."""
        work = job.plan.work
        if not isinstance(error, CallError) or error.response is None:
            return None
        if not isinstance(work, HttpCall) or work.raise_for_status:
            return None
        if isinstance(self._judge(job, error, attempt), TryAgain):
            return None
        return self._text_of(error.response.to_plain(), Any)

    async def _commit(self, transition: Union[Record, Attempted]) -> Committed:
        committed = await self.hops.own(self.hops.journal.commit, transition)
        assert isinstance(committed, Committed), "only timers and events answer NotYet"
        return committed


class _Bound:
    """A call with its arguments; unlike a lambda it shows the user's function in tracebacks."""

    __slots__ = ("args", "fn", "kwargs")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> None:
        self.fn, self.args, self.kwargs = fn, args, kwargs

    def __call__(self) -> Any:
        return self.fn(*self.args, **self.kwargs)


async def _run_async(start: Callable[[], Any], timeout: float | None) -> Any:
    try:
        task = await bounded(start, timeout, contextvars.copy_context())
    except asyncio.CancelledError:
        raise
    except Exception as error:  # calling fn itself raised, before there was a coroutine
        return Raised(error)
    if task is None:
        assert timeout is not None, "without a timeout it ends by itself"
        return _time_up(timeout)
    if task.cancelled():
        return Raised(asyncio.CancelledError("the step cancelled itself"))
    raised = task.exception()
    return task.result() if raised is None else Raised(raised)


def _time_up(timeout: float) -> Raised:
    return Raised(TimeUp(f"the step ran longer than its timeout of {timeout:g} s"))
