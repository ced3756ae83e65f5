"""From the event loop to the journal and to ``def`` code, and back.

Everything sync runs through asgiref: on the workflow's own thread, so that a ``def``
workflow, its steps and the journal share one database connection, or on a bounded pool.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, Union

from asgiref.sync import async_to_sync, sync_to_async

from django_hookflow.journals.base import Journal

T = TypeVar("T")

#: Connecting costs some 8 ms on PostgreSQL: waiting as long as this is worth it.
RELEASE_AFTER = 0.1


class Hops:
    """Bridges of one delivery.

    ``pool`` gives the executor for ``def`` steps that run side by side; ``pinned`` tells
    that nothing may leave the workflow's own thread (an open transaction of a test).
    ``release_after`` is how many seconds of waiting make it worth giving the own thread's
    connection back: 0 with a pool of connections, ``None`` where the thread, and with it
    the connection, is somebody else's.
    """

    def __init__(self, journal: Journal, pool: Callable[[], ThreadPoolExecutor]) -> None:
        self.journal = journal
        self._pool = pool
        self.pinned = False
        self.release_after: Union[float, None] = None

    async def prepare(self) -> None:
        """The thread is this delivery's own; find out whether the delivery is pinned to it."""
        self.pinned = await self.own(self.journal.pinned)
        if not self.pinned:
            self.release_after = 0.0 if self.journal.pooled() else RELEASE_AFTER

    async def own(self, fn: Callable[..., T], *args: Any) -> T:
        """Call on the workflow's own thread."""
        return await sync_to_async(fn, thread_sensitive=True)(*args)

    async def body(self, fn: Callable[[], T]) -> T:
        """Run a ``def`` workflow's body; it comes back to the loop by :meth:`back`."""
        return await self.own(fn)

    def back(self, fn: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Await ``fn(*args)`` on the delivery's loop; called by a ``def`` body on its thread."""
        return async_to_sync(fn)(*args)

    async def slowly(self, fn: Callable[..., T], *args: Any) -> T:
        """:meth:`own` for what may take its time: a pool's connection is given back first."""
        return await self.own(self._released if self.release_after == 0 else _call, fn, *args)

    async def meanwhile(self, waiting: Coroutine[Any, Any, T]) -> T:
        """Await something that needs no database; its connection is given back if that lasts."""
        if self.release_after is None:
            return await waiting
        task = asyncio.ensure_future(waiting)
        try:
            await asyncio.wait({task}, timeout=self.release_after)
            if not task.done():
                await self.own(self.journal.close_thread)
            return await task
        finally:
            task.cancel()

    async def side(self, fn: Callable[..., T], *args: Any) -> T:
        """Call on the pool, closing the thread's connections afterwards."""
        if self.pinned:
            return await self.own(fn, *args)
        return await sync_to_async(self._closing, thread_sensitive=False, executor=self._pool())(
            fn, *args
        )

    def _released(self, fn: Callable[..., T], *args: Any) -> T:
        self.journal.close_thread()
        return fn(*args)

    def _closing(self, fn: Callable[..., T], *args: Any) -> T:
        try:
            return fn(*args)
        finally:
            self.journal.close_thread()


def _call(fn: Callable[..., T], *args: Any) -> T:
    return fn(*args)


class Raised:
    """An exception as a value: raising it through a thread would hang on StopIteration."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def catching(fn: Callable[[], T]) -> Union[T, Raised]:
    """Call ``fn``; what it raises comes back as a value, but for the process's own end."""
    try:
        return fn()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # the boundary to user code
        return Raised(error)


async def bounded(
    start: Callable[[], Any], timeout: float | None, context: contextvars.Context
) -> Union[asyncio.Task[Any], None]:
    """Run a coroutine as a task of its own; ``None`` when ``timeout`` seconds were not enough.

    Returns the ended task, so that a cancellation that the user's code made of itself is a
    value, and one that comes from outside is an exception here.
    """
    task: asyncio.Task[Any] = context.run(asyncio.ensure_future, start())
    try:
        await asyncio.wait({task}, timeout=timeout)
        if task.done():
            return task
    finally:
        if not task.done():
            task.cancel()
    # Let it unwind; one that refuses to end is left to itself, its result is discarded.
    await asyncio.wait({task}, timeout=UNWIND_SECONDS)
    task.add_done_callback(_retrieve)
    return None


#: How long a step that was cancelled for its timeout may take to clean up.
UNWIND_SECONDS = 2.0


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
