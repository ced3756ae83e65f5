"""Messages on their way, by virtual time: published from the rows, lost, doubled, delivered.

A row owes its wake-up until it is published, so nothing depends on whether the test's
transaction ever runs its ``on_commit`` hooks: what is owed is looked up before each delivery.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Union
from uuid import UUID

from asgiref.sync import sync_to_async

from django_hookflow.conf import options
from django_hookflow.core.messages import Wake, parse_message
from django_hookflow.engine.publishing import OVERDUE_AFTER, publish_owed
from django_hookflow.models import WorkflowRun
from django_hookflow.runtime import runtime
from django_hookflow.testing.clock import MOST, VirtualClock
from django_hookflow.testing.faults import Crash, KitJournal
from django_hookflow.transports.base import BATCH, Message
from django_hookflow.transports.memory import MemoryTransport
from django_hookflow.wakes import Wakes

#: When a delivery without an answer comes again, as on QStash.
RETRY_AFTER = timedelta(seconds=12)
#: The most a run is left alone between two nudges.
LONGEST_NUDGE = timedelta(hours=1)
#: What is looked for "longer ago than": the least that is longer.
TICK = timedelta(milliseconds=1)


class RowsOnly(Wakes):
    """Leaves what is owed in the rows, where the kit looks before each delivery."""

    def publish(self, *runs: UUID) -> None:
        """Nothing: the row says it."""

    async def apublish(self, *runs: UUID, lasting_loop: bool = True) -> None:
        """Nothing: the row says it."""

    async def share(self, *, lasting_loop: bool = True, delivering: bool = False) -> None:
        """Nothing: the kit's sweeper comes by virtual time."""


@dataclass(frozen=True, slots=True, order=True)
class OnItsWay:
    """A message and when it arrives."""

    at: datetime
    number: int
    wake: Wake


class Messages:
    """What is under way, and the sweeper that finds what was lost."""

    def __init__(self, journal: KitJournal, clock: VirtualClock) -> None:
        self.transport = MemoryTransport()
        self.to_lose = 0
        self.doubled = False
        self.delivered = 0
        self._journal = journal
        self._clock = clock
        self._numbers = itertools.count()
        self._under_way: list[OnItsWay] = []

    async def next_at(self) -> Union[datetime, None]:
        """When the next thing happens by itself: a message arrives, or the sweeper finds a run."""
        swept: datetime | None = await sync_to_async(self._collect)()
        times = [swept] if swept else []
        if self._under_way:
            times.append(self._under_way[0].at)
        return min(times, default=None)

    async def happen(self, at: datetime) -> None:
        """Let time pass until then, and let that happen."""
        self._clock.move_to(at)
        if self._under_way and self._under_way[0].at <= self._clock.now():
            await self._arrive(heapq.heappop(self._under_way))
        else:
            await sync_to_async(self._journal.nudge)(overdue=OVERDUE_AFTER, limit=BATCH)

    def _collect(self) -> Union[datetime, None]:
        """Publish what rows owe; when the sweeper would find one that nothing is under way for."""
        # What was sent inside a transaction is told of by a hook that a test does not reach.
        self._journal.signal_unseen(limit=BATCH)
        active = WorkflowRun.objects.using(options.database).active().order_by("pk")
        rows = list(active.values_list("pk", "owed_at", "due_at", "nudges", "nudged_at"))
        owing = [row[0] for row in rows if row[1] is not None]
        for start in range(0, len(owing), BATCH):
            batch = owing[start : start + BATCH]
            publish_owed(self._journal, self.transport, batch, max_delay=options.max_delay)
        for message in self.transport.take():
            self._send(message)
        coming = {each.wake.run for each in self._under_way}
        alone = [row[2:] for row in rows if row[0] not in coming and row[2] is not None]
        return min((_overdue(*times) for times in alone), default=None)

    def _send(self, message: Message) -> None:
        if self.to_lose:
            self.to_lose -= 1
            return
        wake = parse_message(message.body.encode())
        if isinstance(wake, Wake):
            self._put(wake, timedelta(seconds=message.delay))

    def _put(self, wake: Wake, delay: timedelta) -> None:
        at = min(self._clock.now() + delay, MOST)
        heapq.heappush(self._under_way, OnItsWay(at, next(self._numbers), wake))

    async def _arrive(self, message: OnItsWay) -> None:
        """Deliver it; what QStash would send again comes again."""
        again = await self._deliver(message.wake)
        if self.doubled:
            await self._deliver(message.wake)
        if again is not None:
            self._put(message.wake, again)

    async def _deliver(self, wake: Wake) -> Union[timedelta, None]:
        self.delivered += 1
        try:
            # The loop ends with the call that drives it, so no client may stay open.
            answer = await runtime.driver.deliver(wake.run, wake.number, lasting_loop=False)
        except Crash:
            self._journal.revive()
            return RETRY_AFTER
        if answer.status < 500:
            return None
        return timedelta(seconds=answer.retry_after) if answer.retry_after else RETRY_AFTER


def _overdue(due_at: datetime, nudges: int, nudged_at: Union[datetime, None]) -> datetime:
    """When the sweeper takes a run for overdue, and again if it did before."""
    if nudged_at is None:
        return due_at + OVERDUE_AFTER + TICK
    wait: timedelta = min(OVERDUE_AFTER * 2**nudges, LONGEST_NUDGE)
    return max(due_at + OVERDUE_AFTER, nudged_at + wait) + TICK
