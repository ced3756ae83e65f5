"""The journal in memory: the twin of the ORM's, for tests, ours and users'.

Every transition decides exactly as the UPDATE of the ORM journal does; both pass one contract
suite. A transition writes a draft, which is taken over as a whole or not at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar, Union
from uuid import UUID

from django_hookflow.core import transitions as t
from django_hookflow.core.entries import Entry, RunStatus
from django_hookflow.core.forking import UnknownStep
from django_hookflow.journals import memory_forks, memory_holder, memory_outside, memory_retries
from django_hookflow.journals.base import CrashPoint, no_crash
from django_hookflow.journals.memory_rows import (
    OPEN,
    Draft,
    MemoryEvent,
    MemoryRun,
    Tables,
    changed,
)

R = TypeVar("R")

#: What a transaction writes that only reads: making one would be most of its work.
_NOTHING = Tables()


class MemoryJournal:
    """Applies transitions to rows in memory; may be used by several threads."""

    infrastructure_errors: tuple[type[BaseException], ...] = (MemoryError,)
    sync_only_errors: tuple[type[BaseException], ...] = ()

    def __init__(self, clock: Callable[[], datetime], crash: CrashPoint = no_crash) -> None:
        self._clock = clock
        self._crash = crash
        self._lock = threading.RLock()
        self._stored = Tables()

    # --- what tests look at

    def runs(self) -> tuple[MemoryRun, ...]:
        """All runs, in the order of their triggers."""
        with self._lock:
            return tuple(self._stored.runs.values())

    def steps(self, run: UUID) -> tuple[Entry, ...]:
        """All steps of a run, in the order of their first writing."""
        with self._lock:
            return tuple(step.entry for step in self._stored.steps.get(run, {}).values())

    def events(self, run: UUID) -> tuple[MemoryEvent, ...]:
        """The run's mailbox, consumed events too, in the order of arrival."""
        return tuple(self._read(lambda draft: draft.events(run)))

    def tags(self, run: UUID) -> dict[str, str]:
        """By which words the run is found."""
        return dict(self._read(lambda draft: draft.tags(run)))

    def alter(self, run: UUID, **facts: Any) -> None:
        """Set facts of a run directly, as a test would by an UPDATE."""
        with self._lock:
            self._stored.runs[run] = changed(self._stored.runs[run], **facts)

    # --- the calling thread

    def pinned(self) -> bool:
        return False

    def pooled(self) -> bool:
        return False

    def close_thread(self, unused_since: float = float("inf")) -> None:
        """Nothing is open."""

    def in_transaction(self) -> bool:
        return False

    def in_any_transaction(self) -> bool:
        return False

    def guard(self, work: Callable[[], R]) -> R:
        return work()

    def on_commit(self, action: Callable[[], None]) -> None:
        action()

    # --- transactions

    def _run(self, name: str, body: Callable[..., R], *args: Any) -> R:
        self._crash(f"{name}:before")
        return self._take(name, body, *args)

    def _take(self, name: str, body: Callable[..., R], *args: Any) -> R:
        with self._lock:
            draft = Draft(self._stored, self._clock())
            answer = body(draft, *args)
            self._crash(f"{name}:inside")
            self._stored.take_over(draft.written)
        self._crash(f"{name}:after")
        return answer

    def _read(self, body: Callable[..., R], *args: Any) -> R:
        with self._lock:
            return body(Draft(self._stored, self._clock(), _NOTHING), *args)

    # --- a holder

    def look(self, id: UUID) -> Union[t.RunView, None]:
        def view(draft: Draft) -> Union[t.RunView, None]:
            run = draft.run(id)
            return None if run is None else run.view(draft.now)

        return self._read(view)

    def claim(self, transition: t.Claim) -> Union[t.Claimed, t.NotClaimed]:
        return self._run("claim", memory_holder.claim, transition)

    def commit(self, transition: t.Commit) -> Union[t.Committed, t.NotYet]:
        name = type(transition).__name__.lower()
        if not isinstance(transition, t.Atomic):
            return self._run(name, memory_holder.commit, transition)

        def after_work(draft: Draft) -> Union[t.Committed, t.NotYet]:
            return memory_holder.commit(draft, transition, value)

        self._crash("atomic:before")
        # Outside of the lock: the work may take its time, or use the journal.
        value = transition.work()
        return self._take(name, after_work)

    def suspend(self, transition: t.Suspend) -> Union[t.Suspended, t.SignalsMoved, t.StaysPaused]:
        return self._run("suspend", memory_holder.suspend, transition)

    def release(self, transition: t.Release) -> None:
        self._run("release", memory_holder.release, transition)

    def fail(self, transition: t.Fail) -> Union[t.Failing, t.StaysPaused, t.SignalsMoved]:
        return self._run("fail", memory_holder.fail, transition)

    def finish(self, transition: t.Finish) -> Union[t.Finished, t.StaysPaused, t.SignalsMoved]:
        return self._run("finish", memory_holder.finish, transition)

    def beat(self, transition: t.Beat) -> Sequence[UUID]:
        return self._quietly(memory_holder.beat, transition)

    # --- from outside

    def trigger(self, transition: t.Trigger) -> Union[t.Triggered, t.Conflict]:
        return self._run("trigger", memory_outside.trigger, transition)

    def trigger_many(
        self, transitions: Sequence[t.Trigger]
    ) -> Sequence[Union[t.Triggered, t.Conflict]]:
        if not transitions:
            return []
        return self._run("trigger", memory_outside.trigger_many, transitions)

    def signal(self, transition: t.Signal) -> t.Signalled:
        return self._run("signal", memory_outside.signal, transition)

    def send_event(self, transition: t.SendEvent) -> Union[t.Signalled, t.Over]:
        return self._run("event", memory_outside.send_event, transition)

    def cancel(self, transition: t.Cancel) -> Union[t.Cancelled, t.Over]:
        return self._run("cancel", memory_outside.cancel, transition)

    def fork(self, transition: t.Fork) -> Union[t.Forked, UnknownStep, t.Over]:
        return self._run("fork", memory_forks.fork, transition)

    def entries(self, id: UUID) -> Union[Sequence[Entry], None]:
        return self._read(memory_forks.entries, id)

    def pause(self, transition: t.Pause) -> Union[t.Paused, t.Unchanged]:
        return self._run("pause", memory_outside.pause, transition)

    def resume(self, transition: t.Resume) -> Union[t.Resumed, t.Unchanged]:
        return self._run("resume", memory_outside.resume, transition)

    def retry(
        self, transition: t.Retry
    ) -> Union[t.Retried, t.NotFailed, t.Compensated, t.Replaced]:
        return self._run("retry", memory_retries.retry, transition)

    def orphans(self, *, limit: int, of: Union[Sequence[UUID], None] = None) -> Sequence[UUID]:
        return self._read(memory_outside.orphans, limit, of)

    # --- wake-ups

    def rearm(self, transition: t.Rearm) -> bool:
        return self._run("rearm", memory_outside.rearm, transition)

    def note_blocked(self, id: UUID, reason: str) -> None:
        with self._lock:
            run = self._stored.runs.get(id)
            if run is not None and run.status in OPEN:
                self.alter(id, blocked=reason)

    def owed(self, id: UUID) -> Union[t.Owed, None]:
        return self._read(memory_outside.owed, id)

    def published(self, id: UUID, wake: int) -> None:
        self.published_many({id: wake})

    def owed_many(self, ids: Sequence[UUID]) -> Sequence[t.Owed]:
        return [owed for id in ids if (owed := self.owed(id)) is not None]

    def published_many(self, wakes: Mapping[UUID, int]) -> None:
        if wakes:
            self._run("published", memory_outside.published, wakes)

    def find_owed(self, *, older_than: timedelta, limit: int) -> Sequence[UUID]:
        return self._read(memory_outside.find_owed, older_than, limit)

    def find_due(
        self, *, limit: int, of: Union[Sequence[tuple[str, str]], None] = None
    ) -> Sequence[tuple[UUID, int]]:
        return self._read(memory_outside.find_due, limit, of)

    def count_ended(self, *, older_than: timedelta, statuses: Sequence[RunStatus]) -> int:
        return len(self._read(memory_outside.ended, older_than, statuses))

    def prune(self, *, older_than: timedelta, statuses: Sequence[RunStatus], limit: int) -> int:
        with self._lock:
            found = self._read(memory_outside.ended, older_than, statuses)[:limit]
            self._stored.remove(found)
            return len(found)

    def nudge(self, *, overdue: timedelta, limit: int) -> Sequence[UUID]:
        with self._lock:
            found = self._read(memory_outside.overdue, overdue, limit)
            return [id for id in found if self._run("nudge", memory_outside.nudge, id)]

    def signal_unseen(self, *, limit: int) -> Sequence[UUID]:
        unseen = self._read(memory_outside.unseen, limit)
        signals = [t.Signal(id=id, wait=wait) for id, wait in unseen]
        return list(dict.fromkeys(s.id for s in signals if self.signal(s).owed))

    # --- marks

    def mark(self, key: str) -> None:
        self._quietly(Draft.mark, key)

    def marked_at(self, key: str) -> Union[datetime, None]:
        with self._lock:
            return self._stored.marks.get(key)

    def _quietly(self, body: Callable[..., R], *args: Any) -> R:
        """A transaction without crash points."""
        with self._lock:
            draft = Draft(self._stored, self._clock())
            answer = body(draft, *args)
            self._stored.take_over(draft.written)
            return answer
