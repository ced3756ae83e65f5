"""``ctx.step`` of a ``def`` workflow: one line per method over :class:`Steps`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar, Union, overload

from django_hookflow.core.retry import RetryPolicy
from django_hookflow.core.showing import show
from django_hookflow.engine.callbacks import Callback, check_callback
from django_hookflow.engine.calls import CallResponse
from django_hookflow.engine.children import Invocable
from django_hookflow.engine.place import refuse_inside_step
from django_hookflow.engine.scheduler import Scheduler
from django_hookflow.engine.steps import MAX_REFUSALS, Steps
from django_hookflow.engine.suspending import WorkflowSuspended
from django_hookflow.engine.undoing import Compensation
from django_hookflow.engine.unwinding import raise_at_next_line
from django_hookflow.exceptions import WorkflowDefinitionError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSteps:
    """The durable steps of one run, called plainly; the same as :class:`Steps`, awaited."""

    _steps: Steps
    _scheduler: Scheduler

    def options(
        self,
        *,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        compensate: Compensation | None = None,
    ) -> SyncSteps:
        """See :meth:`Steps.options`."""
        steps = self._steps.options(retry=retry, timeout=timeout, compensate=compensate)
        return SyncSteps(_steps=steps, _scheduler=self._scheduler)

    @overload
    def run(
        self, step_id: str, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    def run(self, step_id: str, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    def run(self, step_id: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """See :meth:`Steps.run`."""
        return self._wait(step_id, self._steps.run(step_id, fn, *args, **kwargs))

    def atomic(self, step_id: str, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """See :meth:`Steps.atomic`."""
        return self._wait(step_id, self._steps.atomic(step_id, fn, *args, **kwargs))

    def sleep(self, step_id: str, seconds: Union[float, timedelta]) -> None:
        """See :meth:`Steps.sleep`."""
        self._wait(step_id, self._steps.sleep(step_id, seconds))

    def sleep_until(self, step_id: str, when: datetime) -> None:
        """See :meth:`Steps.sleep_until`."""
        self._wait(step_id, self._steps.sleep_until(step_id, when))

    def wait_for_event(
        self, step_id: str, event: str, timeout: Union[float, timedelta, None] = None
    ) -> Any:
        """See :meth:`Steps.wait_for_event`."""
        return self._wait(step_id, self._steps.wait_for_event(step_id, event, timeout))

    def invoke(
        self, step_id: str, workflow: Invocable, data: Any = None, run_id: str | None = None
    ) -> Any:
        """See :meth:`Steps.invoke`."""
        return self._wait(step_id, self._steps.invoke(step_id, workflow, data, run_id))

    def map(
        self,
        step_id: str,
        fn_or_workflow: Any,
        items: Iterable[Any],
        *,
        concurrency: int = 10,
        tolerate: Union[int, float] = 0,
    ) -> list[Any]:
        """See :meth:`Steps.map`."""
        coro = self._steps.map(
            step_id, fn_or_workflow, items, concurrency=concurrency, tolerate=tolerate
        )
        return self._wait(step_id, coro)

    def gather(self, *calls: tuple[Any, ...]) -> list[Any]:
        """Steps side by side: ``gather(("a", fn_a, x), ("b", fn_b, y))``, results in order.

        Each is ``(step_id, fn, *args)``. ``def`` functions run on threads, so many at a time as
        ``DJANGO_HOOKFLOW_THREADS`` allows. The first failure is raised, and what has not begun
        by then never does.
        """
        given: tuple[Any, ...] = calls
        for call in given:
            if not isinstance(call, tuple) or len(call) < 2 or not callable(call[1]):
                raise TypeError(f"gather takes tuples (step_id, fn, *args), not {show(call)}")
        names = ", ".join(str(call[0]) for call in calls)
        return self._wait(names, self._steps._together(calls))

    def callback(
        self,
        step_id: str,
        expires: Union[float, timedelta] = timedelta(days=7),
        *,
        confirm: str | None = None,
    ) -> Callback:
        """See :meth:`Steps.callback`."""
        return self._wait(step_id, self._steps.callback(step_id, expires, confirm=confirm))

    def wait_for_callback(self, cb: Callback, timeout: Union[float, timedelta, None] = None) -> Any:
        """See :meth:`Steps.wait_for_callback`."""
        return self._wait(check_callback(cb).step_id, self._steps.wait_for_callback(cb, timeout))

    def call(
        self,
        step_id: str,
        url: str,
        method: str = "GET",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        timeout: float = 15,
        idempotency_key: Union[str, bool, None] = None,
        raise_for_status: bool = True,
    ) -> CallResponse:
        """See :meth:`Steps.call`."""
        coro = self._steps.call(
            step_id,
            url,
            method,
            body,
            headers,
            params=params,
            timeout=timeout,
            idempotency_key=idempotency_key,
            raise_for_status=raise_for_status,
        )
        return self._wait(step_id, coro)

    def _wait(self, step_id: str, coro: Coroutine[Any, Any, R]) -> R:
        """Drive the delivery until the step's outcome is handed over."""
        try:
            self._refuse_misuse(step_id)
        except BaseException:
            coro.close()
            raise
        return self._scheduler.executor.hops.back(self._scheduler.drive, coro)  # type: ignore[no-any-return]

    def _refuse_misuse(self, step_id: str) -> None:
        refuse_inside_step(f"step {show(step_id)}")
        if threading.get_ident() != self._scheduler.body_thread:
            # The delivery's loop waits for the body's own thread and would never hear of it.
            raise WorkflowDefinitionError(
                f"step {show(step_id)} was asked for on another thread than the workflow's own; "
                "for steps side by side use ctx.step.gather or ctx.step.map"
            )
        if self._scheduler.closing:
            self._scheduler.refusals += 1
            if self._scheduler.refusals > MAX_REFUSALS:
                # Up from here: _refuse_misuse, _wait, the step's method, the body's own frame.
                raise_at_next_line(sys._getframe(3), "hookflow_body")
            raise WorkflowSuspended
        if self._scheduler.executor.hops.journal.in_any_transaction():
            raise WorkflowDefinitionError(
                f"step {show(step_id)} was asked for inside transaction.atomic(): the step's "
                "record would wait for, or vanish with, your transaction. Leave the block first, "
                "or put the writes into ctx.step.atomic"
            )
