"""Stores with one rule of the protocol broken each; a simulation is worth what it finds."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from django_hookflow.core import transitions as t
from django_hookflow.core.entries import Kind, RunStatus, StepStatus
from django_hookflow.engine.place import StepInfo
from django_hookflow.journals.base import CrashPoint
from django_hookflow.journals.memory import MemoryJournal
from django_hookflow.journals.memory_rows import Draft, Tables
from tests.faults.sim.stores import MemoryStore


class NoFence(MemoryJournal):
    """A holder that lost its lease still records: its epoch is not compared."""

    def commit(self, transition: t.Commit) -> Any:
        fence = transition.fence
        run = self._stored.runs[fence.id]
        self.alter(run.id, epoch=fence.epoch, lease_until=run.lease_until or self._clock())
        try:
            return super().commit(transition)
        finally:
            self.alter(run.id, epoch=run.epoch)


class NoSweep(MemoryJournal):
    """Nobody looks for what is overdue."""

    def nudge(self, *, overdue: timedelta, limit: int) -> Any:
        return []


class EagerTimers(MemoryJournal):
    """A claim completes every sleep that it finds."""

    def claim(self, transition: t.Claim) -> Any:
        rows = self._stored.steps.get(transition.id, {})
        for key, step in rows.items():
            if step.entry.kind is Kind.SLEEP and not step.entry.is_outcome:
                rows[key] = replace(step, entry=replace(step.entry, ready_at=self._clock()))
        return super().claim(transition)


class AnyoneClaims(MemoryJournal):
    """A lease keeps nobody out."""

    def look(self, id: UUID) -> Any:
        view = super().look(id)
        held = view is not None and view.lease_until is not None
        return replace(view, lease_until=None, due_at=view.now) if held else view

    def claim(self, transition: t.Claim) -> Any:
        run = self._stored.runs.get(transition.id)
        if run is not None and run.lease_until is not None:
            self.alter(run.id, lease_until=None, due_at=self._clock())
        return super().claim(transition)


class ReopensFinished(MemoryJournal):
    """A finished run is put back by whoever gives it back late."""

    def published_many(self, wakes: Any) -> None:
        super().published_many(wakes)
        for id in wakes:
            if self._stored.runs[id].status is RunStatus.COMPLETED:
                self.alter(id, status=RunStatus.SUSPENDED, due_at=self._clock())


class ForgetsPending(MemoryJournal):
    """A suspended wait is not written down, so its time is computed anew at each replay."""

    def suspend(self, transition: t.Suspend) -> Any:
        return super().suspend(replace(transition, pending=()))


class TwoCommits(MemoryJournal):
    """The step's row is there before the run's row counts it."""

    def _take(self, name: str, body: Any, *args: Any) -> Any:
        if name != "record":
            return super()._take(name, body, *args)
        draft = Draft(self._stored, self._clock())
        answer = body(draft, *args)
        self._stored.take_over(Tables(steps=draft.written.steps))
        self._crash("record:inside")
        self._stored.take_over(draft.written)
        self._crash("record:after")
        return answer


class CollectsEarly(MemoryJournal):
    """A child is taken for done whenever it is looked at."""

    def commit(self, transition: t.Commit) -> Any:
        if isinstance(transition, t.Collect):
            done = replace(transition.entry, status=StepStatus.COMPLETED, value="[]")
            transition = t.Record(fence=transition.fence, entry=done)
        return super().commit(transition)


class ForgetsOrphans(MemoryJournal):
    """Nobody cancels the children of a run that is over."""

    def orphans(self, *, limit: int, of: Any = None) -> Any:
        return []


class OldestFirst(MemoryJournal):
    """A cancelled run is wound up in the order in which it went on."""

    def claim(self, transition: t.Claim) -> Any:
        claimed = super().claim(transition)
        if not isinstance(claimed, t.Claimed) or claimed.run.status is not RunStatus.CANCELLING:
            return claimed
        last = claimed.run.seq + 1
        entries = tuple(
            replace(entry, seq=last - entry.seq) if entry.seq and entry.undo else entry
            for entry in claimed.entries
        )
        return replace(claimed, entries=entries)


class CancelFences(MemoryJournal):
    """A cancel takes the run from its holder, whose step takes effect after it was undone."""

    def _take(self, name: str, body: Any, *args: Any) -> Any:
        def fencing(draft: Draft, transition: t.Cancel) -> Any:
            answer = body(draft, transition)
            run = draft.run(transition.id)
            if run is None or run.lease_until is None or answer != t.Cancelled():
                return answer  # nobody holds it
            due = {"lease_until": None, "due_at": draft.now, "owed_at": draft.now}
            draft.put_run(replace(run, epoch=run.epoch + 1, wake_n=run.wake_n + 1, **due))
            return t.Cancelled(owed=True)

        return super()._take(name, fencing if name == "cancel" else body, *args)


class DoublesEvents(MemoryJournal):
    """An event stays in the mailbox when it is received."""

    def commit(self, transition: t.Commit) -> Any:
        committed = super().commit(transition)
        events = self._stored.events
        events.update({n: replace(event, consumed_by=None) for n, event in events.items()})
        return committed


class DeafToEvents(MemoryJournal):
    """An event is stored, and whoever waits for it is not told."""

    def _take(self, name: str, body: Any, *args: Any) -> Any:
        def telling_nobody(draft: Draft, transition: t.SendEvent) -> Any:
            before, answer = draft.run(transition.id), body(draft, transition)
            if before is not None and before.waits and isinstance(answer, t.Signalled):
                draft.put_run(replace(before, signals=before.signals + 1))
            return answer

        return super()._take(name, telling_nobody if name == "event" else body, *args)


class WritesOutside(MemoryStore):
    """An atomic step's write does not wait for its transaction."""

    def write(self, info: StepInfo) -> None:
        super().write(info)
        self.committed()


def store_of(journal: type[MemoryJournal]) -> type[MemoryStore]:
    """A store whose processes use that journal."""

    class Planted(MemoryStore):
        def make(self, crash: CrashPoint) -> MemoryJournal:
            return journal(self._now, crash)

    return Planted


PLANTED: dict[str, type[MemoryStore]] = {
    **{
        journal.__name__: store_of(journal)
        for journal in (
            NoFence, NoSweep, EagerTimers, AnyoneClaims,
            ReopensFinished, ForgetsPending, TwoCommits, CollectsEarly, ForgetsOrphans,
            OldestFirst, CancelFences, DoublesEvents, DeafToEvents,
        )
    },
    "WritesOutside": WritesOutside,
}  # fmt: skip
