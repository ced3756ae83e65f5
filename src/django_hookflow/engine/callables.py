"""What can be a step's function: plain, coroutine, partial, object, django-qstash task."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

from django_hookflow.engine.place import current_step


def qualified_name(fn: Callable[..., Any]) -> str:
    """How the journal names the callee: ``module.qualname`` of what is really called."""
    fn = unwrap(fn)
    owner = fn if hasattr(fn, "__qualname__") else type(fn)
    return f"{owner.__module__}.{owner.__qualname__}"


def unwrap(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside partials and django-qstash tasks."""
    while True:
        task = _task(fn)
        if task is not None:
            fn = task.func
        elif isinstance(fn, functools.partial):
            fn = fn.func
        else:
            return fn


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine."""
    inner = unwrap(fn)
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(
        getattr(inner, "__call__", None)  # noqa: B004  # asks for the method, not for callability
    )


def callable_of(fn: Callable[..., Any]) -> Callable[..., Any]:
    """What to call: a django-qstash task's function, bound as its own ``bind=True`` asks.

    Calling the task object itself would need its publishing settings and would not await
    an ``async def`` task.
    """
    task = _task(fn)
    if task is None:
        return fn
    return functools.partial(_call_bound, task) if task.bind else task.func


def first_parameter(fn: Callable[..., Any]) -> str:
    """The name of what it is given first, empty if it takes nothing by name.

    A bound django-qstash task is given itself before that.
    """
    task = _task(fn)
    given = 1 if task is not None and task.bind else 0
    names = list(inspect.signature(unwrap(fn)).parameters)
    return names[given] if len(names) > given else ""


def _call_bound(task: Any, *args: Any, **kwargs: Any) -> Any:
    base = sys.modules["django_qstash.app.base"]
    info = current_step()
    request = base.TaskRequest(id=info.run_id, retries=info.attempt - 1)
    return task.func(base.BoundTask(task, request), *args, **kwargs)


def _task(fn: object) -> Any:
    # Whoever holds a task has imported its module; importing it here would build a client
    # and need configured settings in every process that never uses one.
    base = sys.modules.get("django_qstash.app.base")
    return fn if base is not None and isinstance(fn, base.QStashTask) else None
