"""A workflow's function, driven through one delivery: ``async def`` and ``def``."""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Union

from django_hookflow.engine.hops import Raised, catching
from django_hookflow.engine.place import Body, place
from django_hookflow.engine.scheduler import Scheduler
from django_hookflow.exceptions import WorkflowDefinitionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """The body came to its end."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Threw:
    """An exception came out of the body."""

    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """The delivery ended first."""


BodyEnd = Union[Returned, Threw, Parked]


async def run_async_body(scheduler: Scheduler, fn: Callable[[Any], Any], ctx: Any) -> BodyEnd:
    """Drive an ``async def`` body on the workflow's own loop."""
    context = contextvars.copy_context()
    context.run(place.set, Body(run_id=scheduler.run.run_id))
    main = context.run(lambda: scheduler.loop.create_task(fn(ctx)))
    try:
        wrong: WorkflowDefinitionError | None = None
        try:
            if not await scheduler.pump(main.done):
                return Parked()
        except WorkflowDefinitionError as error:
            wrong = error
        await scheduler.finish_units()
        if scheduler.standing.broken is not None:
            raise scheduler.standing.broken
        return _ended(main) if wrong is None else Threw(error=wrong)
    finally:
        # What the body's end leaves behind, and what a suspension interrupts, unwinds here.
        scheduler.close()


def rehearse_async_body(scheduler: Scheduler, fn: Callable[[Any], Any], ctx: Any) -> bool:
    """Whether an ``async def`` body, given this journal, asks for all that is in it."""
    context = contextvars.copy_context()
    context.run(place.set, Body(run_id=scheduler.run.run_id))
    context.run(lambda: scheduler.loop.create_task(fn(ctx)))
    try:
        return scheduler.rehearse()
    except WorkflowDefinitionError:
        return False
    finally:
        scheduler.close()


def _ended(main: Any) -> BodyEnd:
    if main.cancelled():
        return Threw(error=WorkflowDefinitionError("the workflow cancelled itself"))
    error = main.exception()
    return Returned(value=main.result()) if error is None else Threw(error=error)


async def run_sync_body(scheduler: Scheduler, fn: Callable[[Any], Any], ctx: Any) -> BodyEnd:
    """Drive a ``def`` body on the workflow's own thread; its steps drive the scheduler."""

    def hookflow_body() -> Any:
        scheduler.body_thread = threading.get_ident()
        token = place.set(Body(run_id=scheduler.run.run_id))
        try:
            return catching(lambda: fn(ctx))
        finally:
            place.reset(token)
            if scheduler.refusals:
                sys.settrace(None)  # if the body had to be unwound by it

    result = await scheduler.executor.hops.body(hookflow_body)
    if scheduler.standing.broken is not None:
        raise scheduler.standing.broken
    if scheduler.end is not None:
        return Parked()  # whatever the body made of being unwound
    scheduler.close()
    return Threw(error=result.error) if isinstance(result, Raised) else Returned(value=result)
