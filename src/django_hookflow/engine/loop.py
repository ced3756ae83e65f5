"""The event loop that an ``async def`` workflow's body runs on.

It has ``call_soon``, ``create_task`` and ``create_future`` and nothing else: no clock, no
sockets, no threads. It is drained synchronously inside the delivery, so quiescence is exact
(the ready queue is empty) and the order of requests is a function of the order of outcomes.
Anything that needs more of a loop raises at once, at the line that awaits it.

Three private names of asyncio make that possible (``_leave_task``, ``_enter_task`` and
``_set_running_loop``); ``tests/engine/test_loop.py`` pins them on every Python.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from asyncio import events, tasks
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, NoReturn

from django_hookflow.exceptions import WorkflowDefinitionError

#: More turns than any honest body takes between two outcomes; a body that spins on
#: ``asyncio.sleep(0)`` would otherwise hang its process.
MAX_TURNS = 1_000_000

FOREIGN_AWAIT = (
    "a workflow may await ctx.step... and asyncio's combinators over it, nothing else; "
    "put this into ctx.step.run(...)"
)


def _refuse(self: WorkflowLoop, *args: Any, **kwargs: Any) -> NoReturn:
    raise WorkflowDefinitionError(FOREIGN_AWAIT)


if TYPE_CHECKING:
    _Task = asyncio.Task[Any]
else:
    _Task = asyncio.Task


class WorkflowTask(_Task):
    """A task whose place in a set is its number, not its address.

    ``asyncio.wait``, ``as_completed`` and ``TaskGroup`` keep tasks in sets. By address their
    order would differ from replay to replay, and with it the order of what the body asks.
    """

    def __init__(self, *args: Any, number: int, **kwargs: Any) -> None:
        self.number = number
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self.number


class WorkflowLoop(asyncio.AbstractEventLoop):
    """A loop that runs what is ready and knows nothing of time or the outside."""

    def __init__(self) -> None:
        self._ready: deque[asyncio.Handle] = deque()
        self._made = 0
        self.max_turns = MAX_TURNS
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()

    def call_soon(  # type: ignore[override]  # the typed base has *args of a type variable tuple
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # as above
        self, coro: Coroutine[Any, Any, Any], **kwargs: Any
    ) -> asyncio.Task[Any]:
        # An eager task (3.12+) would start before its creator yields: refused, because the
        # order of requests must not depend on the Python version.
        kwargs.pop("eager_start", None)
        if kwargs.get("context", ...) is None:
            del kwargs["context"]  # Python 3.10 does not know the parameter
        self._made += 1
        task = WorkflowTask(coro, loop=self, number=self._made, **kwargs)
        self._tasks.add(task)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Ignored: a result that nobody retrieved is the workflow's own business."""

    def drain(self) -> None:
        """Run until nothing is ready."""
        outer = events._get_running_loop()
        current = asyncio.current_task(outer) if outer is not None else None
        hooks = sys.get_asyncgen_hooks()
        if outer is not None and current is not None:
            tasks._leave_task(outer, current)
        events._set_running_loop(self)
        sys.set_asyncgen_hooks(firstiter=None, finalizer=None)
        try:
            self._run_ready()
        finally:
            sys.set_asyncgen_hooks(*hooks)
            events._set_running_loop(outer)
            if outer is not None and current is not None:
                tasks._enter_task(outer, current)

    def _run_ready(self) -> None:
        turns = 0
        while self._ready:
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()
            turns += 1
            if turns > self.max_turns:
                raise WorkflowDefinitionError(
                    "the workflow spins without waiting for a step; "
                    "await ctx.step... instead of looping over asyncio.sleep(0)"
                )

    def close_tasks(self) -> None:
        """Cancel every task and let it unwind; one that refuses to end is left behind."""
        for task in list(self._tasks):
            task.cancel()
        self.drain()
        for task in list(self._tasks):
            if not task.done():
                # It caught the cancellation and waits again. Nobody will ever run it, and
                # the warning about a destroyed pending task would blame the wrong party.
                task._log_destroy_pending = False  # type: ignore[attr-defined]


def _refused_names() -> list[str]:
    own = set(vars(WorkflowLoop))
    return [
        name
        for name in dir(asyncio.AbstractEventLoop)
        if not name.startswith("_") and name not in own
    ]


for _name in _refused_names():
    setattr(WorkflowLoop, _name, _refuse)


def new_loop() -> WorkflowLoop:
    """A loop for one delivery."""
    return WorkflowLoop()  # type: ignore[abstract]  # every name has a body, given above
