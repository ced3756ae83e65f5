"""What time it is for the server: the machine's clock, or one that a test sets.

Due times, back-off, cron times, periods, windows and dates in answers go by it. What a real
socket does (how long a destination may take) and the validity of signatures go by the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Protocol

__all__ = ["Clock", "VirtualClock", "WallClock"]

# The wall clock may be set while we sleep, so look again at least this often (seconds).
_LONGEST_SLEEP = 30.0


class Clock(Protocol):
    """Time in Unix seconds."""

    def now(self) -> float:
        """The time."""

    async def until(self, instant: float | None, changed: asyncio.Event) -> None:
        """Return when it is ``instant``, when ``changed`` is set, or earlier."""


class WallClock:
    """The machine's."""

    def now(self) -> float:
        return time.time()

    async def until(self, instant: float | None, changed: asyncio.Event) -> None:
        seconds = _LONGEST_SLEEP
        if instant is not None:
            seconds = min(seconds, max(0.001, instant - time.time()))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(changed.wait(), seconds)


class VirtualClock:
    """One that stands still until it is set."""

    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def set(self, now: float) -> None:
        """Make it ``now``; never earlier than it is."""
        self._now = max(self._now, now)

    async def until(self, instant: float | None, changed: asyncio.Event) -> None:
        await changed.wait()
