"""Sending wake-ups: a run's own, and those that other processes left owed or overdue.

Failures are logged and stay owed in the rows; nothing here raises for a message service or a
database that is not to be had. The sync and the async half differ in their client only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

from asgiref.sync import sync_to_async

from django_hookflow.conf import options
from django_hookflow.core.transitions import JournalUnavailable
from django_hookflow.engine.hops import Hops
from django_hookflow.engine.publishing import (
    SWEEP_LIMIT,
    apublish_owed,
    batches,
    cancel_orphans,
    find_work,
    publish_owed,
)
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

    # --- new runs, then a share of the others

    def publish(self, *runs: UUID) -> None:
        """Publish what ``runs`` owe, then look after others within the publish timeout."""
        until = _publish_deadline()
        if self._publish(runs) == len(runs) and _turn.take() and time.monotonic() < until:
            self._publish(self._others())

    async def apublish(self, *runs: UUID, lasting_loop: bool = True) -> None:
        """:meth:`publish` from async code."""
        if await self._apublish(runs, lasting_loop=lasting_loop) == len(runs):
            await self.share(lasting_loop=lasting_loop)

    def cancelled(self, *runs: UUID, compensate: bool = True) -> None:
        """After a cancel: their children are cancelled likewise, and whoever has to is woken."""
        self.publish(*self._concerned(runs, compensate))

    async def acancelled(self, *runs: UUID, compensate: bool = True) -> None:
        """:meth:`cancelled` from async code."""
        await self.apublish(*await sync_to_async(self._concerned)(runs, compensate))

    def _concerned(self, runs: Sequence[UUID], compensate: bool) -> list[UUID]:
        try:
            rows = [self.journal.look(run) for run in runs]
            children = self.journal.orphans(limit=SWEEP_LIMIT, of=runs)
            orphaned = cancel_orphans(self.journal, children, compensate=compensate)
        except JournalUnavailable as error:
            logger.warning("the children of cancelled runs are left to the sweeper: %s", error)
            return list(runs)
        parents = [row.parent for row in rows if row is not None and row.parent is not None]
        return list(dict.fromkeys([*runs, *parents, *orphaned]))

    async def share(self, *, lasting_loop: bool = True, delivering: bool = False) -> None:
        """Look after other runs if it is this process's turn.

        ``delivering`` tells that the thread is a delivery's own, whose connection need not be
        kept while messages are sent.
        """
        if _turn.take():
            others = await sync_to_async(self._others)()
            await self._apublish(others, lasting_loop=lasting_loop, delivering=delivering)

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
        sent = self._publish(runs)
        self.journal.mark(SWEEP_MARK)
        return sent, len(runs) - sent

    async def asweep(self, *, lasting_loop: bool) -> tuple[int, int]:
        """:meth:`sweep` from a delivery."""
        runs = await sync_to_async(find_work)(self.journal)
        sent = await self._apublish(runs, lasting_loop=lasting_loop, delivering=True)
        await sync_to_async(self.journal.mark)(SWEEP_MARK)
        return sent, len(runs) - sent

    # --- messages, up to BATCH in one request

    def _publish(self, runs: Sequence[UUID]) -> int:
        """How many need nothing more: a service that refuses one request refuses the next."""
        sent = 0
        for batch in batches(runs):
            try:
                publish_owed(self.journal, self.transport, batch, max_delay=options.max_delay)
            except (TransportError, JournalUnavailable) as error:
                _stay_owed(runs[sent:], error)
                break
            sent += len(batch)
        return sent

    async def _apublish(
        self, runs: Sequence[UUID], *, lasting_loop: bool, delivering: bool = False
    ) -> int:
        hops = Hops(self.journal, self.pool)
        if delivering:
            await hops.prepare()
        sent = 0
        for batch in batches(runs):
            try:
                await apublish_owed(
                    hops,
                    self.transport,
                    batch,
                    max_delay=options.max_delay,
                    lasting_loop=lasting_loop,
                )
            except (TransportError, JournalUnavailable) as error:
                _stay_owed(runs[sent:], error)
                break
            sent += len(batch)
        return sent


def _stay_owed(runs: Sequence[UUID], error: Exception) -> None:
    named = f"run {runs[0]}" if len(runs) == 1 else f"run {runs[0]} and {len(runs) - 1} more"
    logger.warning("the wake-up of %s stays owed: %s", named, error)


def _publish_deadline() -> float:
    return time.monotonic() + options.publish_timeout
