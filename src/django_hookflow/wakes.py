"""Sending wake-ups: a run's own, and those that other processes left owed or overdue.

Failures are logged and stay owed in the rows; nothing here raises for a message service or a
database that is not to be had. The sync and the async half differ in their client only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

from asgiref.sync import sync_to_async

from django_hookflow.conf import options
from django_hookflow.core.transitions import JournalUnavailable
from django_hookflow.engine.hops import Hops
from django_hookflow.engine.publishing import apublish_owed, find_work, publish_owed
from django_hookflow.exceptions import TransportError
from django_hookflow.journals.base import Journal
from django_hookflow.transports.base import Transport

logger = logging.getLogger("django_hookflow.wakes")

#: How often a process looks for other runs' owed and overdue wake-ups, in seconds.
SWEEP_EVERY = 15.0
#: What one opportunistic look sends at most.
SWEEP_SHARE = 20
#: The mark that a whole pass leaves.
SWEEP_MARK = "sweep"


class _Turn:
    """Whose turn it is to look after other runs: one look per process in so many seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = float("-inf")

    def take(self) -> bool:
        """Whether it is time; the caller that is told so does it."""
        now = time.monotonic()
        with self._lock:
            if now - self._last < SWEEP_EVERY:
                return False
            self._last = now
            return True


_turn = _Turn()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wakes:
    """Publishes what run rows owe."""

    journal: Journal
    transport: Transport
    pool: Callable[[], ThreadPoolExecutor]

    # --- one run, then a share of the others

    def publish(self, run: UUID) -> None:
        """Publish what ``run`` owes, then look after others within the publish timeout."""
        until = _publish_deadline()
        if not self._publish(run) or not _turn.take():
            return
        for other in self._others():
            if time.monotonic() > until or not self._publish(other):
                break

    async def apublish(self, run: UUID) -> None:
        """:meth:`publish` from async code."""
        if await self._apublish(run, lasting_loop=True):
            await self.share()

    async def share(self, *, lasting_loop: bool = True) -> None:
        """Look after other runs if it is this process's turn."""
        if not _turn.take():
            return
        until = _publish_deadline()
        for other in await sync_to_async(self._others)():
            if time.monotonic() > until:
                break
            if not await self._apublish(other, lasting_loop=lasting_loop):
                break

    def _others(self) -> list[UUID]:
        try:
            return find_work(self.journal, limit=SWEEP_SHARE)
        except JournalUnavailable as error:
            logger.warning("nothing was swept: %s", error)
            return []

    # --- whole passes

    def sweep(self) -> tuple[int, int]:
        """One whole pass: how many wake-ups were sent, and how many stay owed."""
        runs = find_work(self.journal)
        sent = sum(self._publish(run) for run in runs)
        self.journal.mark(SWEEP_MARK)
        return sent, len(runs) - sent

    async def asweep(self, *, lasting_loop: bool) -> tuple[int, int]:
        """:meth:`sweep` from a delivery."""
        runs = await sync_to_async(find_work)(self.journal)
        sent = 0
        for run in runs:
            sent += await self._apublish(run, lasting_loop=lasting_loop)
        await sync_to_async(self.journal.mark)(SWEEP_MARK)
        return sent, len(runs) - sent

    # --- one message

    def _publish(self, run: UUID) -> bool:
        try:
            publish_owed(self.journal, self.transport, run, max_delay=options.max_delay)
        except (TransportError, JournalUnavailable) as error:
            return _stays_owed(run, error)
        return True

    async def _apublish(self, run: UUID, *, lasting_loop: bool) -> bool:
        try:
            await apublish_owed(
                Hops(self.journal, self.pool),
                self.transport,
                run,
                max_delay=options.max_delay,
                lasting_loop=lasting_loop,
            )
        except (TransportError, JournalUnavailable) as error:
            return _stays_owed(run, error)
        return True


def _stays_owed(run: UUID, error: Exception) -> bool:
    logger.warning("the wake-up of run %s stays owed: %s", run, error)
    return False


def _publish_deadline() -> float:
    return time.monotonic() + options.publish_timeout
