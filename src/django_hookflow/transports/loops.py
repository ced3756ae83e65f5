"""One thing per event loop, closed with its loop.

Under ASGI a process has one loop, under WSGI every request has a new one. An open connection
holds its loop, so a weak key alone would keep every loop of every request for ever: what is
kept is closed when the loop shuts down its asynchronous generators, as ``asyncio.run`` does.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """What can be closed on its loop."""

    async def aclose(self) -> None:
        """Close it."""


T = TypeVar("T", bound=Closable)


class PerLoop(Generic[T]):
    """Makes a ``T`` for each running loop and key; safe to use from several threads."""

    def __init__(self) -> None:
        self._loops: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[Hashable, tuple[T, AsyncGenerator[None, None]]]
        ] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    async def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The running loop's thing for ``key``."""
        with self._lock:
            self._forget_closed()
            kept = self._loops.setdefault(asyncio.get_running_loop(), {})
            if key in kept:
                return kept[key][0]
            thing = make()
            keeper = _keeper(thing, lambda: kept.pop(key, None))
            kept[key] = (thing, keeper)
        await keeper.__anext__()
        return thing

    def __len__(self) -> int:
        """How many loops have something."""
        return len(self._loops)

    def _forget_closed(self) -> None:
        # For loops that were closed without shutting down their generators.
        for loop in [loop for loop in list(self._loops) if loop.is_closed()]:
            self._loops.pop(loop, None)


async def _keeper(thing: Closable, forget: Callable[[], object]) -> AsyncGenerator[None, None]:
    # Suspended here until the loop closes its generators.
    try:
        yield
    finally:
        forget()  # a generator holds its loop, even when it has ended
        await thing.aclose()
