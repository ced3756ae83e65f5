"""An event loop whose time is virtual: a wait for nothing but time is over at once.

asyncio's own would do, with a selector that lets time pass. This one is for the sake of speed:
a seed is a thousand turns of the loop, which have neither sockets nor threads to look for.
"""

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable
from typing import Any, Union

#: What is as near as this is now: virtual time has the resolution of a real clock.
RESOLUTION = 1e-9
#: What only resolves a future reads no variable.
_NO_CONTEXT = contextvars.Context()


class Idle(Exception):
    """Nothing is ready and nothing is scheduled: whoever awaits something would wait for ever."""


class Handle:
    """A callback that waits for its turn, or for its time."""

    __slots__ = ("args", "callback", "context", "time")

    def __init__(
        self,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: Union[contextvars.Context, None],
        time: float = 0.0,
    ) -> None:
        self.callback: Union[Callable[..., Any], None] = callback
        self.args = args
        self.context = context if context is not None else contextvars.copy_context()
        self.time = time

    def __lt__(self, other: object) -> bool:
        """Of timers for one time none is before the other: the heap's order, as asyncio has it."""
        return False

    def cancel(self) -> None:
        self.callback, self.args = None, ()

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.time


class VirtualLoop(asyncio.BaseEventLoop):
    """asyncio's order of turns, on a clock that jumps to the next timer."""

    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self.get_debug = bool  # type: ignore[method-assign]  # never; asked for every future
        self.passed = 0.0
        self._turns: deque[Handle] = deque()
        self._timers: list[tuple[float, Handle]] = []

    def time(self) -> float:
        return self.passed

    def call_soon(  # type: ignore[override]  # typed with a variable tuple and asyncio's handle
        self,
        callback: Callable[..., Any],
        *args: Any,
        context: Union[contextvars.Context, None] = None,
    ) -> Handle:
        handle = Handle(callback, args, context)
        self._turns.append(handle)
        return handle

    def call_at(  # type: ignore[override]  # as above
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Union[contextvars.Context, None] = None,
    ) -> Handle:
        handle = Handle(callback, args, context, when)
        heapq.heappush(self._timers, (when, handle))
        return handle

    def call_later(  # type: ignore[override]  # as above
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Union[contextvars.Context, None] = None,
    ) -> Handle:
        return self.call_at(self.passed + delay, callback, *args, context=context)

    async def pause(self, seconds: float) -> None:
        """:func:`asyncio.sleep`, with as many turns and half of the work."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.Future(loop=self)
        handle = Handle(future.set_result, (None,), _NO_CONTEXT)
        heapq.heappush(self._timers, (self.passed + seconds, handle))
        try:
            await future
        except BaseException:
            handle.cancel()
            raise

    def _run_once(self) -> None:
        """The ready ones, in turn, until somebody stops the loop: more than asyncio's does."""
        turns, timers = self._turns, self._timers
        while True:
            while timers and timers[0][1].callback is None:
                heapq.heappop(timers)
            if not turns and not self._stopping:
                if not timers:
                    raise Idle("no timer is set and nothing is ready")
                self.passed += max(0.0, timers[0][0] - self.passed)
            soon = self.passed + RESOLUTION
            while timers and timers[0][0] < soon:
                turns.append(heapq.heappop(timers)[1])
            for _ in range(len(turns)):
                handle = turns.popleft()
                if handle.callback is None:
                    continue
                try:
                    handle.context.run(handle.callback, *handle.args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self.call_exception_handler({"message": "in a callback", "exception": error})
            if self._stopping:
                return
