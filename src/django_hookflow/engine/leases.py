"""The lease keeper: one daemon thread per process renews every lease held.

A thread of its own, because a ``def`` step on the workflow's thread would starve anything
that shares it. It starts with the first lease and ends with the last; it opens a database
connection only when a lease lives for a third of its time.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from django_hookflow.core.transitions import Beat
from django_hookflow.journals.base import Journal

logger = logging.getLogger("django_hookflow.leases")


class Lease:
    """A held lease; ``lost`` turns true once the journal says that somebody else has the run."""

    __slots__ = ("epoch", "lost", "run")

    def __init__(self, run: UUID, epoch: int) -> None:
        self.run = run
        self.epoch = epoch
        self.lost = False


class LeaseKeeper:
    """Renews the leases of this process every third of ``duration()``."""

    def __init__(self, journal: Journal, duration: Callable[[], timedelta]) -> None:
        self._journal = journal
        self._duration = duration
        self._held: dict[tuple[UUID, int], Lease] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()

    def hold(self, lease: Lease) -> None:
        """Keep this lease until :meth:`drop`."""
        if self._process != os.getpid():
            # A forked child: the thread stayed with the parent, and so did its leases, which
            # would never run out if this process renewed them after the parent's death.
            self._process, self._thread = os.getpid(), None
            self._held, self._changed = {}, threading.Condition()
        with self._changed:
            self._held[lease.run, lease.epoch] = lease
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._keep, name="hookflow-leases", daemon=True
                )
                self._thread.start()

    def drop(self, lease: Lease) -> None:
        """Stop keeping it; the thread ends with the last one."""
        with self._changed:
            self._held.pop((lease.run, lease.epoch), None)
            if not self._held:
                self._changed.notify_all()

    def _keep(self) -> None:
        try:
            while self._wait():
                self._beat()
                # The next beat is far away: a connection kept until then is one of a pool's few.
                self._journal.close_thread()
        finally:
            self._journal.close_thread()

    def _wait(self) -> bool:
        duration = self._duration()
        with self._changed:
            self._changed.wait_for(lambda: not self._held, duration.total_seconds() / 3)
            if not self._held:
                self._thread = None
                return False
        return True

    def _beat(self) -> None:
        with self._changed:
            leases = list(self._held.values())
        try:
            lost = set(
                self._journal.beat(
                    Beat(held={lease.run: lease.epoch for lease in leases}, lease=self._duration())
                )
            )
        except Exception as error:
            # Whatever it is, the lease is still ours until it runs out, and the next beat may
            # come through: the thread must not die of it.
            logger.warning("leases were not renewed: %r", error)
            return
        for lease in leases:
            lease.lost = lease.lost or lease.run in lost
