"""What the simulated processes share: the rows of a journal, in memory or on SQLite.

A store gives each process a journal of its own over the same rows, and the checks a look at
the rows. Effects of ``atomic`` steps belong to it, because they are part of its transactions.
"""

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from django.db import connections

from django_hookflow.core.entries import TERMINAL
from django_hookflow.core.transitions import EVENT
from django_hookflow.engine.place import StepInfo
from django_hookflow.journals.base import Journal
from django_hookflow.journals.memory import MemoryJournal
from django_hookflow.journals.memory_rows import MemoryEvent, MemoryRun, MemoryStep
from django_hookflow.journals.orm import OrmJournal
from django_hookflow.journals.orm_rows import events, read_entries, runs, steps
from tests.app.models import Effect
from tests.faults.sim.ledger import host
from tests.journals.bench import Mail, MemoryBench, OrmBench

Crash = Callable[[str], None]


class Store(Protocol):
    """Rows, and journals over them."""

    def enter(self) -> None:
        """Called on the loop before anything else, and :meth:`leave` after it."""

    def leave(self) -> None: ...

    def journal(self, crash: Crash) -> Journal: ...

    def row(self, run: UUID) -> MemoryRun | None: ...

    def steps(self, run: UUID) -> list[MemoryStep]:
        """All rows, superseded ones too."""

    def mail(self, run: UUID) -> list[Mail]:
        """Its events, consumed ones too, in the order of arrival."""

    def slip(self, run: UUID, name: str, payload: str) -> bool:
        """Leave an event as a sender that dies before its signal; not in a run that is over."""

    def alter(self, run: UUID, **facts: Any) -> None: ...

    def write(self, info: StepInfo) -> None:
        """An atomic step's write, which vanishes with its transaction."""

    def committed(self) -> None:
        """The atomic step under way has committed."""

    def atomic_effects(self, run_id: str) -> Counter[str]:
        """Committed writes by step key."""


class MemoryStore:
    """Rows in memory. Between an atomic step's write and its commit nothing else runs."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._first = self.make(no_crash_point)
        self._look = MemoryBench()
        self._look.journal = self._first
        self._drafted: list[tuple[str, str]] = []
        self._effects: list[tuple[str, str]] = []

    def enter(self) -> None:
        """There is nothing to open."""

    def leave(self) -> None:
        """There is nothing to close."""

    def make(self, crash: Crash) -> MemoryJournal:
        return MemoryJournal(self._now, crash)

    def journal(self, crash: Crash) -> Journal:
        journal = self.make(crash)
        journal._stored, journal._lock = self._first._stored, self._first._lock
        return journal

    def row(self, run: UUID) -> MemoryRun | None:
        return self._first._stored.runs.get(run)

    def steps(self, run: UUID) -> list[MemoryStep]:
        return list(self._first._stored.steps.get(run, {}).values())

    def mail(self, run: UUID) -> list[Mail]:
        return MemoryBench.mail(self._look, run)

    def slip(self, run: UUID, name: str, payload: str) -> bool:
        stored, row = self._first._stored, self.row(run)
        if row is None or row.status in TERMINAL:
            return False
        number = max(stored.events, default=0) + 1
        stored.events[number] = MemoryEvent(number=number, run=run, name=name, payload=payload)
        return True

    def alter(self, run: UUID, **facts: Any) -> None:
        self._first.alter(run, **facts)

    def write(self, info: StepInfo) -> None:
        host.get().check_alive()
        self._drafted = [(info.run_id, f"{info.step_id}#{info.occurrence}")]

    def committed(self) -> None:
        self._effects += self._drafted
        self._drafted = []

    def atomic_effects(self, run_id: str) -> Counter[str]:
        return Counter(key for run, key in self._effects if run == run_id)


class OrmStore:
    """Rows of one database alias; everything happens on the calling thread's connection."""

    def __init__(self, now: Callable[[], datetime], alias: str = "default") -> None:
        self._now = now
        self._alias = alias
        for rows in (events(alias), steps(alias), runs(alias), Effect.objects.using(alias)):
            rows.all().delete()  # of the world before
        self._bench = OrmBench(alias)

    def enter(self) -> None:
        # Tasks take over the connection of the task that made them: one for all of them.
        connections[self._alias].ensure_connection()

    def leave(self) -> None:
        connections[self._alias].close()

    def make(self, crash: Crash) -> OrmJournal:
        return OrmJournal(self._alias, self._now, crash)

    def journal(self, crash: Crash) -> Journal:
        return self.make(crash)

    def row(self, run: UUID) -> MemoryRun | None:
        return self._bench.run(run) if runs(self._alias).filter(pk=run).exists() else None

    def steps(self, run: UUID) -> list[MemoryStep]:
        rows = steps(self._alias).filter(workflow_run=run).order_by("pk")
        facts = rows.values_list("epoch", "superseded")
        return [
            MemoryStep(entry=entry, epoch=epoch, superseded=superseded)
            for entry, (epoch, superseded) in zip(read_entries(rows), facts, strict=True)
        ]

    def mail(self, run: UUID) -> list[Mail]:
        return self._bench.mail(run)

    def slip(self, run: UUID, name: str, payload: str) -> bool:
        row = self.row(run)
        if row is None or row.status in TERMINAL:
            return False
        mail = {"workflow_run_id": run, "name": name, "source": EVENT, "seen": False}
        events(self._alias).create(**mail, payload=json.loads(payload), created_at=self._now())
        return True

    def alter(self, run: UUID, **facts: Any) -> None:
        self._bench.alter(run, **facts)

    def write(self, info: StepInfo) -> None:
        host.get().check_alive()
        key = f"{info.step_id}#{info.occurrence}"
        Effect.objects.using(self._alias).create(run_id=info.run_id, step=key)

    def committed(self) -> None:
        """The write is a row of the same transaction."""

    def atomic_effects(self, run_id: str) -> Counter[str]:
        rows = Effect.objects.using(self._alias).filter(run_id=run_id)
        return Counter(rows.values_list("step", flat=True))


def no_crash_point(point: str) -> None:
    """The store's own look at its rows never ends anybody."""
