"""Journals in memory with one rule of the protocol broken each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from django_hookflow.core import transitions as t
from django_hookflow.core.entries import StepStatus
from django_hookflow.journals.memory import MemoryJournal
from django_hookflow.journals.memory_rows import Draft, MemoryRun


class Planted(MemoryJournal):
    def row(self, id: UUID) -> MemoryRun:
        return self._stored.runs[id]


class RecordsWithoutFence(Planted):
    def commit(self, transition: t.Commit) -> Any:
        if isinstance(transition, t.Record):
            fence = replace(transition.fence, epoch=self.row(transition.fence.id).epoch)
            transition = replace(transition, fence=fence)
        return super().commit(transition)


class CommitsAfterLettingGo(Planted):
    def commit(self, transition: t.Commit) -> Any:
        run = self.row(transition.fence.id)
        if run.lease_until is None and run.epoch == transition.fence.epoch:
            self.alter(run.id, lease_until=self._clock())
        return super().commit(transition)


class CommitsAfterTheEnd(Planted):
    def commit(self, transition: t.Commit) -> Any:
        run = self.row(transition.fence.id)
        over = run.finished_at is not None and run.epoch == transition.fence.epoch
        if not over:
            return super().commit(transition)
        self.alter(run.id, status="running", lease_until=self._clock())
        answer = super().commit(transition)
        self.alter(run.id, status=run.status, lease_until=None, due_at=None)
        return answer


class OverwritesOutcomes(Planted):
    """The second barrier, behind the fence, is gone."""

    def commit(self, transition: t.Commit) -> Any:
        entry, run = transition.entry, self.row(transition.fence.id)
        id = (run.generation, entry.key, entry.series)
        rows = self._stored.steps.get(run.id, {})
        if run.holds(transition.fence.epoch) and id in rows:
            pending = replace(rows[id].entry, status=StepStatus.PENDING, seq=None)
            rows[id] = replace(rows[id], entry=pending)
        return super().commit(transition)


class SuspendsBlindly(Planted):
    def suspend(self, transition: t.Suspend) -> Any:
        run = self.row(transition.fence.id)
        return super().suspend(replace(transition, seen=run.signals))


class SuspendsWithoutWake(Planted):
    def suspend(self, transition: t.Suspend) -> Any:
        answer = super().suspend(transition)
        if isinstance(answer, t.Suspended):
            self.alter(transition.fence.id, owed_at=None)
        return answer


class SleepsWithoutGuard(Planted):
    def suspend(self, transition: t.Suspend) -> Any:
        answer = super().suspend(transition)
        if answer == t.Suspended(owed=True):
            self.alter(transition.fence.id, due_at=None)
        return answer


class ClaimsWhatIsHeld(Planted):
    def claim(self, transition: t.Claim) -> Any:
        run = self.row(transition.id)
        if run.leased(self._clock()):
            self.alter(run.id, lease_until=self._clock() - timedelta(seconds=1))
        return super().claim(transition)


class ClaimsWithoutEpoch(Planted):
    def claim(self, transition: t.Claim) -> Any:
        answer = super().claim(transition)
        if isinstance(answer, t.Claimed) and answer.found_dead:
            self.alter(transition.id, epoch=answer.run.epoch - 1)
        return answer


class CancelsWithoutEpoch(Planted):
    def cancel(self, transition: t.Cancel) -> Any:
        answer = super().cancel(transition)
        if isinstance(answer, t.Cancelled):
            self.alter(transition.id, epoch=self.row(transition.id).epoch - 1)
        return answer


class RetriesWithoutSuperseding(Planted):
    def retry(self, transition: t.Retry) -> Any:
        run = self.row(transition.id)
        if run.error is not None:
            self.alter(run.id, error=replace(run.error, uncaught=()))
        return super().retry(transition)


class FiresEarly(Planted):
    def commit(self, transition: t.Commit) -> Any:
        ready_at = transition.entry.ready_at
        if isinstance(transition, t.Fire) and ready_at is not None:
            entry = replace(transition.entry, ready_at=ready_at - timedelta(seconds=1))
            transition = replace(transition, entry=entry)
        return super().commit(transition)


class ReceivesTheNewest(Planted):
    def commit(self, transition: t.Commit) -> Any:
        events = self._stored.events
        try:
            self._stored.events = {-number: e for number, e in events.items()}
            return super().commit(transition)
        finally:
            self._stored.events = {-number: e for number, e in self._stored.events.items()}


class ReceivesBehindTheFunctionsBack(Planted):
    """An outcome that the function was not told of yet may make it give up the wait."""

    def commit(self, transition: t.Commit) -> Any:
        if isinstance(transition, t.Receive):
            transition = replace(transition, after=None)
        return super().commit(transition)


class SendsTwice(Planted):
    def send_event(self, transition: t.SendEvent) -> Any:
        known = [e for e in self.events(transition.id) if e.dedup_id == transition.dedup_id]
        twice = transition.dedup_id is not None and known
        return super().send_event(replace(transition, dedup_id=None) if twice else transition)


class SignalsWithoutVersion(Planted):
    def signal(self, transition: t.Signal) -> Any:
        before = self._stored.runs.get(transition.id)
        answer = super().signal(transition)
        if before is not None:
            self.alter(transition.id, signals=before.signals)
        return answer


class ForgetsWhichWake(Planted):
    def published(self, id: UUID, wake: int) -> None:
        super().published(id, self.row(id).wake_n)


class NudgesBySleeping(Planted):
    def nudge(self, *, overdue: timedelta, limit: int) -> Sequence[UUID]:
        won = super().nudge(overdue=overdue, limit=limit)
        for id in won:
            self.alter(id, due_at=self._clock())
        return won


class CommitsInTwo(Planted):
    """What a crash interrupts is half there: the run row is written ahead of the rest."""

    def _run(self, name: str, body: Callable[..., Any], *args: Any) -> Any:
        def ahead(draft: Draft, *args: Any) -> Any:
            answer = body(draft, *args)
            self._stored.runs.update(draft.written.runs)
            return answer

        return super()._run(name, ahead, *args)


PLANTED: tuple[type[Planted], ...] = tuple(Planted.__subclasses__())
