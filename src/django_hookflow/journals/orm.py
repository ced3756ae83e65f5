"""The journal in Django's database: one line per transition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar, Union
from uuid import UUID

from django.core.exceptions import SynchronousOnlyOperation
from django.db import InterfaceError, OperationalError

from django_hookflow.core import transitions as t
from django_hookflow.core.entries import Entry, RunStatus
from django_hookflow.core.forking import UnknownStep
from django_hookflow.journals import (
    orm_claims,
    orm_commits,
    orm_forks,
    orm_holder,
    orm_outside,
    orm_pauses,
    orm_prune,
    orm_retries,
    orm_starts,
    orm_wakes,
)
from django_hookflow.journals.base import CrashPoint, no_crash
from django_hookflow.journals.orm_guard import guarded, open_blocks
from django_hookflow.journals.orm_idle import close_unused, watch_thread
from django_hookflow.journals.orm_rows import read_run, run_view
from django_hookflow.journals.orm_transactions import Transactions

T = TypeVar("T")


class OrmJournal:
    """Applies transitions to the rows of one database alias.

    ``alias`` may be a function, asked each time. ``clock`` is a virtual one that returns
    aware datetimes; without it the database's own clock decides.
    """

    infrastructure_errors: tuple[type[BaseException], ...] = (
        OperationalError,
        InterfaceError,
        MemoryError,
    )

    sync_only_errors: tuple[type[BaseException], ...] = (SynchronousOnlyOperation,)

    def __init__(
        self,
        alias: Union[str, Callable[[], str]] = "default",
        clock: Union[Callable[[], datetime], None] = None,
        crash: CrashPoint = no_crash,
    ) -> None:
        self._tx = Transactions(alias, clock, crash)

    # --- the calling thread

    def pinned(self) -> bool:
        """Inside a transaction, or on a database that lives in one connection's memory."""
        connection = self._tx.connection
        if connection.in_atomic_block:
            return True
        name = connection.settings_dict["NAME"]
        return connection.vendor == "sqlite" and bool(
            connection.creation.is_in_memory_db(name)  # type: ignore[attr-defined]  # SQLite's own
        )

    def pooled(self) -> bool:
        return bool(self._tx.connection.settings_dict["OPTIONS"].get("pool"))

    def close_thread(self, unused_since: float = float("inf")) -> None:
        close_unused(unused_since)

    def in_transaction(self) -> bool:
        return self._tx.in_transaction()

    def in_any_transaction(self) -> bool:
        return bool(open_blocks())

    def guard(self, work: Callable[[], T]) -> T:
        return guarded(work)

    def on_commit(self, action: Callable[[], None]) -> None:
        # Inside a TestCase too: there nothing may leave unless the test executes its hooks.
        self._tx.connection.on_commit(action, robust=True)

    # --- a holder

    def look(self, id: UUID) -> Union[t.RunView, None]:
        row = self._tx.read(lambda: read_run(self._tx.alias, id, self._tx.now()))
        return None if row is None else run_view(row)

    def claim(self, transition: t.Claim) -> Union[t.Claimed, t.NotClaimed]:
        watch_thread()
        return orm_claims.claim(self._tx, transition)

    def commit(self, transition: t.Commit) -> Union[t.Committed, t.NotYet]:
        return orm_commits.commit(self._tx, transition)

    def suspend(self, transition: t.Suspend) -> Union[t.Suspended, t.SignalsMoved, t.StaysPaused]:
        return orm_holder.suspend(self._tx, transition)

    def release(self, transition: t.Release) -> None:
        orm_holder.release(self._tx, transition)

    def fail(self, transition: t.Fail) -> Union[t.Failing, t.StaysPaused, t.SignalsMoved]:
        return orm_holder.fail(self._tx, transition)

    def finish(self, transition: t.Finish) -> Union[t.Finished, t.StaysPaused, t.SignalsMoved]:
        return orm_holder.finish(self._tx, transition)

    def beat(self, transition: t.Beat) -> Sequence[UUID]:
        return orm_wakes.beat(self._tx, transition)

    # --- from outside

    def trigger(self, transition: t.Trigger) -> Union[t.Triggered, t.Conflict]:
        return orm_starts.trigger(self._tx, transition)

    def trigger_many(
        self, transitions: Sequence[t.Trigger]
    ) -> Sequence[Union[t.Triggered, t.Conflict]]:
        return orm_starts.trigger_many(self._tx, transitions)

    def signal(self, transition: t.Signal) -> t.Signalled:
        return orm_outside.signal(self._tx, transition)

    def send_event(self, transition: t.SendEvent) -> Union[t.Signalled, t.Over]:
        return orm_outside.send_event(self._tx, transition)

    def cancel(self, transition: t.Cancel) -> Union[t.Cancelled, t.Over]:
        return orm_outside.cancel(self._tx, transition)

    def fork(self, transition: t.Fork) -> Union[t.Forked, UnknownStep, t.Over]:
        return orm_forks.fork(self._tx, transition)

    def entries(self, id: UUID) -> Union[Sequence[Entry], None]:
        return orm_forks.entries(self._tx, id)

    def pause(self, transition: t.Pause) -> Union[t.Paused, t.Unchanged]:
        return orm_pauses.pause(self._tx, transition)

    def resume(self, transition: t.Resume) -> Union[t.Resumed, t.Unchanged]:
        return orm_pauses.resume(self._tx, transition)

    def retry(
        self, transition: t.Retry
    ) -> Union[t.Retried, t.NotFailed, t.Compensated, t.Replaced]:
        return orm_retries.retry(self._tx, transition)

    def orphans(self, *, limit: int, of: Union[Sequence[UUID], None] = None) -> Sequence[UUID]:
        return orm_wakes.orphans(self._tx, limit, of)

    # --- wake-ups

    def rearm(self, transition: t.Rearm) -> bool:
        return orm_wakes.rearm(self._tx, transition)

    def note_blocked(self, id: UUID, reason: str) -> None:
        orm_wakes.note_blocked(self._tx, id, reason)

    def owed(self, id: UUID) -> Union[t.Owed, None]:
        return orm_wakes.owed(self._tx, id)

    def owed_many(self, ids: Sequence[UUID]) -> Sequence[t.Owed]:
        return orm_wakes.owed_many(self._tx, ids)

    def published(self, id: UUID, wake: int) -> None:
        orm_wakes.published(self._tx, {id: wake})

    def published_many(self, wakes: Mapping[UUID, int]) -> None:
        orm_wakes.published(self._tx, wakes)

    def find_owed(self, *, older_than: timedelta, limit: int) -> Sequence[UUID]:
        return orm_wakes.find_owed(self._tx, older_than, limit)

    def find_due(
        self, *, limit: int, of: Union[Sequence[tuple[str, str]], None] = None
    ) -> Sequence[tuple[UUID, int]]:
        return orm_wakes.find_due(self._tx, limit, of)

    def count_ended(self, *, older_than: timedelta, statuses: Sequence[RunStatus]) -> int:
        return orm_prune.count_ended(self._tx, older_than, statuses)

    def prune(self, *, older_than: timedelta, statuses: Sequence[RunStatus], limit: int) -> int:
        return orm_prune.prune(self._tx, older_than, statuses, limit)

    def nudge(self, *, overdue: timedelta, limit: int) -> Sequence[UUID]:
        return orm_wakes.nudge(self._tx, overdue, limit)

    def signal_unseen(self, *, limit: int) -> Sequence[UUID]:
        return orm_wakes.signal_unseen(self._tx, limit)

    def mark(self, key: str) -> None:
        orm_wakes.mark(self._tx, key)

    def marked_at(self, key: str) -> Union[datetime, None]:
        return orm_wakes.marked_at(self._tx, key)
