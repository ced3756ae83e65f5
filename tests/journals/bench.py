"""One journal under test with a clock that stands still, and its rows as plain values."""

import uuid
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from django.db.models import Q

from django_hookflow.core.entries import Entry, Kind, RunStatus, StepStatus, step_key
from django_hookflow.core.transitions import (
    Claim,
    Claimed,
    Committed,
    Fence,
    Record,
    SendEvent,
    Suspend,
    Suspended,
    Trigger,
    Triggered,
)
from django_hookflow.journals.memory import MemoryJournal
from django_hookflow.journals.memory_rows import MemoryRun
from django_hookflow.journals.orm import OrmJournal
from django_hookflow.journals.orm_rows import events, pack_waits, raw, read_entries, runs, steps
from django_hookflow.models import WorkflowTag, read_error

LEASE = timedelta(seconds=60)
SECOND = timedelta(seconds=1)
START = datetime(2026, 11, 22, 12, 0, 0, 123457, tzinfo=timezone.utc)


class Crash(BaseException):
    """The process ended here."""


@dataclass(frozen=True)
class Mail:
    name: str
    payload: str
    dedup_id: str | None
    consumed_by: str | None
    seen: bool


class Bench:
    """The parts that do not depend on the kind of journal."""

    journal: Any

    def __init__(self) -> None:
        self.time = START
        self.crash_at = ""
        self.points: list[str] = []

    def now(self) -> datetime:
        return self.time

    def pass_time(self, **parts: float) -> None:
        self.time += timedelta(**parts)

    def crash(self, point: str) -> None:
        self.points.append(point)
        if point == self.crash_at:
            raise Crash(point)

    # --- the usual beginnings

    def start(self, run_id: str = "", **facts: Any) -> uuid.UUID:
        id = uuid.uuid4()
        values = {"workflow_id": "w", "version": "", "seed": 7, "data": '{"n":1}', **facts}
        answer = self.journal.trigger(Trigger(id=id, run_id=run_id or str(id), **values))
        assert answer == Triggered(id=id, created=True)
        return id

    def claim(self, id: uuid.UUID, wake: int = 1) -> Claimed:
        claimed = self.journal.claim(Claim(id=id, wake=wake, lease=LEASE))
        assert isinstance(claimed, Claimed)
        return claimed

    def held(self) -> tuple[uuid.UUID, Fence]:
        """A run, claimed, its first wake-up published."""
        id = self.start()
        self.journal.published(id, 1)
        return id, Fence(id=id, epoch=self.claim(id).run.epoch, lease=LEASE)

    def suspended(self, *waits: str, due: Any = None, **facts: Any) -> uuid.UUID:
        id, fence = self.held()
        answer = self.journal.suspend(Suspend(fence=fence, seen=0, due=due, waits=waits, **facts))
        assert isinstance(answer, Suspended)
        if answer.owed:
            self.journal.published(id, 2)
        return id

    def record(self, fence: Fence, step_id: str, **facts: Any) -> Committed:
        entry = outcome(step_id, **facts)
        answer = self.journal.commit(Record(fence=fence, entry=entry))
        assert isinstance(answer, Committed)
        return answer

    def send(self, id: uuid.UUID, payload: str, name: str = "paid", **facts: Any) -> Any:
        return self.journal.send_event(SendEvent(id=id, name=name, payload=payload, **facts))

    # --- what tests look at

    def run(self, id: uuid.UUID) -> MemoryRun:
        raise NotImplementedError

    def steps(self, id: uuid.UUID) -> tuple[Entry, ...]:
        raise NotImplementedError

    def mail(self, id: uuid.UUID) -> list[Mail]:
        raise NotImplementedError

    def tags(self, id: uuid.UUID) -> dict[str, str]:
        raise NotImplementedError

    def epochs(self, id: uuid.UUID) -> list[int]:
        """Under which its steps were written."""
        raise NotImplementedError

    def alter(self, id: uuid.UUID, **facts: Any) -> None:
        raise NotImplementedError

    def supersede(self, id: uuid.UUID) -> None:
        """All its steps, as a retry does."""
        raise NotImplementedError

    def superseded(self, id: uuid.UUID) -> set[tuple[str, int]]:
        """Of the steps that are: key and series."""
        raise NotImplementedError

    def add_unseen_event(self, id: uuid.UUID, name: str) -> None:
        raise NotImplementedError

    def remove(self, id: uuid.UUID) -> None:
        """As a person would by hand."""
        raise NotImplementedError

    def everything(self, id: uuid.UUID) -> Any:
        return self.run(id), self.steps(id), self.mail(id)


def entry(step_id: str, kind: Kind = Kind.RUN, **facts: Any) -> Entry:
    occurrence = facts.pop("occurrence", 1)
    key = step_key(step_id, occurrence)
    return Entry(key=key, step_id=step_id, occurrence=occurrence, kind=kind, **facts)


def outcome(step_id: str, kind: Kind = Kind.RUN, **facts: Any) -> Entry:
    done = {"status": StepStatus.COMPLETED, "attempt": 1, "value": f'"{step_id}"', **facts}
    return entry(step_id, kind, **done)


def sleep(step_id: str, ready_at: datetime, requested_seq: int = 0, **facts: Any) -> Entry:
    return entry(step_id, Kind.SLEEP, ready_at=ready_at, requested_seq=requested_seq, **facts)


class MemoryBench(Bench):
    def __init__(self) -> None:
        super().__init__()
        self.journal: MemoryJournal = MemoryJournal(self.now, self.crash)

    def run(self, id: uuid.UUID) -> MemoryRun:
        return next(run for run in self.journal.runs() if run.id == id)

    def steps(self, id: uuid.UUID) -> tuple[Entry, ...]:
        return self.journal.steps(id)

    def mail(self, id: uuid.UUID) -> list[Mail]:
        names = [f.name for f in fields(Mail)]
        return [Mail(**{n: getattr(e, n) for n in names}) for e in self.journal.events(id)]

    def tags(self, id: uuid.UUID) -> dict[str, str]:
        return self.journal.tags(id)

    def epochs(self, id: uuid.UUID) -> list[int]:
        return [step.epoch for step in self.journal._stored.steps.get(id, {}).values()]

    def alter(self, id: uuid.UUID, **facts: Any) -> None:
        self.journal.alter(id, **facts)

    def supersede(self, id: uuid.UUID) -> None:
        rows = self.journal._stored.steps[id]
        rows.update({key: replace(step, superseded=True) for key, step in rows.items()})

    def superseded(self, id: uuid.UUID) -> set[tuple[str, int]]:
        rows = self.journal._stored.steps.get(id, {})
        return {(key, series) for (_, key, series), step in rows.items() if step.superseded}

    def remove(self, id: uuid.UUID) -> None:
        self.journal._stored.remove([id])

    def add_unseen_event(self, id: uuid.UUID, name: str) -> None:
        """As a sender leaves it that died between its commit and the signal."""
        self.send(id, '"lost"', name)
        events = self.journal._stored.events
        events[max(events)] = replace(events[max(events)], seen=False)


class OrmBench(Bench):
    def __init__(self, alias: str) -> None:
        super().__init__()
        self.alias = alias
        self.journal: OrmJournal = OrmJournal(alias, self.now, self.crash)

    def run(self, id: uuid.UUID) -> MemoryRun:
        own = ("data", "result", "error", "state")
        texts = {f"raw_{column}": raw(column) for column in own}
        names = [f.name for f in fields(MemoryRun) if f.name not in (*own, "parent")]
        row = runs(self.alias).filter(pk=id).annotate(**texts)
        facts = row.values(*names, *texts, "parent_id").get()
        for column in own:
            facts[column] = facts.pop(f"raw_{column}")
        error = facts["error"]
        facts["error"] = None if error is None else read_error(error)
        facts["waits"] = tuple(facts["waits"].strip("\n").split("\n")) if facts["waits"] else ()
        facts["status"] = RunStatus(facts["status"])
        return MemoryRun(parent=facts.pop("parent_id"), **facts)

    def steps(self, id: uuid.UUID) -> tuple[Entry, ...]:
        return tuple(read_entries(steps(self.alias).filter(workflow_run=id)))

    def mail(self, id: uuid.UUID) -> list[Mail]:
        rows = events(self.alias).filter(workflow_run=id).annotate(text=raw("payload"))
        columns = ("name", "text", "dedup_id", "consumed_by__key", "seen")
        found = [Mail(*row) for row in rows.order_by("pk").values_list(*columns)]
        # What the journal makes up for its own repeats is nobody's business.
        return [
            Mail(m.name, m.payload, None, m.consumed_by, m.seen)
            if (m.dedup_id or "").startswith("auto:")
            else m
            for m in found
        ]

    def tags(self, id: uuid.UUID) -> dict[str, str]:
        tags = WorkflowTag.objects.using(self.alias).filter(workflow_run=id)
        assert len(tags) == len({tag.key for tag in tags})
        return {tag.key: tag.value for tag in tags}

    def epochs(self, id: uuid.UUID) -> list[int]:
        rows = steps(self.alias).filter(workflow_run=id)
        return list(rows.order_by("pk").values_list("epoch", flat=True))

    def alter(self, id: uuid.UUID, **facts: Any) -> None:
        if "parent" in facts:
            facts["parent_id"] = facts.pop("parent")
        if "waits" in facts:
            facts["waits"] = pack_waits(facts["waits"])
        assert runs(self.alias).filter(Q(pk=id)).update(**facts) == 1

    def add_unseen_event(self, id: uuid.UUID, name: str) -> None:
        self.send(id, '"lost"', name)
        events(self.alias).filter(workflow_run=id, name=name).update(seen=False)

    def remove(self, id: uuid.UUID) -> None:
        runs(self.alias).filter(pk=id).delete()

    def supersede(self, id: uuid.UUID) -> None:
        steps(self.alias).filter(workflow_run=id).update(superseded=True)

    def superseded(self, id: uuid.UUID) -> set[tuple[str, int]]:
        rows = steps(self.alias).filter(workflow_run=id, superseded=True)
        return set(rows.values_list("key", "series"))
