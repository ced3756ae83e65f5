"""The memory journal's tables: immutable rows, and drafts that are taken over as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Union
from uuid import UUID

from django_hookflow.core.entries import ACTIVE, Entry, ErrorRecord, RunStatus
from django_hookflow.core.tags import Tags
from django_hookflow.core.transitions import EVENT, RunView

OPEN = (*ACTIVE, RunStatus.PAUSED)

#: generation, key, series
StepId = tuple[int, str, int]


@dataclass(frozen=True, kw_only=True)
class MemoryRun:
    """A run with all its facts; their names are those of the columns of ``WorkflowRun``."""

    id: UUID
    run_id: str
    workflow_id: str
    version: str
    seed: int
    data: str
    created_at: datetime
    due_at: Union[datetime, None]
    owed_at: Union[datetime, None]
    deadline: Union[datetime, None] = None
    wake_n: int = 1
    generation: int = 0
    parent: Union[UUID, None] = None
    parent_step: str = ""
    depth: int = 0
    status: RunStatus = RunStatus.PENDING
    epoch: int = 0
    lease_until: Union[datetime, None] = None
    lease_w: int = 0
    signals: int = 0
    seq: int = 0
    waits: tuple[str, ...] = ()
    nudges: int = 0
    nudged_at: Union[datetime, None] = None
    deaths: int = 0
    blocked: str = ""
    blocked_n: int = 0
    result: Union[str, None] = None
    error: Union[ErrorRecord, None] = None
    state: Union[str, None] = None
    state_n: int = 0
    started_at: Union[datetime, None] = None
    finished_at: Union[datetime, None] = None

    def leased(self, now: datetime) -> bool:
        return self.lease_until is not None and self.lease_until >= now

    def holds(self, epoch: int) -> bool:
        """Whether a fence of that epoch still holds."""
        return self.epoch == epoch and self.lease_until is not None

    def view(self, now: datetime) -> RunView:
        facts = {name: getattr(self, name) for name in _VIEWED}
        return RunView(now=now, **facts)


def changed(run: MemoryRun, **facts: Any) -> MemoryRun:
    """A copy with other facts: ``dataclasses.replace``, which looks at each of the 33 instead.

    It is most of what a transition in memory does, and a simulation does little else.
    """
    copy: MemoryRun = object.__new__(MemoryRun)
    vars(copy).update(vars(run), **facts)
    if len(vars(copy)) != len(vars(run)):
        raise TypeError(f"a run has no {', '.join(sorted(facts.keys() - vars(run).keys()))}")
    return copy


_VIEWED = [f.name for f in fields(RunView) if f.name != "now"]


@dataclass(frozen=True, kw_only=True)
class MemoryStep:
    """A step row: its entry, and under which epoch it was written."""

    entry: Entry
    epoch: int
    superseded: bool = False


@dataclass(frozen=True, kw_only=True)
class MemoryEvent:
    """An event in a run's mailbox."""

    number: int
    run: UUID
    name: str
    payload: str
    dedup_id: Union[str, None] = None
    source: str = EVENT
    consumed_by: Union[str, None] = None
    seen: bool = False


@dataclass
class Tables:
    """Everything that is stored; also what one transaction wants to store."""

    runs: dict[UUID, MemoryRun] = field(default_factory=dict)
    run_ids: dict[str, UUID] = field(default_factory=dict)
    steps: dict[UUID, dict[StepId, MemoryStep]] = field(default_factory=dict)
    events: dict[int, MemoryEvent] = field(default_factory=dict)
    tags: dict[UUID, Tags] = field(default_factory=dict)
    marks: dict[str, datetime] = field(default_factory=dict)

    def take_over(self, draft: Tables) -> None:
        """All of a draft's rows; nothing in here can fail half-way."""
        self.runs.update(draft.runs)
        self.run_ids.update(draft.run_ids)
        for run, rows in draft.steps.items():
            self.steps.setdefault(run, {}).update(rows)
        self.events.update(draft.events)
        self.tags.update(draft.tags)
        self.marks.update(draft.marks)

    def remove(self, ids: list[UUID]) -> None:
        """Runs with everything that belongs to them."""
        gone = set(ids)
        self.run_ids = {name: id for name, id in self.run_ids.items() if id not in gone}
        self.events = {n: event for n, event in self.events.items() if event.run not in gone}
        for id in gone:
            del self.runs[id]
            self.steps.pop(id, None)
            self.tags.pop(id, None)
        for id, run in self.runs.items():
            if run.parent in gone:
                self.runs[id] = changed(run, parent=None)


class Draft:
    """One transaction: reads what is stored or drafted, writes to the draft only."""

    def __init__(self, stored: Tables, now: datetime, written: Union[Tables, None] = None) -> None:
        self._stored = stored
        self.now = now
        self.written = Tables() if written is None else written

    def discard(self) -> None:
        """Write nothing of what was drafted."""
        self.written = Tables()

    def run(self, id: UUID) -> Union[MemoryRun, None]:
        return self.written.runs.get(id) or self._stored.runs.get(id)

    def put_run(self, run: MemoryRun) -> None:
        self.written.runs[run.id] = run
        self.written.run_ids[run.run_id] = run.id

    def run_named(self, run_id: str) -> Union[MemoryRun, None]:
        id = self._stored.run_ids.get(run_id)
        return None if id is None else self.run(id)

    def all_runs(self) -> list[MemoryRun]:
        return list(self._stored.runs.values())

    def step(self, run: UUID, id: StepId) -> Union[MemoryStep, None]:
        drafted = self.written.steps.get(run, {}).get(id)
        return drafted or self._stored.steps.get(run, {}).get(id)

    def steps(self, run: UUID) -> dict[StepId, MemoryStep]:
        return {**self._stored.steps.get(run, {}), **self.written.steps.get(run, {})}

    def put_step(self, run: UUID, generation: int, step: MemoryStep) -> None:
        id = (generation, step.entry.key, step.entry.series)
        self.written.steps.setdefault(run, {})[id] = step

    def events(self, run: Union[UUID, None] = None) -> list[MemoryEvent]:
        """In the order of their arrival."""
        both = {**self._stored.events, **self.written.events}
        return [both[n] for n in sorted(both) if run is None or both[n].run == run]

    def put_event(self, event: MemoryEvent) -> None:
        self.written.events[event.number] = event

    def next_event(self) -> int:
        return max(self._stored.events, default=0) + len(self.written.events) + 1

    def tags(self, run: UUID) -> Tags:
        return self.written.tags.get(run) or self._stored.tags.get(run, ())

    def put_tags(self, run: UUID, tags: Tags) -> None:
        self.written.tags[run] = tags

    def mark(self, key: str) -> None:
        self.written.marks[key] = self.now
