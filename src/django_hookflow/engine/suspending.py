"""Who asks for a suspension, how ``def`` code sees it, when a blocked run is tried again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

MIN_BLOCK = timedelta(seconds=10)
MAX_BLOCK = timedelta(hours=1)


@dataclass(slots=True)
class StopSign:
    """Tells a delivery to start nothing more: its client is gone, or the process ends."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: bool = False

    def stop(self) -> None:
        """Ask for it, from the delivery's loop."""
        self.stopped = True
        self.event.set()


class WorkflowSuspended(BaseException):
    """Unwinds a ``def`` body when its delivery ends.

    Not an ``Exception``: ``except Exception`` around a step must not see it, and what a bare
    ``except:`` makes of it is ignored, because the run is suspended already.
    """


def block_delay(blocked_n: int) -> timedelta:
    """10 s, doubling with every look that found the run still blocked, up to an hour."""
    return min(MIN_BLOCK * (1 << min(blocked_n, 20)), MAX_BLOCK)
