"""Tells the deliveries of this process that it was asked to end.

At SIGTERM a server lets running requests finish, for as long as its patience lasts. A delivery
does better: it ends after the step that executes, and another process goes on. So the server's
handler of SIGTERM is chained to: ours remembers the signal and calls it. Nothing is done where
there is none in Python, because such a process dies at once.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Union

__all__ = ["REFUSE_SECONDS", "Shutdown", "shutdown"]

#: So long new deliveries are refused. Not for ever: a process that goes on after all, because its
#: handler means something else by SIGTERM, must not refuse every delivery from then on.
REFUSE_SECONDS = 60.0

Handler = Callable[[int, Union[FrameType, None]], Any]


class _Chained:
    """A signal handler that tells :class:`Shutdown`, and then does what was done before."""

    def __init__(self, tell: Callable[[], None], before: Handler) -> None:
        self._tell = tell
        self._before = before

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._tell()
        self._before(number, frame)


class Shutdown:
    """Whether this process was asked to end, and whom to tell.

    No locks: a signal handler runs between two instructions of the main thread, which may hold
    them. What is done to the set here is atomic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._came_at = float("-inf")
        self._tells: set[Callable[[], None]] = set()

    @property
    def ending(self) -> bool:
        """Whether a delivery had better go to another process."""
        return self._clock() - self._came_at < REFUSE_SECONDS

    @property
    def watching(self) -> bool:
        """Whether a signal would be noticed."""
        return isinstance(signal.getsignal(signal.SIGTERM), _Chained)

    def watch(self) -> None:
        """Notice SIGTERM from here on, if this is the main thread and a server handles it."""
        before = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread() or self.watching:
            return
        if callable(before):
            signal.signal(signal.SIGTERM, _Chained(self.take, before))
            if hasattr(signal, "siginterrupt"):  # not on Windows
                # As servers do it: no system call of a running request is interrupted.
                signal.siginterrupt(signal.SIGTERM, False)

    def take(self) -> None:
        """The signal came."""
        self._came_at = self._clock()
        for tell in list(self._tells):
            tell()

    @contextmanager
    def telling(self, stop: Callable[[], None]) -> Iterator[None]:
        """Inside, ``stop`` is called on the running loop when the signal comes."""
        loop = asyncio.get_running_loop()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(stop)

        self._tells.add(tell)
        try:
            yield
        finally:
            self._tells.discard(tell)


#: This process's.
shutdown = Shutdown()
