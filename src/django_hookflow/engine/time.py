"""Time inside a delivery: a monotonic clock, and what the journal's clock shows by now.

Only the journal's clock decides. What it shows by now is known but for the time that its last
answer took, so there are two estimates. One is never behind it: a wait that is written down by
it never fires early. The other is never ahead of it: a retry that starts by it, without asking
again, never starts early.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds, and waiting; tests bring a virtual one."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def wait(self, event: asyncio.Event, seconds: float | None, *, busy: bool) -> None:
        """Return when ``event`` is set or so many seconds have passed (``None``: no limit).

        ``busy`` tells that something outside of time will set the event.
        """


class SystemClock:
    """The real clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    async def wait(self, event: asyncio.Event, seconds: float | None, *, busy: bool) -> None:
        waiter = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({waiter}, timeout=seconds)
        finally:
            waiter.cancel()


class Stopwatch:
    """Time since a delivery began, and an estimate of the journal's now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._asked_at = self._answered_at = self._began
        self._synced_now: datetime | None = None

    def elapsed(self) -> float:
        """Seconds since the delivery began."""
        return self._clock.monotonic() - self._began

    def before(self) -> float:
        """A reading to pass to :meth:`sync`, taken before the journal is asked."""
        return self._clock.monotonic()

    def sync(self, now: datetime, asked_at: float) -> None:
        """The journal's clock showed ``now`` at some moment between ``asked_at`` and this call."""
        self._asked_at, self._answered_at = asked_at, self._clock.monotonic()
        self._synced_now = now

    def now(self) -> datetime:
        """The journal's time by now, or a little later."""
        return self._since(self._asked_at)

    def surely(self) -> datetime:
        """The journal's time by now, or a little earlier."""
        return self._since(self._answered_at)

    def _since(self, reading: float) -> datetime:
        assert self._synced_now is not None, "the claim synced it"
        return self._synced_now + timedelta(seconds=self._clock.monotonic() - reading)

    def until(self, when: datetime) -> float:
        """Seconds until it is worth asking whether the journal's clock shows ``when``."""
        return max(0.0, (when - self.now()).total_seconds())

    def surely_until(self, when: datetime) -> float:
        """Seconds after which the journal's clock surely shows ``when``; at least 0."""
        return max(0.0, (when - self.surely()).total_seconds())
