"""Virtual time: it stands still until somebody moves it.

One clock for the journal and the engine, because the engine's estimate of the journal's time
must not run ahead of it. What executes takes no time by it.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

MOST = datetime(9990, 1, 1, tzinfo=timezone.utc)


class VirtualClock:
    """The journal's clock, and the engine's (:class:`django_hookflow.engine.time.Clock`)."""

    def __init__(self, start: datetime) -> None:
        self._start = self._now = start

    def now(self) -> datetime:
        """The virtual time, in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Virtual seconds since the start."""
        return (self._now - self._start).total_seconds()

    def move_to(self, when: datetime) -> None:
        """Let time pass until ``when``; it never goes back."""
        self._now = max(self._now, when)

    async def wait(self, event: asyncio.Event, seconds: float | None, *, busy: bool) -> None:
        """A wait for nothing but time is over at once, one for what executes when that ends."""
        if busy or seconds is None:
            await event.wait()
        else:
            self.move_to(self._now + timedelta(seconds=seconds))
