"""What the controls on ``WorkflowRun`` do; installed into ``core.ports`` by the app."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.apps import apps
from django.db.models import ExpressionWrapper, F, TextField

from django_hookflow import forking
from django_hookflow.batches import pages
from django_hookflow.conf import options
from django_hookflow.core import ports
from django_hookflow.core.entries import PAUSABLE, TERMINAL, Kind, RunStatus
from django_hookflow.core.requests import check_dedup_id, check_event_name
from django_hookflow.core.showing import show
from django_hookflow.core.transitions import (
    Cancel,
    Compensated,
    NotFailed,
    Over,
    Pause,
    Replaced,
    Resume,
    Retry,
    RunView,
    SendEvent,
    Unchanged,
)
from django_hookflow.engine.place import refuse_in_body
from django_hookflow.exceptions import (
    RunCancelled,
    RunCompensated,
    RunFailed,
    RunFinished,
    RunNotFinished,
    WorkflowDefinitionError,
)
from django_hookflow.journals.base import Journal
from django_hookflow.registry import registry
from django_hookflow.runtime import Runtime
from django_hookflow.starts import committed_or_defer

#: Seconds between two looks at a run that is waited for: the first, and the longest.
FIRST_POLL = 0.05
LONGEST_POLL = 1.0
#: What makes a run owe a wake-up.
WAKING = frozenset({"cancel", "resume", "retry"})


class RunControls:
    """Controls over this process's runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def database(self) -> str:
        """The alias of the database that the journal writes to."""
        return options.database

    def cancel(self, run: UUID, *, compensate: bool = True) -> None:
        """End the run; raises ``RunFinished`` if it is over, ``DoesNotExist`` if unknown.

        At once, unless ``compensate`` and it has steps to undo. Its children end with it.
        """
        self._cancel(run, compensate=compensate)
        tell = partial(self._runtime.wakes.cancelled, run, compensate=compensate)
        self._runtime.journal.on_commit(tell)

    def _cancel(self, run: UUID, *, compensate: bool) -> bool:
        refuse_in_body("cancelling a run", 'ctx.step.run("...", run.cancel)')
        if not isinstance(compensate, bool):
            raise TypeError(f"compensate is True or False, not {show(compensate)}")
        answer = self._runtime.journal.cancel(Cancel(id=run, compensate=compensate))
        if isinstance(answer, Over):
            raise _over(run, answer, "cannot be cancelled any more")
        return True

    async def acancel(self, run: UUID, *, compensate: bool = True) -> None:
        """:meth:`cancel` for async code."""
        wakes, journal = self._runtime.wakes, self._runtime.journal

        def cancel() -> bool:
            self._cancel(run, compensate=compensate)
            return committed_or_defer(journal, partial(wakes.cancelled, run, compensate=compensate))

        if await sync_to_async(cancel)():
            await wakes.acancelled(run, compensate=compensate)

    def pause(self, run: UUID) -> None:
        """Let the run stand still; one that does so already is left as it is.

        Raises ``RunFinished`` if it is over or being cancelled.
        """
        self._pause(run)

    def _pause(self, run: UUID) -> bool:
        """Whether it went on."""
        refuse_in_body("pausing a run", 'ctx.step.run("...", run.pause)')
        answer = self._runtime.journal.pause(Pause(id=run))
        if not isinstance(answer, Unchanged):
            return True
        if answer.status is not RunStatus.PAUSED:
            raise _ending(run, answer, "cannot be paused any more")
        return False

    async def apause(self, run: UUID) -> None:
        """:meth:`pause` for async code."""
        await sync_to_async(self.pause)(run)

    def resume(self, run: UUID) -> None:
        """Let a paused run go on, and wake it once the caller's transaction has committed."""
        if self._unpause(run):
            publish = self._runtime.wakes.publish
            self._runtime.journal.on_commit(lambda: publish(run))

    async def aresume(self, run: UUID) -> None:
        """:meth:`resume` for async code."""
        wakes, journal = self._runtime.wakes, self._runtime.journal

        def unpause() -> bool:
            resumed = self._unpause(run)
            return resumed and committed_or_defer(journal, lambda: wakes.publish(run))

        if await sync_to_async(unpause)():
            await wakes.apublish(run)

    def _unpause(self, run: UUID) -> bool:
        """Whether it was paused. One that goes on anyway is what the caller wants."""
        refuse_in_body("resuming a run", 'ctx.step.run("...", run.resume)')
        answer = self._runtime.journal.resume(Resume(id=run))
        if not isinstance(answer, Unchanged):
            return True
        if answer.status not in PAUSABLE:
            raise _ending(run, answer, "cannot be resumed any more")
        return False

    def retry(self, run: UUID) -> None:
        """Re-open a failed run and wake it, once the caller's transaction has committed.

        So are the children that failed it, and theirs: each goes on from where it stopped.
        """
        reopened = self._reopen(run)
        publish = self._runtime.wakes.publish
        self._runtime.journal.on_commit(lambda: publish(*reopened))

    async def aretry(self, run: UUID) -> None:
        """:meth:`retry` for async code."""
        wakes, journal = self._runtime.wakes, self._runtime.journal

        def reopen() -> tuple[list[UUID], bool]:
            reopened = self._reopen(run)
            return reopened, committed_or_defer(journal, lambda: wakes.publish(*reopened))

        reopened, committed = await sync_to_async(reopen)()
        if committed:
            await wakes.apublish(*reopened)

    def _reopen(self, run: UUID, *, awaited: bool = False) -> list[UUID]:
        """What owes a wake-up then: the run, and before it what failed it, re-opened first.

        ``awaited``: its parent is known to wait for it, or to have failed by it.
        """
        refuse_in_body("retrying a run", 'ctx.step.run("...", run.retry)')
        journal = self._runtime.journal
        reopened: list[UUID] = []
        children = _failed_by(journal, run, awaited=awaited)
        for child in children:
            with suppress(RunFinished, RunNotFinished, RunCompensated):  # it starts another one
                reopened += self._reopen(child, awaited=True)
        timeout = forking.timeout_of(journal, run)
        going_on = tuple(child for child in children if child in reopened)
        answer = journal.retry(Retry(id=run, timeout=timeout, going_on=going_on))
        if isinstance(answer, Compensated):
            raise RunCompensated(
                f"run {run} failed and what it did was undone, so it cannot go on from there; "
                "start another one: run.fork(...)"
            )
        if isinstance(answer, Replaced):
            raise RunFinished(
                f"run {run} is over for good: its parent was retried and has started another run "
                "in its place"
            )
        if not isinstance(answer, NotFailed):
            return [*reopened, run]
        if answer.status is None:
            raise _unknown(run)
        error = RunFinished if answer.status in TERMINAL else RunNotFinished
        raise error(f"run {run} is {answer.status}; only a failed run can be retried")

    def send_event(
        self, run: UUID, name: str, data: Any = None, *, dedup_id: str | None = None
    ) -> None:
        """Store the event, and wake the run if it waits for one of that name."""
        if self._store_event(run, name, data, dedup_id):
            self._runtime.journal.on_commit(lambda: self._runtime.wakes.publish(run))

    async def asend_event(
        self, run: UUID, name: str, data: Any = None, *, dedup_id: str | None = None
    ) -> None:
        """:meth:`send_event` for async code."""
        wakes, journal = self._runtime.wakes, self._runtime.journal

        def store() -> bool:
            owed = self._store_event(run, name, data, dedup_id)
            return owed and committed_or_defer(journal, lambda: wakes.publish(run))

        if await sync_to_async(store)():
            await wakes.apublish(run)

    def _store_event(self, run: UUID, name: str, data: Any, dedup_id: str | None) -> bool:
        """Whether a wake-up may be owed once this is committed."""
        refuse_in_body("sending an event", 'ctx.step.run("...", run.send_event, ...)')
        event = SendEvent(
            id=run,
            name=check_event_name(name),
            payload=self._runtime.codec.encode(data, limit=options.max_value_bytes),
            dedup_id=None if dedup_id is None else check_dedup_id(dedup_id),
        )
        answer = self._runtime.journal.send_event(event)
        if isinstance(answer, Over):
            raise _over(run, answer, "takes no events any more")
        return answer.owed

    def get_result(self, run: UUID, *, timeout: float = 0) -> Any:
        """The run's return value; polls for ``timeout`` seconds without holding a connection.

        Raises ``RunNotFinished``, ``RunFailed``, ``RunCancelled``, or ``TimeoutError`` when
        the run is still going after ``timeout`` seconds.
        """
        self._check_waiting(timeout)
        deadline, pause = time.monotonic() + timeout, FIRST_POLL
        while True:
            found, value = _result(run, last=time.monotonic() >= deadline, timeout=timeout)
            if found:
                return value
            self._runtime.journal.close_thread()
            time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
            pause = min(pause * 1.5, LONGEST_POLL)

    async def aget_result(self, run: UUID, *, timeout: float = 0) -> Any:
        """:meth:`get_result` for async code."""
        await sync_to_async(self._check_waiting)(timeout)
        deadline, pause = time.monotonic() + timeout, FIRST_POLL
        while True:
            found, value = await sync_to_async(_result)(
                run, last=time.monotonic() >= deadline, timeout=timeout
            )
            if found:
                return value
            await sync_to_async(self._runtime.journal.close_thread)()
            await asyncio.sleep(max(0.0, min(pause, deadline - time.monotonic())))
            pause = min(pause * 1.5, LONGEST_POLL)

    def fork(self, run: UUID, from_step: str, *, preview: bool = False) -> Any:
        """Start a run from this one's outcomes, and wake it once that is committed."""
        forked = self._fork(run, from_step, preview)
        if not preview:
            publish = self._runtime.wakes.publish
            self._runtime.journal.on_commit(lambda: publish(forked))
        return forked

    async def afork(self, run: UUID, from_step: str, *, preview: bool = False) -> Any:
        """:meth:`fork` for async code."""
        wakes, journal = self._runtime.wakes, self._runtime.journal

        def store() -> tuple[Any, bool]:
            forked = self._fork(run, from_step, preview)
            publish = partial(wakes.publish, forked)
            return forked, not preview and committed_or_defer(journal, publish)

        forked, committed = await sync_to_async(store)()
        if committed:
            await wakes.apublish(forked)
        return forked

    def _fork(self, run: UUID, from_step: str, preview: bool) -> Any:
        refuse_in_body("forking a run", 'ctx.step.run("...", run.fork, "...")')
        do = forking.preview if preview else forking.fork
        try:
            return do(self._runtime.journal, run, from_step)
        except forking.NoSuchRun:
            raise _unknown(run) from None

    def many(self, verb: str, runs: Any, **how: Any) -> int:
        """Cancel, pause, resume or retry each; how many it could be done to."""
        children: list[UUID] = []
        reopened: set[UUID] = set()

        def reopen(run: UUID) -> bool:
            if run not in reopened:
                found = self._reopen(run)[:-1]
                children.extend(found)
                reopened.update(found)
            return True

        decide: dict[str, Callable[[UUID], bool]] = {
            "cancel": partial(self._cancel, **how),
            "pause": self._pause,
            "resume": self._unpause,
            "retry": reopen,
        }
        wakes, journal = self._runtime.wakes, self._runtime.journal
        count = 0
        for page in pages(runs):
            children.clear()
            done = [run for run in page if _unless_moved_on(decide[verb], run)]
            count += len(done)
            done += [child for child in children if child not in done]
            if done and verb in WAKING:
                cancelled = partial(wakes.cancelled, **how)
                tell = cancelled if verb == "cancel" else wakes.publish
                journal.on_commit(partial(tell, *done))
        return count

    async def amany(self, verb: str, runs: Any, **how: Any) -> int:
        """:meth:`many` for async code."""
        return await sync_to_async(self.many)(verb, runs, **how)

    def _check_waiting(self, timeout: Any) -> None:
        refuse_in_body("waiting for a run's result", "a step of the workflow")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
            raise TypeError(f"timeout is a number of seconds, not {show(timeout)}")
        if not 0 <= timeout <= threading.TIMEOUT_MAX:
            raise ValueError(
                f"timeout is a number of seconds from 0 to {threading.TIMEOUT_MAX:.0f}, "
                f"not {show(timeout)}"
            )
        if timeout and self._runtime.journal.in_transaction():
            raise WorkflowDefinitionError(
                "get_result(timeout=...) inside transaction.atomic() would hold your "
                "transaction open while it waits, and may never see the run end: leave the "
                "block first"
            )


def _failed_by(journal: Journal, run: UUID, *, awaited: bool) -> list[UUID]:
    """The failed children that a retry of this failed run would go on with."""
    view = journal.look(run)
    if view is None or view.status is not RunStatus.FAILED:
        return []
    if not awaited and _is_replaced(journal, view):
        return []
    entries = journal.entries(run) or ()
    if any(entry.kind is Kind.UNDO for entry in entries):
        return []
    uncaught = view.error.uncaught if view.error else ()
    children = [
        entry.child
        for entry in entries
        if entry.child is not None and (not entry.is_outcome or entry.key in uncaught)
    ]
    looks = ((child, journal.look(child)) for child in children)
    return [child for child, row in looks if row and row.status is RunStatus.FAILED]


def _is_replaced(journal: Journal, run: RunView) -> bool:
    """Whether its parent goes on with another one; what it is now is decided under its lock."""
    entries = () if run.parent is None else journal.entries(run.parent) or ()
    return run.parent is not None and all(entry.child != run.id for entry in entries)


def _unless_moved_on(decide: Callable[[UUID], bool], run: UUID) -> bool:
    """Whether it was done; a run that cannot take it any more has moved on since it was found."""
    try:
        return decide(run)
    except (RunFinished, RunNotFinished, RunCompensated, _model().DoesNotExist):
        return False


def _over(run: UUID, answer: Over, what: str) -> Exception:
    if answer.status is None:
        return _unknown(run)
    return RunFinished(f"run {run} is {answer.status}; it {what}")


def _ending(run: UUID, answer: Unchanged, what: str) -> Exception:
    if answer.status is None:
        return _unknown(run)
    state = "being cancelled" if answer.status is RunStatus.CANCELLING else answer.status
    return RunFinished(f"run {run} is {state}; it {what}")


def _unknown(run: UUID) -> Exception:
    unknown: Exception = _model().DoesNotExist(f"there is no run {run}")
    return unknown


def _model() -> Any:
    return apps.get_model("django_hookflow", "WorkflowRun")


def _result(run: UUID, *, last: bool, timeout: float) -> tuple[bool, Any]:
    raw = ExpressionWrapper(F("result"), output_field=TextField())
    rows = _model()._default_manager.using(options.database).defer("result")
    row = rows.annotate(text=raw).get(pk=run)
    if row.status == RunStatus.COMPLETED:
        return True, _returned(row)
    if row.status == RunStatus.FAILED:
        error = row.error or {}
        raise RunFailed(
            f"run {row.run_id!r} failed: {error.get('type')}: {error.get('message')}", error=error
        )
    if row.status == RunStatus.CANCELLED:
        raise RunCancelled(f"run {row.run_id!r} was cancelled")
    if last and timeout:
        raise TimeoutError(f"run {row.run_id!r} is still {row.status} after {timeout:g} s")
    if last:
        raise RunNotFinished(f"run {row.run_id!r} is {row.status}")
    return False, None


def _returned(row: Any) -> Any:
    """By the workflow's annotation, as its parent would see it; the field knows none."""
    workflow = registry.find(row.workflow_id, row.version)
    if workflow is None or row.text is None:
        return _model()._meta.get_field("result").from_db_value(row.text)
    return ports.codec().decode(row.text, hint=workflow.result_hint)
