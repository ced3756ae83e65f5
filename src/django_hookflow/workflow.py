"""``@workflow``: a plain function becomes a durable workflow."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Union, overload

from django.apps import apps

from django_hookflow.conf import options
from django_hookflow.core.hints import hint_of
from django_hookflow.core.retry import RetryPolicy
from django_hookflow.core.showing import has_surrogate, show
from django_hookflow.core.tags import Given
from django_hookflow.engine.context import SyncWorkflowContext, WorkflowContext
from django_hookflow.exceptions import WorkflowDefinitionError
from django_hookflow.registry import MAX_WORKFLOW_ID, registry
from django_hookflow.runtime import runtime
from django_hookflow.starts import MAX_DELAY, Start

if TYPE_CHECKING:
    from django_hookflow.models import WorkflowRunQuerySet

R = TypeVar("R")

AsyncBody = Callable[[WorkflowContext[Any]], Coroutine[Any, Any, R]]
SyncBody = Callable[[SyncWorkflowContext[Any]], R]

#: What follows a run that failed: called with a context and the error, ``def`` or ``async def``.
OnFailure = Callable[[Any, Any], Any]

#: How a run that will never wait longer may be started later: seconds or a ``timedelta``.
Delay = Union[float, timedelta, None]


class Workflow(Generic[R]):
    """A registered workflow: start it with :meth:`trigger` or :meth:`atrigger`."""

    def __init__(
        self,
        fn: Callable[[Any], Any],
        *,
        workflow_id: str,
        retry: RetryPolicy | None,
        timeout: timedelta | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        self.fn = fn
        self.workflow_id = workflow_id
        self.version = ""
        self.retry = retry
        self.timeout = timeout
        self.on_failure = on_failure
        self.is_async = inspect.iscoroutinefunction(fn)
        self.result_hint = hint_of(fn)
        self.__name__ = fn.__name__
        self.__qualname__ = fn.__qualname__
        self.__module__ = fn.__module__
        self.__doc__ = fn.__doc__
        self.__wrapped__ = fn

    def __repr__(self) -> str:
        return f"<Workflow {self.workflow_id}>"

    def __call__(self, ctx: Any) -> Any:
        """The plain function, for a unit test with a context of its own."""
        return self.fn(ctx)

    @property
    def runs(self) -> WorkflowRunQuerySet:
        """Its runs, with what is asked of many: ``running()``, ``tagged()``, ``cancel()`` …."""
        model = apps.get_model("django_hookflow", "WorkflowRun")
        everyones = model._default_manager.using(options.database)
        runs: WorkflowRunQuerySet = everyones.filter(workflow_id=self.workflow_id)
        return runs

    def trigger(
        self,
        data: Any = None,
        *,
        run_id: str | None = None,
        delay: Delay = None,
        not_before: datetime | None = None,
        tags: Given = None,
    ) -> str:
        """Store a run and wake it; returns its ``run_id``.

        Inside ``transaction.atomic()`` on the journal's alias the run starts only if the
        transaction commits. The same ``run_id`` again with the same data starts nothing, and
        leaves the run's tags as they are. ``tags`` are words by which the run is found
        (``runs.tagged(order="42")``): keys of 1 to 100 characters, values of 1 to 200, or
        whole numbers.
        If QStash is not to be had the run is stored and woken later. Raises
        ``RunConflict``, ``SerializationError`` or ``ConfigurationError``; then nothing is
        written.
        """
        start = Start(data, run_id=run_id, delay=delay, not_before=not_before, tags=tags)
        return runtime.trigger(self, start)

    async def atrigger(
        self,
        data: Any = None,
        *,
        run_id: str | None = None,
        delay: Delay = None,
        not_before: datetime | None = None,
        tags: Given = None,
    ) -> str:
        """:meth:`trigger` for async code."""
        start = Start(data, run_id=run_id, delay=delay, not_before=not_before, tags=tags)
        return await runtime.atrigger(self, start)

    def trigger_many(self, items: Iterable[Any]) -> list[str]:
        """Store many runs and wake them; returns their ``run_id``, in the order of ``items``.

        An item is a run's data, or a :class:`~django_hookflow.Start` with more than that. Rows
        and messages go out in batches. All runs are stored or none: what :meth:`trigger` would
        raise for one of them is raised, naming the item.
        """
        return runtime.trigger_many(self, items)

    async def atrigger_many(self, items: Iterable[Any]) -> list[str]:
        """:meth:`trigger_many` for async code."""
        return await runtime.atrigger_many(self, items)


@overload
def workflow(fn: AsyncBody[R], /) -> Workflow[R]: ...
@overload
def workflow(fn: SyncBody[R], /) -> Workflow[R]: ...
@overload
def workflow(
    *,
    workflow_id: str | None = None,
    retry: RetryPolicy | None = None,
    timeout: Delay = None,
    on_failure: OnFailure | None = None,
) -> Callable[[Callable[[Any], Any]], Workflow[Any]]: ...
def workflow(
    fn: Callable[[Any], Any] | None = None,
    /,
    *,
    workflow_id: str | None = None,
    retry: RetryPolicy | None = None,
    timeout: Delay = None,
    on_failure: OnFailure | None = None,
) -> Any:
    """Make a function a workflow, plainly or with options.

    ``workflow_id`` (1 to 255 characters) defaults to ``"<module>.<qualname>"`` and must
    outlive renames, because stored runs go on by it. ``retry`` is its steps' default
    policy. ``timeout`` (seconds or a ``timedelta``) is how long a run may take, from when it is
    due; then it fails. ``on_failure(ctx, error)`` is called as a durable step when a run fails,
    before its compensations: ``ctx`` has ``run_id``, ``workflow_id``, ``version``, ``data`` and
    ``log``, ``error`` is ``{"type", "message", "step"}``. Raises
    :class:`~django_hookflow.exceptions.WorkflowDefinitionError` at import.
    """
    options = {"retry": retry, "timeout": timeout, "on_failure": on_failure}
    if fn is not None:
        return _register(fn, workflow_id, **options)
    return lambda fn: _register(fn, workflow_id, **options)


def _register(
    fn: Any, workflow_id: Any, *, retry: Any, timeout: Any, on_failure: Any
) -> Workflow[Any]:
    if not inspect.isfunction(fn):
        raise WorkflowDefinitionError(f"@workflow decorates a def or async def, not {show(fn)}")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise WorkflowDefinitionError(f"{fn.__qualname__}: a workflow returns, it does not yield")
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise WorkflowDefinitionError(
            f"{fn.__qualname__}: retry is a RetryPolicy, not {show(retry)}"
        )
    name = f"{fn.__module__}.{fn.__qualname__}" if workflow_id is None else workflow_id
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_WORKFLOW_ID:
        raise WorkflowDefinitionError(
            f"workflow_id is a str of 1 to {MAX_WORKFLOW_ID} characters, not {show(name)}"
        )
    if "\x00" in name or has_surrogate(name):
        raise WorkflowDefinitionError(
            f"workflow_id may hold no NUL and no lone surrogate: {show(name)}"
        )
    _check_colour(fn)
    if on_failure is not None and not callable(on_failure):
        raise WorkflowDefinitionError(
            f"{fn.__qualname__}: on_failure is a function of (ctx, error), not {show(on_failure)}"
        )
    made: Workflow[Any] = Workflow(
        fn,
        workflow_id=name,
        retry=retry,
        timeout=_checked_timeout(fn, timeout),
        on_failure=on_failure,
    )
    registry.add(name, made.version, made)
    return made


def _checked_timeout(fn: Any, timeout: Any) -> timedelta | None:
    if timeout is None:
        return None
    if isinstance(timeout, (int, float)) and not isinstance(timeout, bool):
        in_range = 0 < timeout <= MAX_DELAY.total_seconds()
        timeout = timedelta(seconds=timeout) if in_range else None
    if not isinstance(timeout, timedelta) or not timedelta(0) < timeout <= MAX_DELAY:
        raise WorkflowDefinitionError(
            f"{fn.__qualname__}: timeout is a number of seconds or a timedelta, more than 0 and at "
            "most 1000 years"
        )
    return timeout


def _check_colour(fn: Callable[[Any], Any]) -> None:
    annotation = _context_annotation(fn)
    is_async = inspect.iscoroutinefunction(fn)
    wrong = SyncWorkflowContext if is_async else WorkflowContext
    right = WorkflowContext if is_async else SyncWorkflowContext
    if annotation is wrong:
        raise WorkflowDefinitionError(
            f"{fn.__qualname__} is {'async def' if is_async else 'def'}: "
            f"annotate ctx with {right.__name__}, not {wrong.__name__}"
        )


def _context_annotation(fn: Callable[[Any], Any]) -> Any:
    names = list(inspect.signature(fn).parameters)
    if len(names) != 1:
        raise WorkflowDefinitionError(f"{fn.__qualname__}: a workflow takes one argument, ctx")
    try:
        annotation = typing.get_type_hints(fn).get(names[0])
    except (NameError, TypeError, AttributeError):
        return None  # a name that exists for type checkers only cannot be judged here
    return typing.get_origin(annotation) or annotation
