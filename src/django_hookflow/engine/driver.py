"""Runs one delivery from the message to the answer.

The answers are the table of the protocol, section 4; the edge turns an :class:`Answer` into
an HTTP response. This is the boundary to user code: whatever a workflow raises ends here.

Longer than other modules because the table's rows stand beside each other here, in order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol, Union
from uuid import UUID

from django_hookflow.core import admission
from django_hookflow.core.entries import WINDING_UP, Entry, ErrorRecord, Kind, RunStatus
from django_hookflow.core.grouping import first_of
from django_hookflow.core.ports import ValueCodec
from django_hookflow.core.retry import RetryPolicy
from django_hookflow.core.transitions import (
    Claim,
    Claimed,
    Fail,
    Fence,
    Fenced,
    Finish,
    JournalUnavailable,
    Rearm,
    Release,
    RunView,
    SignalsMoved,
    StaysPaused,
    Suspend,
    unchanged,
)
from django_hookflow.engine import events
from django_hookflow.engine.bodies import (
    BodyEnd,
    Parked,
    Returned,
    Threw,
    rehearse_async_body,
    run_async_body,
    run_sync_body,
)
from django_hookflow.engine.callbacks import Callbacks, UrlOf
from django_hookflow.engine.calls import CallClients
from django_hookflow.engine.context import SyncWorkflowContext, WorkflowContext
from django_hookflow.engine.execute import Executor
from django_hookflow.engine.hops import Hops
from django_hookflow.engine.leases import Lease, LeaseKeeper
from django_hookflow.engine.live_state import LiveState
from django_hookflow.engine.loop import FOREIGN_AWAIT as ADVICE
from django_hookflow.engine.outcomes import run_error
from django_hookflow.engine.publishing import apublish_owed, batches, cancel_orphans
from django_hookflow.engine.scheduler import Scheduler
from django_hookflow.engine.steps import Steps
from django_hookflow.engine.suspending import StopSign, block_delay
from django_hookflow.engine.telling import Teller
from django_hookflow.engine.time import Clock, Stopwatch
from django_hookflow.engine.undoing import to_be_undone
from django_hookflow.engine.winding_up import winding_up
from django_hookflow.exceptions import (
    SerializationError,
    TransportError,
    WorkflowDefinitionError,
)
from django_hookflow.journals.base import Journal
from django_hookflow.transports.base import Transport

logger = logging.getLogger("django_hookflow.delivery")


class Runnable(Protocol):
    """What the driver needs of a workflow."""

    fn: Callable[[Any], Any]
    is_async: bool
    retry: RetryPolicy | None
    result_hint: Any
    on_failure: Union[Callable[..., Any], None]


class _Removed:
    """In place of a workflow that a cancelled run has outlived.

    What undoes its steps is in the journal, and nobody is told of a cancel; a failing run may
    have an ``on_failure`` and has to wait for its workflow.
    """

    is_async = False
    result_hint: Any = Any
    retry: RetryPolicy | None = None
    on_failure: Union[Callable[..., Any], None] = None

    def __init__(self) -> None:
        self.fn: Callable[[Any], Any] = _never


def _never(_: Any) -> None:
    """The body of a cancelled run is not run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The settings that a delivery obeys, read when it begins."""

    delivery_seconds: float
    lease: timedelta
    max_value_bytes: int
    max_delay: timedelta
    threads: int
    retry: RetryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the message service is told; ``retry_after`` is whole seconds."""

    status: int
    note: str
    retry_after: int | None = None


DONE = Answer(status=200, note="done")
UNAVAILABLE = Answer(status=503, note="database unavailable", retry_after=5)
OUT_OF_TIME = ErrorRecord(
    type="TimeoutError",
    message="the run took longer than its workflow's timeout",
    classes=("builtins.TimeoutError", "builtins.OSError", "builtins.Exception"),
)
GONE = Answer(status=489, note="unknown run")
DEPLOYING = Answer(status=503, note="workflow not registered here", retry_after=30)


@dataclass(frozen=True, kw_only=True)
class Driver:
    """Delivers wake-ups to runs. One per process; every delivery has its own scheduler.

    Without a ``transport`` nothing is published: wake-ups stay owed in the rows, where a
    worker finds what is due.
    """

    journal: Journal
    transport: Union[Transport, None]
    find: Callable[[str, str], Union[Runnable, None]]
    codec: Callable[[], ValueCodec]
    limits: Callable[[], Limits]
    pool: Callable[[], ThreadPoolExecutor]
    keeper: Union[LeaseKeeper, None]
    clock: Clock
    observe: events.Observer
    clients: CallClients
    callback_url: UrlOf
    #: The bridges of each delivery; a simulation brings its own, which need no threads.
    hops: Callable[[Journal, Callable[[], ThreadPoolExecutor]], Hops] = Hops

    async def deliver(
        self,
        run: UUID,
        wake: int,
        *,
        stop: StopSign | None = None,
        lasting_loop: bool = True,
    ) -> Answer:
        """Look at ``run`` as wake-up ``wake`` asks, go on as far as it goes, and answer.

        ``lasting_loop`` is False where the running loop ends with the request (WSGI).
        """
        hops = self.hops(self.journal, self.pool)
        delivery = _Delivery(self, hops, stop or StopSign(), lasting_loop)
        try:
            await hops.prepare()
            return await delivery.answer(run, wake)
        except JournalUnavailable as error:
            logger.warning("run %s: the database is not to be had: %s", run, error)
            return UNAVAILABLE
        finally:
            if not lasting_loop:
                await self.clients.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A run that this delivery has claimed, with what it takes to go on with it."""

    claimed: Claimed
    workflow: Runnable
    fence: Fence
    stopwatch: Stopwatch
    lease: Lease
    state: LiveState

    @property
    def run(self) -> RunView:
        return self.claimed.run


class _Delivery:
    """One delivery: what :meth:`Driver.deliver` does, with its state."""

    def __init__(self, driver: Driver, hops: Hops, stop: StopSign, lasting_loop: bool) -> None:
        self.driver = driver
        self.hops = hops
        self.stop = stop
        self.lasting_loop = lasting_loop
        self.limits = driver.limits()

    async def answer(self, run: UUID, wake: int) -> Answer:
        while True:
            view = await self.hops.own(self.driver.journal.look, run)
            workflow = self._workflow(view) if view else None
            admitted = admission.admit(view, wake=wake, registered=workflow is not None)
            if view is None or workflow is None or not isinstance(admitted, admission.Proceed):
                return await self._without_claim(run, view, admitted, wake)
            stopwatch = Stopwatch(self.driver.clock)
            asked_at = stopwatch.before()
            claim = Claim(id=run, wake=wake, lease=self.limits.lease)
            claimed = await self.hops.own(self.driver.journal.claim, claim)
            if isinstance(claimed, Claimed):
                stopwatch.sync(claimed.run.now, asked_at)
                return await self._run(claimed, workflow, stopwatch)

    def _workflow(self, view: RunView) -> Runnable | None:
        found = self.driver.find(view.workflow_id, view.version)
        # Nothing un-cancels a run: what is claimed next is cancelling too.
        if found is None and view.status is RunStatus.CANCELLING:
            return _Removed()
        return found

    # --- rows 5 to 11: nothing is executed

    async def _without_claim(
        self, run: UUID, view: RunView | None, admitted: admission.Admission, wake: int
    ) -> Answer:
        if isinstance(admitted, admission.UnknownRun):
            # Two environments behind one URL, or a restored database.
            logger.error("a signed wake-up names run %s, which does not exist here", run)
            return GONE
        if isinstance(admitted, admission.Ended):
            return Answer(status=200, note="paused" if admitted.paused else "done")
        if isinstance(admitted, admission.UnknownWorkflow):
            if admitted.blocked:
                await self.hops.own(self.driver.journal.note_blocked, run, admitted.blocked)
            return DEPLOYING
        if isinstance(admitted, admission.Busy):
            return Answer(status=503, note="busy", retry_after=admitted.retry_after)
        note = "stale"
        owed = view is not None and view.owed_at is not None
        if isinstance(admitted, admission.Covered):
            note = "covered"
        elif isinstance(admitted, admission.Early):
            note = "early"
            rearm = Rearm(id=run, wake=wake)
            owed = await self.hops.own(self.driver.journal.rearm, rearm) or owed
        answer = Answer(status=200, note=note)
        return await self._publish([run], answer) if owed else answer

    # --- row 12 on

    async def _run(self, claimed: Claimed, workflow: Runnable, stopwatch: Stopwatch) -> Answer:
        run, driver = claimed.run, self.driver
        lease = Lease(run.id, run.epoch)
        # On a pinned thread (a test's transaction) the keeper's own connection would see nothing.
        keeper = None if self.hops.pinned else driver.keeper
        if keeper is not None:
            keeper.hold(lease)
        self._tell_claimed(claimed)
        state = self._state(run)
        held = _Held(
            claimed=claimed,
            workflow=workflow,
            fence=Fence(id=run.id, epoch=run.epoch, lease=self.limits.lease, state=state.change),
            stopwatch=stopwatch,
            lease=lease,
            state=state,
        )
        try:
            return await self._execute(held)
        except Fenced:
            driver.observe(events.HolderFenced(**_names(run), epoch=run.epoch))
            return Answer(status=200, note="fenced")
        except JournalUnavailable:
            raise
        except Exception:
            # A defect of ours. The lease is left to run out, so that a run that keeps doing
            # this counts deaths and is blocked instead of being tried for ever.
            logger.exception("run %s: the delivery broke", run.run_id)
            seconds = int(self.limits.lease.total_seconds()) + 1
            return Answer(status=503, note="delivery broke", retry_after=seconds)
        finally:
            if keeper is not None:
                keeper.drop(lease)

    async def _execute(self, held: _Held) -> Answer:
        run, workflow = held.run, held.workflow
        if run.failing or run.status is RunStatus.CANCELLING:
            return await self._wind_up(held)
        scheduler = self._scheduler(held)
        if run.deadline is not None and held.stopwatch.until(run.deadline) <= 0:
            return await self._fail(held, scheduler, OUT_OF_TIME, None)
        try:
            data = self.driver.codec().decode(run.data)
            held.state.read()
        except SerializationError as error:
            reason = f"the run's data or state is not read: {error}"
            return await self._block(scheduler, held.fence, reason)
        steps = self._steps(scheduler, workflow.retry or self.limits.retry)
        end: BodyEnd
        if workflow.is_async:
            end = await run_async_body(
                scheduler, workflow.fn, WorkflowContext(scheduler, data, steps)
            )
        else:
            end = await run_sync_body(
                scheduler, workflow.fn, SyncWorkflowContext(scheduler, data, steps)
            )
        return await self._conclude(held, scheduler, end)

    # --- after the body

    async def _fail(
        self,
        held: _Held,
        scheduler: Scheduler,
        error: ErrorRecord,
        raised: Union[BaseException, None],
    ) -> Answer:
        """End a run that failed, or begin what has to follow that."""
        run, fence = held.run, held.fence
        entries = tuple(scheduler.replay.without(()))
        if held.workflow.on_failure is None and not to_be_undone(entries):
            return await self._finish(run, fence, RunStatus.FAILED, error, raised=raised)
        answer = await self.hops.own(self.driver.journal.fail, Fail(fence=fence, error=error))
        if isinstance(answer, StaysPaused):
            return Answer(status=200, note="paused")
        if isinstance(answer, SignalsMoved):
            return await self._due_again(run, fence, answer.seen)
        seq = max((entry.seq or 0 for entry in entries), default=0)
        run = replace(run, error=error, seq=max(seq, run.seq))
        claimed = replace(held.claimed, run=run, entries=entries)
        return await self._wind_up(replace(held, claimed=claimed), raised)

    async def _wind_up(self, held: _Held, raised: Union[BaseException, None] = None) -> Answer:
        """Call ``on_failure`` and the compensations, then end the run."""
        run, workflow, fence = held.run, held.workflow, held.fence
        cancelled = run.status is RunStatus.CANCELLING
        entries = held.claimed.entries
        # Cancelled after it failed, or deployed without it since: nobody asks for it again. Nor
        # is it put before compensations that are recorded, by a deploy that brought it.
        known = {entry.kind for entry in entries if entry.is_outcome}
        late = Kind.UNDO in known and Kind.ON_FAILURE not in known
        tells = workflow.on_failure is not None and not cancelled and not late
        kinds = WINDING_UP if tells else (Kind.UNDO,)
        if Kind.UNDO not in known and to_be_undone(entries):
            await self._cancel_children(entries)
        mine = tuple(entry for entry in entries if entry.kind in kinds)
        claimed = replace(held.claimed, entries=mine)
        scheduler = self._scheduler(replace(held, claimed=claimed), winding_up=True)
        body = winding_up(
            scheduler,
            entries,
            workflow.retry or self.limits.retry,
            on_failure=workflow.on_failure if tells else None,
            error=run.error,
        )
        end = await run_async_body(scheduler, body, None)
        if isinstance(end, Parked):
            return await self._parked(scheduler)
        if isinstance(end, Threw):
            if self._is_of_the_machine(end.error):
                return await self._released(run, fence, end.error)
            return await self._block(scheduler, fence, str(end.error))
        status = RunStatus.CANCELLED if cancelled else RunStatus.FAILED
        return await self._finish(run, fence, status, run.error, raised=raised)

    async def _cancel_children(self, entries: Sequence[Entry]) -> None:
        """Those that are at work while their run is undone: it cannot be retried any more, so
        nobody would collect, or undo, what they still come to.
        """
        children = [each.child for each in entries if each.child and not each.is_outcome]
        owing = await self.hops.own(cancel_orphans, self.driver.journal, children)
        if owing:
            await self._wake(owing)

    async def _due_again(self, run: RunView, fence: Fence, seen: int) -> Answer:
        """Cancelled while its body came to an end: the next delivery winds it up."""
        while True:
            suspend = Suspend(fence=fence, seen=seen, due=timedelta(0))
            answer = await self.hops.own(self.driver.journal.suspend, suspend)
            if not isinstance(answer, SignalsMoved):
                break
            seen = answer.seen
        owed = not isinstance(answer, StaysPaused) and answer.owed
        return await self._publish([run.id], DONE) if owed else DONE

    def _state(self, run: RunView) -> LiveState:
        limit = self.limits.max_value_bytes
        return LiveState(run.state, run.state_n, self.driver.codec(), limit)

    def _scheduler(self, held: _Held, *, winding_up: bool = False) -> Scheduler:
        executor = Executor(
            run=held.run,
            fence=held.fence,
            hops=self.hops,
            codec=self.driver.codec(),
            clients=self.driver.clients,
            stopwatch=held.stopwatch,
            max_value_bytes=self.limits.max_value_bytes,
        )
        return Scheduler(
            claimed=held.claimed,
            executor=executor,
            lease=held.lease,
            stop=self.stop,
            clock=self.driver.clock,
            delivery_seconds=self.limits.delivery_seconds,
            threads=self.limits.threads,
            observe=self.driver.observe,
            wake=self._wake,
            winding_up=winding_up,
            state=held.state,
        )

    def _steps(self, scheduler: Scheduler, retry: RetryPolicy) -> Steps:
        run = scheduler.run
        callbacks = Callbacks(run.id, run.generation, self.driver.callback_url)
        return Steps(_scheduler=scheduler, _default_retry=retry, _callbacks=callbacks)

    async def _wake(self, children: Sequence[UUID]) -> None:
        """What the message service does not take stays owed in the children's rows."""
        await self._publish(children, DONE)

    async def _conclude(self, held: _Held, scheduler: Scheduler, end: BodyEnd) -> Answer:
        run, fence = held.run, held.fence
        if isinstance(end, Parked):
            return await self._parked(scheduler)
        if isinstance(end, Threw) and self._is_of_the_machine(end.error):
            return await self._released(run, fence, end.error)
        mismatch = scheduler.leftover()
        if mismatch is not None:
            return await self._block(scheduler, fence, mismatch.reason)
        ending = self._ending(run, held.workflow, end)
        if isinstance(ending, ErrorRecord):
            raised = end.error if isinstance(end, Threw) else None
            if raised is not None:
                uncaught = self._uncaught(held, scheduler, raised)
                ending = replace(ending, uncaught=uncaught)
            return await self._fail(held, scheduler, ending, raised)
        return await self._finish(run, fence, RunStatus.COMPLETED, result=ending)

    async def _parked(self, scheduler: Scheduler) -> Answer:
        assert scheduler.end is not None, "a parked body has ended its delivery"
        return await self._publish([scheduler.run.id], DONE) if scheduler.end.owed else DONE

    def _is_of_the_machine(self, error: BaseException) -> bool:
        """Whether it says nothing of the workflow, in a group of errors too."""
        return first_of(error, self.driver.journal.infrastructure_errors) is not None

    async def _released(self, run: RunView, fence: Fence, error: BaseException) -> Answer:
        logger.warning("run %s: %r in the workflow's body", run.run_id, error)
        await self.hops.own(self.driver.journal.release, Release(fence=fence))
        return Answer(status=503, note="infrastructure error in the body", retry_after=5)

    def _uncaught(self, held: _Held, scheduler: Scheduler, error: BaseException) -> tuple[str, ...]:
        """What a retry executes again: never what others in the journal are built on."""
        workflow = held.workflow
        certain, late = scheduler.uncaught(error)
        if not late or not workflow.is_async:
            return certain  # a def body asks for one thing after the other
        entries = tuple(scheduler.replay.without((*certain, *late)))
        run = replace(held.run, seq=max((entry.seq or 0 for entry in entries), default=0))
        claimed = replace(held.claimed, run=run, entries=entries)
        lease = Lease(run.id, run.epoch)
        lonely = replace(held, claimed=claimed, lease=lease, state=self._state(run))
        rehearsal = self._scheduler(lonely)
        steps = self._steps(rehearsal, self.limits.retry)
        ctx = WorkflowContext(rehearsal, self.driver.codec().decode(run.data), steps)
        fits = rehearse_async_body(rehearsal, workflow.fn, ctx)
        return (*certain, *late) if fits else certain

    def _ending(
        self, run: RunView, workflow: Runnable, end: Union[Returned, Threw]
    ) -> Union[str, ErrorRecord]:
        if isinstance(end, Threw):
            if blocking := first_of(end.error, self.driver.journal.sync_only_errors):
                return run_error(WorkflowDefinitionError(f"{blocking} In a workflow: {ADVICE}"))
            logger.info("run %s failed", run.run_id, exc_info=end.error)
            return run_error(end.error)
        try:
            return self.driver.codec().encode(
                end.value, hint=workflow.result_hint, limit=self.limits.max_value_bytes
            )
        except SerializationError as error:
            return run_error(error)

    async def _finish(
        self,
        run: RunView,
        fence: Fence,
        status: RunStatus,
        error: Union[ErrorRecord, None] = None,
        *,
        result: Union[str, None] = None,
        raised: Union[BaseException, None] = None,
    ) -> Answer:
        finish = Finish(
            fence=fence,
            status=status,
            result=result,
            error=error,
            parent=run.parent,
            parent_step=run.parent_step,
        )
        answer = await self.hops.own(self.driver.journal.finish, finish)
        if isinstance(answer, StaysPaused):
            return Answer(status=200, note="paused")
        if isinstance(answer, SignalsMoved):
            return await self._due_again(run, fence, answer.seen)
        message = error.message if error is not None else ""
        self.driver.observe(
            events.RunEnded(
                **_names(run), status=str(finish.status), message=message, raised=raised
            )
        )
        return DONE if run.parent is None else await self._publish([run.parent], DONE)

    async def _block(self, scheduler: Scheduler, fence: Fence, reason: str) -> Answer:
        run, seen = scheduler.run, scheduler.run.signals
        fence = replace(fence, state=unchanged)  # what does not fit tells nothing that is so
        due = block_delay(run.blocked_n)
        while True:
            suspend = Suspend(fence=fence, seen=seen, due=due, blocked=reason)
            answer = await self.hops.own(self.driver.journal.suspend, suspend)
            if not isinstance(answer, SignalsMoved):
                break
            seen = answer.seen  # what arrived cannot help a run whose code does not fit
            if answer.cancelling and run.status is not RunStatus.CANCELLING:
                reason, due = "", timedelta(0)  # but it need not fit to be undone
        Teller(run, self.driver.observe).suspended(blocked=reason)
        owed = not isinstance(answer, StaysPaused) and answer.owed
        return await self._publish([run.id], DONE) if owed else DONE

    async def _publish(self, runs: Sequence[UUID], answer: Answer) -> Answer:
        """Publish what the rows owe; row 13 if the message service does not take it."""
        if self.driver.transport is None:
            return answer
        sent = 0
        try:
            for batch in batches(runs):
                await apublish_owed(
                    self.hops,
                    self.driver.transport,
                    batch,
                    max_delay=self.limits.max_delay,
                    lasting_loop=self.lasting_loop,
                )
                sent += len(batch)
        except TransportError as error:
            for run in runs[sent:]:
                self.driver.observe(
                    events.PublishOwed(id=run, run_id="", workflow_id="", message=str(error))
                )
            delay = int(min(max(error.retry_after or 0, 10), 3600))
            return Answer(status=503, note="wake-up owed", retry_after=delay)
        return answer

    def _tell_claimed(self, claimed: Claimed) -> None:
        self.driver.observe(
            events.DeliveryClaimed(
                **_names(claimed.run),
                epoch=claimed.run.epoch,
                recorded=sum(entry.is_outcome for entry in claimed.entries),
                found_dead=claimed.found_dead,
            )
        )


def _names(run: RunView) -> dict[str, Any]:
    return {"id": run.id, "run_id": run.run_id, "workflow_id": run.workflow_id}
