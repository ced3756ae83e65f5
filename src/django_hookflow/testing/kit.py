"""``Hookflow``: what a test drives its workflows with.

Everything is written once, as a coroutine; the sync method runs it on a loop of its own, from
which the database work comes back to the test's thread, as in Django's own ``async def`` tests.

Longer than other modules because every method is there twice, for sync and for async tests.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import Any, TypeVar, Union

from asgiref.sync import sync_to_async

from django_hookflow.answering import ACCEPTED, answer_at
from django_hookflow.conf import options
from django_hookflow.core.entries import TERMINAL, RunStatus
from django_hookflow.core.tags import Given
from django_hookflow.engine import events
from django_hookflow.engine.callbacks import Callback
from django_hookflow.exceptions import StepFailed
from django_hookflow.models import WorkflowRun
from django_hookflow.reading import pending_of
from django_hookflow.registry import registry
from django_hookflow.runtime import runtime
from django_hookflow.signals import log_event
from django_hookflow.testing.errors import HookflowTestError
from django_hookflow.testing.faults import AFTER, BEFORE_RECORD, PlannedCrash
from django_hookflow.testing.inside import Inside
from django_hookflow.testing.loops import on_own_loop, refuse_in_loop
from django_hookflow.wording import why
from django_hookflow.workflow import Delay, Workflow

logger = logging.getLogger("django_hookflow.testing")

T = TypeVar("T")

#: Deliveries of one call: a workflow without end fails its test after some seconds.
MAX_DELIVERIES = 200
MORE = "if they are meant to take more, write Hookflow(max_deliveries=...)"


class Hookflow:
    """Runs workflows inside a test: in-memory messages, virtual time, the test's own thread.

    A context manager. Inside it every ``trigger`` in this process, the project's own too, is
    the kit's to drive, and no setting of QStash is needed. ``now`` is the virtual time to start
    at, an aware ``datetime`` (default: the real time). No call makes more deliveries than
    ``max_deliveries``, so that a workflow without end fails its test.
    """

    def __init__(
        self, *, now: Union[datetime, None] = None, max_deliveries: int = MAX_DELIVERIES
    ) -> None:
        self._start = _checked(now)
        self._max_deliveries = max_deliveries
        self._inside: Union[Inside, None] = None
        #: What steps and workflows raised, in order, also if a retry or an ``except`` followed.
        self.errors: list[BaseException] = []

    def __enter__(self) -> Hookflow:
        if not runtime.sends:
            raise HookflowTestError(
                "a Hookflow is entered already, by the fixture, the mixin or an outer `with`: "
                "use that one"
            )
        self.errors = []
        self._inside = Inside(self._start or datetime.now(timezone.utc), self._observe)
        return self

    def __exit__(
        self,
        kind: Union[type[BaseException], None],
        error: Union[BaseException, None],
        traceback: Union[TracebackType, None],
    ) -> None:
        inside, self._inside = self._entered(), None
        inside.leave()
        if error is None:
            inside.check_faults()

    # --- time

    @property
    def now(self) -> datetime:
        """The virtual time."""
        return self._entered().clock.now()

    def advance(
        self, *, seconds: float = 0, minutes: float = 0, hours: float = 0, days: float = 0
    ) -> int:
        """Let so much time pass and deliver all that falls due, in order; how many deliveries."""
        passing = timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days)
        return self._sync("advance", lambda: self._until(passing))

    async def aadvance(
        self, *, seconds: float = 0, minutes: float = 0, hours: float = 0, days: float = 0
    ) -> int:
        """:meth:`advance` for async tests."""
        passing = timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days)
        return await self._until(passing)

    def drain(self) -> int:
        """Deliver all that is due now, and what comes of it; how many deliveries it were."""
        return self._sync("drain", lambda: self._until(timedelta(0)))

    async def adrain(self) -> int:
        """:meth:`drain` for async tests."""
        return await self._until(timedelta(0))

    # --- runs

    def trigger(
        self,
        workflow: Workflow[Any],
        data: Any = None,
        *,
        run_id: Union[str, None] = None,
        delay: Delay = None,
        not_before: Union[datetime, None] = None,
        tags: Given = None,
    ) -> WorkflowRun:
        """``workflow.trigger(...)``; returns the run, of which nothing is executed yet."""
        self._check(workflow, "trigger")
        refuse_in_loop("trigger")
        more: Any = {"run_id": run_id, "delay": delay, "not_before": not_before, "tags": tags}
        name = workflow.trigger(data, **more)
        return _run(name)

    async def atrigger(
        self,
        workflow: Workflow[Any],
        data: Any = None,
        *,
        run_id: Union[str, None] = None,
        delay: Delay = None,
        not_before: Union[datetime, None] = None,
        tags: Given = None,
    ) -> WorkflowRun:
        """:meth:`trigger` for async tests."""
        self._check(workflow, "atrigger")
        more: Any = {"run_id": run_id, "delay": delay, "not_before": not_before, "tags": tags}
        name = await workflow.atrigger(data, **more)
        return await sync_to_async(_run)(name)

    def run(
        self,
        workflow: Workflow[Any],
        data: Any = None,
        *,
        run_id: Union[str, None] = None,
        delay: Delay = None,
        not_before: Union[datetime, None] = None,
        tags: Given = None,
    ) -> WorkflowRun:
        """Start a run and drive it to its end, skipping time; a failed one is returned as well.

        Raises :class:`HookflowTestError` for a run that is blocked, waits for ever, or does
        not end within ``max_deliveries``.
        """
        self._check(workflow, "run")
        more: Any = {"run_id": run_id, "delay": delay, "not_before": not_before, "tags": tags}
        return self._sync("run", lambda: self._whole(workflow, data, **more))

    async def arun(
        self,
        workflow: Workflow[Any],
        data: Any = None,
        *,
        run_id: Union[str, None] = None,
        delay: Delay = None,
        not_before: Union[datetime, None] = None,
        tags: Given = None,
    ) -> WorkflowRun:
        """:meth:`run` for async tests."""
        self._check(workflow, "arun")
        more: Any = {"run_id": run_id, "delay": delay, "not_before": not_before, "tags": tags}
        return await self._whole(workflow, data, **more)

    # --- from outside

    def answer(self, cb: Union[Callback, str], data: Any = None) -> None:
        """Answer a callback as a POST of JSON to its URL would; drive the runs afterwards.

        ``cb`` is its URL, as a step was given it. Raises :class:`HookflowTestError` where the
        view would refuse: an expired URL, a second answer, a run that is over.
        """
        self._sync("answer", lambda: self._answer(cb, data))

    async def aanswer(self, cb: Union[Callback, str], data: Any = None) -> None:
        """:meth:`answer` for async tests."""
        await self._answer(cb, data)

    # --- faults

    def crash_after(self, step_id: str) -> None:
        """The process dies once, right after the outcome of this step is committed.

        The run goes on in another delivery once the lease has run out (virtual time). What the
        step did is not done again. ``"charge#2"`` is the second step of that id.
        """
        self._plan_crash("crash_after", step_id, AFTER)

    def crash_before_record(self, step_id: str) -> None:
        """The process dies once, after the body of this step ran and before that is recorded.

        The body runs again, under the same idempotency key; of an ``atomic`` step it is rolled
        back first.
        """
        self._plan_crash("crash_before_record", step_id, BEFORE_RECORD)

    def duplicate_deliveries(self) -> None:
        """From now on every message is delivered twice."""
        self._entered().messages.doubled = True

    def lose_next_message(self) -> None:
        """The next message is lost; the sweeper brings its run back (virtual time)."""
        self._entered().messages.to_lose += 1

    def _plan_crash(self, name: str, step_id: str, points: frozenset[str]) -> None:
        if not isinstance(step_id, str):
            raise TypeError(f"{name}() takes a step_id, not {step_id!r}")
        crash = PlannedCrash(step_id=step_id, points=points, asked=f"{name}({step_id!r})")
        self._entered().journal.planned.append(crash)

    async def _answer(self, cb: Union[Callback, str], data: Any) -> None:
        self._entered()
        answer = await sync_to_async(answer_at)(cb.url if isinstance(cb, Callback) else cb, data)
        if answer.status != ACCEPTED.status:
            raise HookflowTestError(f"the answer is refused with {answer.status}: {answer.note}")

    # --- driving

    async def _until(self, passing: timedelta) -> int:
        if passing < timedelta(0):
            raise ValueError(f"time does not go back: {passing}")
        async with self._driving() as inside:
            until, before = inside.clock.now() + passing, inside.messages.delivered
            left = self._max_deliveries
            while (at := await inside.messages.next_at()) is not None and at <= until:
                if not left:
                    going = await sync_to_async(_going)(inside.clock.now())
                    raise HookflowTestError(
                        f"{self._max_deliveries} deliveries were not enough for what falls "
                        f"due{going}; {MORE}"
                    )
                left -= 1
                await inside.messages.happen(at)
                until = max(until, inside.clock.now())
            inside.clock.move_to(until)
            return inside.messages.delivered - before

    async def _whole(self, workflow: Workflow[Any], data: Any, **more: Any) -> WorkflowRun:
        async with self._driving() as inside:
            run = await sync_to_async(_run)(await workflow.atrigger(data, **more))
            left, blocked_n = self._max_deliveries, run.blocked_n
            while run.status not in TERMINAL:
                at = await inside.messages.next_at()
                # One that was blocked before may have been mended: it is looked at once more.
                if problem := _stuck(run, left, at, looked=run.blocked_n > blocked_n):
                    sentence = await sync_to_async(_sentence)(run, inside.clock.now())
                    raise HookflowTestError(f"run {run.run_id!r} {sentence}{problem}")
                assert at is not None, "else it is stuck"
                left -= 1
                await inside.messages.happen(at)
                run = await sync_to_async(_run)(run.run_id)
            inside.check_faults()
            return run

    @asynccontextmanager
    async def _driving(self) -> AsyncIterator[Inside]:
        inside = self._entered()
        if inside.driving:
            raise HookflowTestError(
                "runs are being driven already: drive them from the test, one call after the "
                "other, not from inside a workflow or a task beside"
            )
        inside.driving = True
        try:
            await sync_to_async(inside.check_thread)()
            yield inside
        finally:
            inside.driving = False

    def _sync(self, name: str, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self._entered()
        refuse_in_loop(name)
        return on_own_loop(start)

    def _entered(self) -> Inside:
        if self._inside is None:
            raise HookflowTestError(
                "this Hookflow is not entered: write `with Hookflow() as hookflow:`, or use the "
                "fixture or the mixin"
            )
        return self._inside

    def _check(self, workflow: Any, name: str) -> None:
        self._entered()
        if not isinstance(workflow, Workflow):
            raise TypeError(f"{name}() takes a workflow made by @workflow, not {workflow!r}")
        if registry.find(workflow.workflow_id, workflow.version) is None:
            raise HookflowTestError(
                f"workflow {workflow.workflow_id!r} is not registered: it was removed, or its "
                "module was loaded for another registry"
            )

    def _observe(self, event: events.EngineEvent) -> None:
        log_event(event)
        if not isinstance(event, (events.StepWillRetry, events.StepRecorded, events.RunEnded)):
            return
        # What came out of a step is there already when it comes out of the body too.
        if event.raised is None or isinstance(event.raised, StepFailed):
            return
        self.errors.append(event.raised)
        if not isinstance(event, events.StepWillRetry):
            what = event.key if isinstance(event, events.StepRecorded) else "the workflow"
            logger.warning("%s: %s raised", event.run_id, what, exc_info=event.raised)


def _checked(now: Any) -> Union[datetime, None]:
    if now is None or (isinstance(now, datetime) and now.utcoffset() is not None):
        return now
    raise ValueError(f"now is an aware datetime, not {now!r}")


def _run(run_id: str) -> WorkflowRun:
    run: WorkflowRun = WorkflowRun.objects.using(options.database).get(run_id=run_id)
    return run


def _stuck(run: WorkflowRun, left: int, at: Union[datetime, None], *, looked: bool) -> str:
    """Why there is no use in going on; empty if there is."""
    if run.blocked and looked:
        return ", and no passing of time mends that"
    if at is None or run.status == RunStatus.PAUSED:
        return ", and nothing is there that would wake it"
    if not left:
        return f", and all the deliveries that it may take were not enough; {MORE}"
    return ""


def _sentence(run: WorkflowRun, now: datetime) -> str:
    return why(run, pending_of([run])[run.pk], now)


def _going(now: datetime) -> str:
    """The runs that are still going, for a message."""
    active = WorkflowRun.objects.using(options.database).active().order_by("pk")
    told = [f"run {run.run_id!r} {_sentence(run, now)}" for run in active[:3]]
    return "".join(f"; {each}" for each in told)
