"""How a suspension looks to ``def`` code, and when a blocked run is looked at again."""

from __future__ import annotations

from datetime import timedelta

MIN_BLOCK = timedelta(seconds=10)
MAX_BLOCK = timedelta(hours=1)


class WorkflowSuspended(BaseException):
    """Unwinds a ``def`` body when its delivery ends.

    Not an ``Exception``: ``except Exception`` around a step must not see it, and what a bare
    ``except:`` makes of it is ignored, because the run is suspended already.
    """


def block_delay(blocked_n: int) -> timedelta:
    """10 s, doubling with every look that found the run still blocked, up to an hour."""
    return min(MIN_BLOCK * (1 << min(blocked_n, 20)), MAX_BLOCK)
