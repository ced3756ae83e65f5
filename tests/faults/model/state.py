"""What is remembered of a world at one instant: small tuples, so that millions of them fit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from tests.faults.model.programs import Program

# status: up to CANCELLING active, from COMPLETED on terminal
ABSENT, PENDING, RUNNING, SUSPENDED, CANCELLING, PAUSED, COMPLETED, FAILED, CANCELLED = range(9)
# lease: nobody's; somebody's; somebody's, but past its end
FREE, HELD, EXPIRED = range(3)
# due_at: NULL; now or past; when the timer passes; at the lease's end
NONE, NOW, TIMER, LEASE = range(4)
# timer: not written; to come; past
UNSET, TO_COME, PAST = range(3)
# where a handler is
ARRIVED, HOLDING, PUBLISHING, ANSWERING, LEFT = range(5)
# a mail: not sent; inserted, not committed; stored, unseen; stored, seen; consumed
UNSENT, INSERTED, UNSEEN, SEEN, CONSUMED = "01234"
# a sender: idle; in its transaction; has to signal; has to publish; done
IDLE, JOINED, SIGNALS, PUBLISHES, SENT = "-oSP."
# the process that triggers: before its commit; has to publish; done
BEFORE, TRIGGERED, STARTED = range(3)
# how a handler takes the run: the body; no further step starts; compensations
BODY, STOPS, UNDOES = range(3)
# what users may still do, each once; whoever pauses may resume
CANCEL, END, PAUSE, RETRY = "cepr"


class Handler(NamedTuple):
    """One delivery. ``attached``: the message service still waits for its answer.

    ``out`` executing, ``ans`` recorded (the answer of the database is on its way), ``got``
    recorded but not handed over, ``handed`` handed over, in that order. ``looked`` into the
    mailbox since ``seen`` was read.
    """

    pc: int
    wake: int
    attached: bool = True
    epoch: int = 0
    seen: int = 0
    handed: str = ""
    out: str = ""
    ans: str = ""
    got: str = ""
    looked: bool = False
    begun: str = ""  # their undo is journaled, and they do not execute yet
    mode: int = BODY


class State(NamedTuple):
    """The row, its journal and mailbox; then the processes around it; then the bookkeeping."""

    status: int
    epoch: int
    lease: int
    lease_w: int
    wake_n: int
    owed: bool
    due: int
    signals: int
    waits: bool
    journal: str  # units in the order of seq
    timer: int
    mail: str
    senders: str
    trigger: int
    posted: int  # highest wake number that the message service took
    noting: tuple[int, ...]  # wake numbers that it took and that the row still owes
    queue: tuple[tuple[int, bool], ...]  # (wake number, whether it was sent with the timer's delay)
    handlers: tuple[Handler, ...]
    effects: tuple[int, ...]  # of each unit of Program.work
    faults: int  # how many may still happen
    failing: bool = False  # its error is set
    undos: str = ""  # units with a pending row that holds their undo, in the order of its writing
    users: str = ""
    late: int = 0  # how many effects outside began since it was paused or cancelled
    child: State | None = None  # of another run; ABSENT until it is started


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules of the protocol; a mutation drops one."""

    fence: bool = True
    unique_key: bool = True
    lease_not_null: bool = True
    claim_raises_epoch: bool = True
    claim_asks_for_the_lease: bool = True
    suspend_compares_signals: bool = True
    suspend_after_units: bool = True
    suspend_writes_waits: bool = True
    suspend_takes_earliest: bool = True
    seq_in_commit: bool = True
    hand_over_by_seq: bool = True
    signal_moves_version: bool = True
    signal_wakes_sleepers: bool = True
    signal_after_insert: bool = True
    insert_is_unseen: bool = True
    sweep_unseen: bool = True
    consume_with_outcome: bool = True
    event_beats_timeout: bool = True
    note_compares_number: bool = True
    nudge_takes_new_number: bool = True
    admit_by_row: bool = True
    rearm_early: bool = True
    answer_at_end: bool = True
    busy_asks_again: bool = True
    delivery_flushes: bool = True
    publish_after_commit: bool = True
    pause_is_still: bool = True
    claim_leaves_paused: bool = True
    suspend_leaves_paused: bool = True
    suspend_of_paused_writes_rows: bool = True
    finish_leaves_paused: bool = True
    commit_tells_status: bool = True
    paused_holder_is_busy: bool = True
    resume_is_due: bool = True
    resume_moves_signals: bool = True
    cancel_waits_for_holder: bool = True
    cancel_moves_signals: bool = True
    finish_leaves_cancelling: bool = True
    atomic_leaves_cancelling: bool = True
    start_leaves_cancelling: bool = True
    cancelling_runs_no_body: bool = True
    undo_before_effect: bool = True
    undo_of_unknown: bool = True
    undo_newest_first: bool = True
    undo_after_units: bool = True
    retry_supersedes: bool = True
    retry_takes_new_series: bool = True
    retry_asks_for_compensations: bool = True
    retry_is_due: bool = True
    child_with_row: bool = True
    child_end_signals: bool = True
    child_cancel_signals: bool = True
    cancel_takes_children: bool = True
    sweep_children: bool = True


#: Faults, each spends one of ``World.faults``.
DELIVERY_FAULTS = frozenset({"crash", "timeout", "dup", "pubfail", "zombie", "early"})
FAULTS = DELIVERY_FAULTS | {"lose", "sender", "spurious", "unnoted", "stop", "infra"}


@dataclass(frozen=True, kw_only=True)
class World:
    """What is explored: a program, the rules, and what may go wrong how often."""

    name: str
    program: Program
    faults: int = 1
    kinds: frozenset[str] = FAULTS
    handlers: int = 2
    sweeper: bool = True
    notes_late: bool = False
    joined: bool = True  # senders in a transaction of the caller's
    alone: bool = True  # senders outside one
    users: str = ""  # what they do, each once
    child: World | None = None  # what its child step starts
    rest: bool = False  # a cancel may leave the child to the sweeper
    rules: Rules = field(default_factory=Rules)

    @cached_property
    def of_child(self) -> World:
        """The child's, under the same rules, and spending the same faults."""
        assert self.child is not None
        kinds, child = self.kinds & self.child.kinds, self.child
        sweeper = self.sweeper and child.sweeper
        return replace(child, faults=self.faults, kinds=kinds, rules=self.rules, sweeper=sweeper)

    def allows(self, state: State, kind: str) -> bool:
        return state.faults > 0 and kind in self.kinds


def first_state(world: World) -> State:
    events = world.program.events
    return State(
        status=ABSENT,
        epoch=0,
        lease=FREE,
        lease_w=0,
        wake_n=1,
        owed=True,
        due=NOW,
        signals=0,
        waits=False,
        journal="",
        timer=UNSET,
        mail=UNSENT * events,
        senders=IDLE * events,
        trigger=BEFORE,
        posted=0,
        noting=(),
        queue=(),
        handlers=(),
        effects=(0,) * len(world.program.work),
        faults=world.faults,
        users=world.users,
        child=None if world.child is None else _unborn(world.child),
    )


def _unborn(world: World) -> State:
    return first_state(world)._replace(trigger=STARTED, faults=0)


def is_active(state: State) -> bool:
    return ABSENT < state.status <= CANCELLING


def is_open(state: State) -> bool:
    """Active or paused."""
    return ABSENT < state.status <= PAUSED


def is_terminal(state: State) -> bool:
    return state.status >= COMPLETED


def is_over(state: State) -> bool:
    """It has ended, and so has its child if it had any."""
    child = state.child
    return is_terminal(state) and (child is None or not is_open(child))


def is_due(state: State) -> bool:
    """``due_at <= now``, and nobody holds the run."""
    if state.lease == FREE:
        return state.due == NOW or (state.due == TIMER and state.timer == PAST)
    return state.lease == EXPIRED and state.due in (NOW, LEASE)


def put(text: str, at: int, char: str) -> str:
    return text[:at] + char + text[at + 1 :]
