"""What a journal is: the transitions, each one short transaction in one sync function.

Two implementations pass the same contract suite: ``orm`` (Django's database) and ``memory``
(tests, ours and users'). A named crash point stands before and after every commit, so that
tests can end a process exactly there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeVar, Union
from uuid import UUID

from django_hookflow.core.entries import Entry, RunStatus
from django_hookflow.core.forking import UnknownStep
from django_hookflow.core.transitions import (
    Beat,
    Cancel,
    Cancelled,
    Claim,
    Claimed,
    Commit,
    Committed,
    Compensated,
    Conflict,
    Fail,
    Failing,
    Finish,
    Finished,
    Fork,
    Forked,
    NotClaimed,
    NotFailed,
    NotYet,
    Over,
    Owed,
    Pause,
    Paused,
    Rearm,
    Release,
    Replaced,
    Resume,
    Resumed,
    Retried,
    Retry,
    RunView,
    SendEvent,
    Signal,
    Signalled,
    SignalsMoved,
    StaysPaused,
    Suspend,
    Suspended,
    Trigger,
    Triggered,
    Unchanged,
)

T = TypeVar("T")

#: Called with the name of a crash point; a test's version raises or ends the process.
CrashPoint = Callable[[str], None]

#: Every name that a journal passes to its crash point: ``<transition>:before`` (nothing is
#: committed yet), ``<transition>:inside`` (just before COMMIT) and ``<transition>:after``.
CRASH_POINTS = tuple(
    f"{transition}:{place}"
    for transition in (
        "trigger",
        "claim",
        "record",
        "attempted",
        "atomic",
        "fire",
        "receive",
        "begin",
        "invoke",
        "collect",
        "suspend",
        "release",
        "fail",
        "finish",
        "signal",
        "event",
        "cancel",
        "fork",
        "pause",
        "resume",
        "retry",
        "rearm",
        "published",
        "nudge",
    )
    for place in ("before", "inside", "after")
)


def no_crash(point: str) -> None:
    """The crash point of production: nothing happens."""


class Journal(Protocol):
    """Applies transitions. Every method is sync and leaves no transaction open.

    Methods raise :class:`~django_hookflow.core.transitions.JournalUnavailable` when the
    database cannot be had after repeats; those that carry a fence raise
    :class:`~django_hookflow.core.transitions.Fenced` when it no longer holds.
    """

    #: Errors out of a workflow's own body that mean "the database or the machine", not "the code".
    infrastructure_errors: tuple[type[BaseException], ...]

    #: Errors that say "not from async code" when an ``async def`` body does what it may not.
    sync_only_errors: tuple[type[BaseException], ...]

    def pinned(self) -> bool:
        """Whether all work has to stay on the calling thread (an open transaction of a test,
        a database that only this thread's connection sees).
        """

    def pooled(self) -> bool:
        """Whether a connection that is given back is had again at once, from a pool."""

    def close_thread(self, unused_since: float = float("inf")) -> None:
        """Close the calling thread's connections, unless inside a transaction.

        Those are kept that code other than the journal's has used after ``unused_since``
        (``time.monotonic()``): it may be reading through them.
        """

    def in_transaction(self) -> bool:
        """Whether the calling thread has a transaction of its own making open on the alias."""

    def in_any_transaction(self) -> bool:
        """The same on whatever alias."""

    def guard(self, work: Callable[[], T]) -> T:
        """Call a step's function; one that leaves a transaction open, or autocommit off, fails.

        What it left is rolled back: the journal would join it and never commit.
        """

    def on_commit(self, action: Callable[[], None]) -> None:
        """Call ``action`` once the caller's transaction has committed; at once outside one."""

    def trigger(self, transition: Trigger) -> Union[Triggered, Conflict]: ...

    def trigger_many(self, transitions: Sequence[Trigger]) -> Sequence[Union[Triggered, Conflict]]:
        """All or none: with one :class:`Conflict` among the answers nothing was written.

        The ids and run_ids differ from each other.
        """

    def look(self, id: UUID) -> Union[RunView, None]:
        """One SELECT; ``None`` if there is no such run."""

    def claim(self, transition: Claim) -> Union[Claimed, NotClaimed]: ...

    def commit(self, transition: Commit) -> Union[Committed, NotYet]: ...

    def suspend(self, transition: Suspend) -> Union[Suspended, SignalsMoved, StaysPaused]: ...

    def release(self, transition: Release) -> None: ...

    def fail(self, transition: Fail) -> Union[Failing, StaysPaused, SignalsMoved]: ...

    def finish(self, transition: Finish) -> Union[Finished, StaysPaused, SignalsMoved]: ...

    def signal(self, transition: Signal) -> Signalled: ...

    def send_event(self, transition: SendEvent) -> Union[Signalled, Over]: ...

    def cancel(self, transition: Cancel) -> Union[Cancelled, Over]: ...

    def fork(self, transition: Fork) -> Union[Forked, UnknownStep, Over]: ...

    def entries(self, id: UUID) -> Union[Sequence[Entry], None]:
        """The steps in force of the run's current pass; ``None`` if there is no such run."""

    def pause(self, transition: Pause) -> Union[Paused, Unchanged]: ...

    def resume(self, transition: Resume) -> Union[Resumed, Unchanged]: ...

    def retry(self, transition: Retry) -> Union[Retried, NotFailed, Compensated, Replaced]: ...

    def orphans(self, *, limit: int, of: Union[Sequence[UUID], None] = None) -> Sequence[UUID]:
        """Runs to be cancelled because the one that invoked them was, or is over.

        Of these parents, or of any.
        """

    def rearm(self, transition: Rearm) -> bool:
        """Whether this caller won; then a wake-up is owed."""

    def note_blocked(self, id: UUID, reason: str) -> None:
        """Write why a run cannot go on without touching anything else (no claim was made)."""

    def owed(self, id: UUID) -> Union[Owed, None]:
        """The wake-up that the row owes, if it does."""

    def owed_many(self, ids: Sequence[UUID]) -> Sequence[Owed]:
        """:meth:`owed` of those that owe one; a few hundred ids at most."""

    def published(self, id: UUID, wake: int) -> None:
        """Wake ``wake`` was accepted by the message service."""

    def published_many(self, wakes: Mapping[UUID, int]) -> None:
        """:meth:`published` for a few hundred at most."""

    def find_owed(self, *, older_than: timedelta, limit: int) -> Sequence[UUID]:
        """Runs whose wake-up has been owed for longer than that, oldest first."""

    def find_due(
        self, *, limit: int, of: Union[Sequence[tuple[str, str]], None] = None
    ) -> Sequence[tuple[UUID, int]]:
        """Active runs that are due and that nobody holds, longest due first, with their wakes.

        ``of`` are the (workflow_id, version) of those to find; without it all are found.
        """

    def count_ended(self, *, older_than: timedelta, statuses: Sequence[RunStatus]) -> int:
        """How many runs of these terminal statuses ended longer ago than that."""

    def prune(self, *, older_than: timedelta, statuses: Sequence[RunStatus], limit: int) -> int:
        """Remove at most so many of them, oldest first, with all their rows; how many."""

    def nudge(self, *, overdue: timedelta, limit: int) -> Sequence[UUID]:
        """Make overdue runs owe a new wake-up (compare-and-set); those that this caller won."""

    def signal_unseen(self, *, limit: int) -> Sequence[UUID]:
        """Signal active runs with unseen events; those that now owe a wake-up."""

    def beat(self, transition: Beat) -> Sequence[UUID]:
        """Renew leases; the runs whose lease is lost (another epoch, no lease, terminal)."""

    def mark(self, key: str) -> None:
        """Remember that something happened now, e.g. a sweep."""

    def marked_at(self, key: str) -> Union[datetime, None]:
        """When :meth:`mark` was last called for that key."""
