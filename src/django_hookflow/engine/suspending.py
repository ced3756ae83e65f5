"""How a suspension looks to ``def`` code, and when a suspended run is due again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django_hookflow.engine.plans import Job, Wait

MIN_BLOCK = timedelta(seconds=10)
MAX_BLOCK = timedelta(hours=1)


class WorkflowSuspended(BaseException):
    """Unwinds a ``def`` body when its delivery ends.

    Not an ``Exception``: ``except Exception`` around a step must not see it, and what a bare
    ``except:`` makes of it is ignored, because the run is suspended already.
    """


def next_due(waits: Iterable[Wait], jobs: Iterable[Job]) -> datetime | None:
    """The earliest time at which something can go on."""
    times = [wait.ready_at for wait in waits]
    times += [job.not_before for job in jobs if job.not_before is not None]
    return min(times, default=None)


def block_delay(blocked_n: int) -> timedelta:
    """10 s, doubling with every look that found the run still blocked, up to an hour."""
    return min(MIN_BLOCK * (1 << min(blocked_n, 20)), MAX_BLOCK)
