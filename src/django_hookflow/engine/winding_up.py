"""What goes on after the body: ``on_failure``, then the compensations, newest first.

Each is a durable step of its own, so it survives a crash between two of them. The body is not
run again: what is to be undone is in the journal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Union

from django_hookflow.core.codec import digest
from django_hookflow.core.entries import Entry, ErrorRecord, Kind
from django_hookflow.core.requests import Request
from django_hookflow.core.retry import RetryPolicy
from django_hookflow.engine.callables import is_async
from django_hookflow.engine.plans import Function, Plan
from django_hookflow.engine.scheduler import Scheduler
from django_hookflow.engine.undoing import Silent, compensation, to_be_undone
from django_hookflow.exceptions import SerializationError, StepFailed

logger = logging.getLogger("django_hookflow.workflow")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureContext:
    """The ``ctx`` of ``on_failure``: which run failed, and what it was given."""

    run_id: str
    workflow_id: str
    version: str
    data: Any
    log: logging.Logger = logger


def winding_up(
    scheduler: Scheduler,
    entries: Sequence[Entry],
    retry: RetryPolicy,
    *,
    on_failure: Union[Callable[..., Any], None],
    error: Union[ErrorRecord, None],
) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """The body of a delivery that winds a run up; ``entries`` is its journal.

    ``error`` is why it failed, if it did; ``on_failure`` is who is told, if anybody is.
    """

    async def body(_: Any) -> None:
        if error is not None and on_failure is not None:
            plan = _on_failure(scheduler, on_failure, error, retry)
            await _done(scheduler, plan, "on_failure")
        for entry in to_be_undone(entries):
            undo, function = compensation(entry, scheduler.executor.codec)
            request = Request(
                step_id=entry.step_id,
                kind=Kind.UNDO,
                call=undo.name,
                args_sha=digest((undo.args,), {}),
                key=f"{entry.key}/undo",
                occurrence=entry.occurrence,
            )
            plan = Plan(request=request, work=function, retry=retry)
            await _done(scheduler, plan, f"the compensation of step {entry.key!r}")

    return body


async def _done(scheduler: Scheduler, plan: Plan, what: str) -> None:
    """One that fails for good is recorded and told; those after it still have their turn."""
    try:
        await scheduler.request(plan)
    except (StepFailed, SerializationError) as failed:
        logger.error("run %s: %s failed: %s", scheduler.run.run_id, what, failed)


def _on_failure(
    scheduler: Scheduler,
    fn: Callable[..., Any],
    error: ErrorRecord,
    retry: RetryPolicy,
) -> Plan:
    run = scheduler.run
    ctx = FailureContext(
        run_id=run.run_id,
        workflow_id=run.workflow_id,
        version=run.version,
        data=scheduler.executor.codec.decode(run.data),
    )
    shown = {"type": error.type, "message": error.message, "step": error.step}
    function = Function(
        fn=Silent(fn),
        args=(ctx, shown),
        kwargs={},
        is_async=is_async(fn),
        hint=Any,
    )
    # Neither its name nor its arguments are compared: another version may follow a failure too.
    request = Request(step_id="on_failure", kind=Kind.ON_FAILURE, key="on_failure")
    return Plan(request=request, work=function, retry=retry)
