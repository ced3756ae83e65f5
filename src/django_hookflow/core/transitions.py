"""The transitions of a run as values, and what applying one answers.

A transition is one short transaction. The engine and the edge build the values here and hand
them to a journal; the journal decides each by one conditional UPDATE of the run row and
answers with a value, or raises :class:`Fenced` (another holder took over) or
:class:`JournalUnavailable` (the database could not be had). Nothing above the journal knows
whether one or fifty runs share a commit.

``now`` is always the journal's clock. Times that the caller computes are given as
``datetime``; times relative to the journal's clock as ``timedelta``.

Longer than other modules because it is a list, one value for each arrow of the protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Union
from uuid import UUID

from django_hookflow.core.entries import Entry, ErrorRecord, RunStatus
from django_hookflow.core.tags import Tags


class Fenced(Exception):
    """The run has another holder, or was ended or taken away; nothing was written."""


class Stopped(Fenced):
    """The run is being cancelled or is paused: what executes is recorded, and no more begins."""


class JournalUnavailable(Exception):
    """The database could not be reached, or kept refusing; nothing is known to be written."""


#: Sources of what comes into a mailbox: ``send_event``, and a POST to a callback's URL.
EVENT = "event"
CALLBACK = "callback"
#: What the end of a child is to its parent.
STEP = "step"


def wait_for(source: str, name: str) -> str:
    """What a run is woken by: ``event:paid``, ``callback:approve#1``, ``step:ship#1`` (a child)."""
    return f"{source}:{name}"


# --- what is read


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run row as one SELECT saw it, with the journal's ``now`` of that moment."""

    id: UUID
    run_id: str
    workflow_id: str
    version: str
    seed: int
    generation: int
    status: RunStatus
    epoch: int
    lease_until: datetime | None
    lease_w: int
    due_at: datetime | None
    deadline: datetime | None
    wake_n: int
    owed_at: datetime | None
    signals: int
    seq: int
    deaths: int
    blocked: str
    blocked_n: int
    data: str
    error: ErrorRecord | None
    parent: UUID | None
    parent_step: str
    depth: int
    state: str | None
    created_at: datetime
    now: datetime
    started_at: datetime | None = None
    state_n: int = 0

    @property
    def leased(self) -> bool:
        """Whether a live holder has it."""
        return self.lease_until is not None and self.lease_until >= self.now

    @property
    def failing(self) -> bool:
        """Whether its body has failed: what goes on is ``on_failure`` and the compensations."""
        return self.error is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """A wake-up that still has to be published, as the row says it."""

    run: UUID
    number: int
    owed_at: datetime
    delay: timedelta

    @property
    def deduplication_id(self) -> str:
        """Competing publishers of one wake-up collapse at the message service.

        A re-wake has a new number, because the service's window swallows a repeated id.
        """
        return f"{self.run.hex}-{self.number}-{int(self.owed_at.timestamp() * 1_000_000)}"


# --- TRIGGER


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """Create a run inside the caller's transaction; the same ``run_id`` again creates nothing."""

    id: UUID
    run_id: str
    workflow_id: str
    version: str
    seed: int
    data: str
    delay: timedelta = timedelta(0)
    not_before: datetime | None = None
    timeout: timedelta | None = None
    tags: Tags = ()
    parent: UUID | None = None
    parent_step: str = ""
    depth: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggered:
    """``created`` is False when the same run was there already. Another one: :class:`Conflict`."""

    id: UUID
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """That ``run_id`` belongs to another workflow or other data."""

    workflow_id: str


# --- CLAIM


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Take the lease of a due run that nobody holds, and read its journal."""

    id: UUID
    wake: int
    lease: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """``run`` and ``entries`` as they are after due sleeps fired; ``run.signals`` is "seen".

    ``found_dead`` tells that the previous holder let its lease run out. ``series`` gives, for
    each key whose outcome was superseded, the series that its next attempts have.
    """

    run: RunView
    entries: tuple[Entry, ...]
    found_dead: bool
    series: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotClaimed:
    """Not due, not active, or held by somebody else: look again."""


# --- COMMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a body has told of its run: the encoded dict, and by how many calls it came about."""

    text: str
    calls: int


def unchanged() -> State | None:
    """The body has told nothing since the row was read."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """Proof of holding a run: its epoch. Every write of a holder carries it.

    ``state`` is asked while the row is being written, and what it gives is written with it: an
    atomic step may have taken its time, and what was told meanwhile must not be taken back.
    """

    id: UUID
    epoch: int
    lease: timedelta
    state: Callable[[], State | None] = unchanged


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Write an outcome (completed or failed), giving it the next ``seq``."""

    fence: Fence
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """Write a failed attempt that will be retried: a pending row, no outcome.

    ``entry.ready_at`` is ignored: it becomes the journal's now + ``retry_in``.
    """

    fence: Fence
    entry: Entry
    retry_in: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Atomic:
    """Run ``work`` and write its outcome in one transaction, fence and journal row last.

    ``work`` is called without arguments and returns the encoded value; what it raises rolls
    everything back and is raised on unchanged, but for the database's own "try again" errors,
    after which the whole transaction is repeated, ``work`` included.
    """

    fence: Fence
    entry: Entry
    work: Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """Complete a sleep if its ``entry.ready_at`` has come by the journal's clock."""

    fence: Fence
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Receive:
    """Give a wait the oldest unconsumed event named ``entry.event``, of this ``source``.

    Nothing there and ``entry.ready_at`` (if any) passed: the timeout is recorded as
    ``timeout_error``. Nothing there and not due: :class:`NotYet`.

    So it is, too, if the run's ``seq`` is not ``after``, that of the last outcome which the
    function was told: what was recorded since may be what makes it give this wait up, and it
    would have taken the event with it. ``None`` asks for no such thing.
    """

    fence: Fence
    entry: Entry
    timeout_error: ErrorRecord
    source: str = EVENT
    after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Write a step's row before it executes: how to undo it has to outlive the process."""

    fence: Fence
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoke:
    """Write the row of a wait for a child, and the child itself, which owes a wake-up.

    A run of ``child.run_id`` that this very step has started is that child. Any other one of
    that name is recorded as the step's failure, ``conflict``.
    """

    fence: Fence
    entry: Entry
    child: Trigger
    conflict: ErrorRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect:
    """Give a wait the end of its child, ``entry.child``; :class:`NotYet` while it goes on."""

    fence: Fence
    entry: Entry


Commit = Union[Record, Attempted, Atomic, Fire, Receive, Begin, Invoke, Collect]


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The row as written; ``now`` is the journal's clock in that transaction.

    ``signals`` is the mailbox version then: more than the holder has seen, if something came.
    """

    entry: Entry
    now: datetime
    status: RunStatus
    signals: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NotYet:
    """Nothing was written: the timer is not due, or no event is there.

    ``moved``: nobody looked, for the function has to be told of another outcome first.
    """

    now: datetime
    moved: bool = False


# --- SUSPEND and the other ends of a delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspend:
    """Release the lease and say when somebody must look again.

    ``due`` is a time, a delay from the journal's now, or ``None`` for a wait without timeout
    (then no wake-up is owed). ``waits`` are what pending waits listen for. ``pending`` are
    rows of waits not yet written. ``blocked`` is why the run cannot go on, else empty.
    """

    fence: Fence
    seen: int
    due: datetime | timedelta | None
    waits: tuple[str, ...] = ()
    pending: tuple[Entry, ...] = ()
    blocked: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """Done; a wake-up is owed if ``owed``."""

    owed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalsMoved:
    """Something arrived since "seen": look again, then suspend with the new ``seen``.

    If ``cancelling``, that is what arrived: nothing more begins, and the run is due at once.
    """

    seen: int
    cancelling: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StaysPaused:
    """The run was paused meanwhile: the lease is released, the status left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Infrastructure failed in the body: give the run back as due now, owing no wake-up."""

    fence: Fence


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """The body has failed and something has to follow that: it is not run again."""

    fence: Fence
    error: ErrorRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """Done; the holder goes on with what follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """End the run. ``result`` is encoded text; ``error`` is set for a failed run."""

    fence: Fence
    status: RunStatus
    result: str | None = None
    error: ErrorRecord | None = None
    parent: UUID | None = None
    parent_step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Done."""


# --- from outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Something for the run is in the database: move its mailbox version, wake it if it waits."""

    id: UUID
    wait: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendEvent:
    """Put an event into the run's mailbox inside the caller's transaction, then signal.

    ``source`` keeps apart what senders name (``event``) and what comes to a callback's URL.
    ``generation`` is given for an answer: it is stored only while the run is in that pass and
    no wait for ``name`` has ended, by an answer or by its timeout.
    """

    id: UUID
    name: str
    payload: str
    dedup_id: str | None = None
    source: str = EVENT
    generation: int | None = None

    @property
    def wait(self) -> str:
        """What a run listens for that waits for it."""
        return wait_for(self.source, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signalled:
    """``owed`` tells that the run has to be woken; ``stored`` that it is new to the mailbox.

    Not stored is an event whose ``dedup_id`` was there, and an answer that came too late.
    Outside of a caller's transaction it is certain: of two at once one is told so.
    """

    owed: bool
    stored: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """End an active or paused run.

    At once, and a holder is fenced at its next commit; unless ``compensate`` and a step of it
    has to be undone: then the run is cancelling. Its holder may still record what executes (a
    fence would let that take effect behind the back of its compensation) and is told so; if
    there is none, the run is due now and owes a wake-up.
    """

    id: UUID
    compensate: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """Done; ``owed`` tells that a wake-up is, for the compensations."""

    owed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Let a run that goes on stand still. Its holder keeps the lease: what executes is recorded.

    The time of a first delivery that is still to come is kept; all else is due at the resume.
    """

    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """Done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Let a paused run go on: it is due now, or when its holder's lease ends."""

    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """Done; a wake-up is owed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchanged:
    """The run is in another state than is asked for (``None``: there is no such run)."""

    status: RunStatus | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Re-open a failed run: what the body had not caught is superseded, and so are waits for
    children that came to nothing since; all else stays.

    A child that failed it and has been re-opened since is waited for again, and so is one of
    ``going_on``, which was re-opened for this and may have failed again by now. One in whose
    place its parent, retried, has another is not re-opened itself: :class:`Replaced`.

    ``timeout`` is the time that it has from now on, ``None`` without an end: what it had is over,
    or nearly so.
    """

    id: UUID
    timeout: timedelta | None = None
    going_on: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """Done; the run is due now and owes a wake-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensated:
    """A compensation was recorded: what the run did is undone, and it cannot go on from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """The run's parent was retried and has started another run in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFailed:
    """Only a failed run is retried; ``status`` is what it is (``None``: there is no such run)."""

    status: RunStatus | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Create a run with the outcomes of another one up to ``from_step``; it is due now.

    Everything that a replay depends on is the source's: workflow, version, data, seed,
    generation, and if outcomes are kept ``started_at``, at which the body's clock begins. Its
    tags are too.
    """

    source: UUID
    id: UUID
    run_id: str
    from_step: str
    timeout: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked:
    """Done; the new run owes a wake-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """The run is terminal already (or there is none: ``status`` is None)."""

    status: RunStatus | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rearm:
    """An early wake-up: ask for the rest of the delay under a new number, by compare-and-set."""

    id: UUID
    wake: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """Renew leases; ``held`` maps run to epoch."""

    held: Mapping[UUID, int] = field(default_factory=dict)
    lease: timedelta = timedelta(0)
