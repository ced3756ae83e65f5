"""Ending cleanly when the terminal or the system says so."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["StopSignals", "stop_signals"]

#: How long a sleep goes on after a signal at most, in seconds.
_SLICE = 0.1

#: SIGHUP, where there is one: the terminal was closed.
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class StopSignals:
    """Remembers that a signal to end came.

    A plain attribute: a handler runs between two instructions of the main thread, which may
    hold the very lock that a ``threading.Event`` would need.
    """

    def __init__(self) -> None:
        self.came = False

    def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until a signal comes."""
        until = time.monotonic() + seconds
        while not self.came and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))

    def take(self, *_: Any) -> None:
        """The signal handler."""
        self.came = True


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Take SIGINT, SIGTERM and SIGHUP over; the handlers there were come back afterwards."""
    stop = StopSignals()
    before: dict[signal.Signals, Callable[..., Any] | int | None] = {}
    # Signals are the main thread's: in another one nobody can interrupt, and none is set.
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, stop.take) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
