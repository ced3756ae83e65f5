"""The transitions: what each does to the row. ``None`` says that its condition did not hold.

Beside each stands what the mutations make of it; they have no other place to be wrong in.
"""

from tests.faults.model.programs import (
    ATOMIC,
    CHILD,
    CHILD_FAILED,
    FAILURE,
    SLEEP,
    SUPERSEDED,
    TIMEOUT,
    Asked,
    asked,
)
from tests.faults.model.state import (
    CANCELLED,
    CANCELLING,
    CONSUMED,
    FREE,
    HELD,
    LEASE,
    NONE,
    NOW,
    PAST,
    PAUSED,
    RUNNING,
    SEEN,
    SUSPENDED,
    TIMER,
    TO_COME,
    UNDOES,
    UNSEEN,
    UNSET,
    Handler,
    State,
    World,
    is_open,
    put,
)

NOTHING = Asked(work="", sleep=False, events="", end=False)

# --- a holder


def claim(world: World, s: State, wake: int) -> State:
    """Of a run that is due and not leased. Sleeps that are due fire in the same transaction.

    Not those of a cancelling run. Of a failing one they do: nobody is told of it any more.
    """
    journal = s.journal
    if (
        s.status != CANCELLING
        and SLEEP in world.program.units
        and s.timer == PAST
        and SLEEP not in journal
    ):
        journal += SLEEP
    return s._replace(
        status=s.status if s.status == CANCELLING else RUNNING,
        epoch=s.epoch + world.rules.claim_raises_epoch,
        lease=HELD,
        lease_w=wake,
        due=LEASE,
        journal=journal,
    )


def holds(world: World, s: State, h: Handler) -> bool:
    """The fence: the epoch, and a lease that nobody has released; it may be past."""
    if not is_open(s):
        return False
    if not world.rules.fence:
        return True
    released = s.lease == FREE and world.rules.lease_not_null
    return s.epoch == h.epoch and not released


def commit(world: World, s: State, h: Handler, unit: str) -> State | None:
    """RECORD, ATOMIC or FIRE of a unit: its outcome gets the next seq, the lease is renewed.

    Of a cancelling run too, if the unit executes already; of a paused one, which stays so.
    """
    if not holds(world, s, h) or (_is_recorded(world, s, unit) and world.rules.unique_key):
        return None
    journal = s.journal + unit
    if not world.rules.seq_in_commit:
        journal = _number_from_memory(world, s, unit)
    if unit in ATOMIC:
        s = s._replace(effects=with_effect(world, s, unit))
    undos = s.undos.replace(world.program.may_fail if unit == FAILURE else unit, "")
    return s._replace(journal=journal, undos=undos, lease=HELD, due=_while_held(s))


def _is_recorded(world: World, s: State, unit: str) -> bool:
    recorded = s.journal.replace(TIMEOUT, "E").replace(FAILURE, world.program.may_fail)
    recorded = recorded.replace(CHILD_FAILED, CHILD)
    if not world.rules.retry_takes_new_series:
        recorded = recorded.replace(SUPERSEDED, world.program.may_fail)
    known = {TIMEOUT: "E", FAILURE: world.program.may_fail, CHILD_FAILED: CHILD}.get(unit, unit)
    return known in recorded


def _while_held(s: State) -> int:
    return NONE if s.status == PAUSED else LEASE


def start(world: World, s: State, h: Handler, unit: str) -> State | None:
    """The pending row of a step, before it executes: it holds the undo. Not a new outcome."""
    if not holds(world, s, h) or (_is_recorded(world, s, unit) and world.rules.unique_key):
        return None
    undos = s.undos if unit in s.undos else s.undos + unit
    return s._replace(undos=undos, lease=HELD, due=_while_held(s))


def _number_from_memory(world: World, s: State, unit: str) -> str:
    """Numbers that were given when the units were asked for."""
    asked_as = world.program.units.index("E" if unit == TIMEOUT else unit)
    at = min(asked_as, world.program.length - 1)
    return put(s.journal.ljust(at, "."), at, unit)


def with_effect(world: World, s: State, unit: str) -> tuple[int, ...]:
    at = world.program.work.index(world.program.may_fail if unit == FAILURE else unit)
    return (*s.effects[:at], s.effects[at] + 1, *s.effects[at + 1 :])


def receive(world: World, s: State, h: Handler, unit: str) -> tuple[str, State | None]:
    """The oldest unconsumed event, or the timeout, or nothing: which, and the state after it."""
    if not holds(world, s, h) or unit in s.journal:
        return "fenced", None
    at = next((n for n, mail in enumerate(s.mail) if mail in (UNSEEN, SEEN)), None)
    late = world.program.timed and s.timer == PAST
    if late and (at is None or not world.rules.event_beats_timeout):
        return "timeout", commit(world, s, h, TIMEOUT)
    if at is None:
        return "nothing", s
    taken = s._replace(mail=put(s.mail, at, CONSUMED))
    if not world.rules.consume_with_outcome:
        return "taken", taken
    return "event", commit(world, taken, h, unit)


def suspend(world: World, s: State, h: Handler, *, at_once: bool = False) -> State | str:
    """The next state, or why not: ``fenced``, or ``moved`` (the mailbox's version).

    The paused run's row is asked for by an UPDATE of its own, which decides again: here one step.
    """
    if not holds(world, s, h):
        return "fenced"
    if s.status == PAUSED and world.rules.suspend_leaves_paused:
        return _suspend_paused(world, s, h)
    if s.signals != h.seen and world.rules.suspend_compares_signals:
        return "moved"
    wanted = wanted_of(world, h)
    timed = wanted.sleep or (world.program.timed and wanted.events != "")
    if not world.rules.suspend_takes_earliest and wanted.events:
        timed = False
    due = NOW if at_once else (TIMER if timed else NONE)
    return s._replace(
        status=s.status if s.status == CANCELLING else SUSPENDED,
        lease=FREE,
        due=due,
        waits=_waits_written(world, wanted),
        timer=_written(s, timed),
        wake_n=s.wake_n + (due != NONE),
        owed=s.owed or due != NONE,
    )


def _suspend_paused(world: World, s: State, h: Handler) -> State:
    """The lease is released, and rows of waits are written: their time goes on meanwhile."""
    wanted = wanted_of(world, h)
    timed = wanted.sleep or (world.program.timed and wanted.events != "")
    written = timed and world.rules.suspend_of_paused_writes_rows
    waits = _waits_written(world, wanted)
    return s._replace(lease=FREE, waits=waits, timer=_written(s, written))


def _waits_written(world: World, wanted: Asked) -> bool:
    return (wanted.events != "" or wanted.child) and world.rules.suspend_writes_waits


def wanted_of(world: World, h: Handler) -> Asked:
    """Whoever compensates waits for nothing that the body has asked for."""
    return NOTHING if h.mode == UNDOES else asked(world.program, h.handed)


def _written(s: State, timed: bool) -> int:
    return TO_COME if s.timer == UNSET and timed else s.timer


def release(world: World, s: State, h: Handler) -> State | None:
    if not holds(world, s, h):
        return None
    if s.status == PAUSED:
        return s._replace(lease=FREE)
    status = s.status if s.status == CANCELLING else SUSPENDED
    return s._replace(status=status, lease=FREE, due=NOW)


def fail(world: World, s: State, h: Handler) -> State | str:
    """The error is set, and compensations follow: of a run that is not cancelled or paused."""
    if not holds(world, s, h):
        return "fenced"
    if s.status == PAUSED:
        return s._replace(lease=FREE)
    if s.status == CANCELLING:
        return "cancelling"
    return s._replace(failing=True, lease=HELD, due=LEASE)


def finish(world: World, s: State, h: Handler, status: int) -> State | str:
    """The end, or why not. A paused run stays so, and its lease is released."""
    if not holds(world, s, h):
        return "fenced"
    if s.status == PAUSED and world.rules.finish_leaves_paused:
        return s._replace(lease=FREE)
    cancelling = s.status == CANCELLING and status != CANCELLED
    if cancelling and world.rules.finish_leaves_cancelling:
        return "cancelling"
    return over(s, status)


def over(s: State, status: int) -> State:
    return s._replace(status=status, lease=FREE, due=NONE, owed=False, waits=False)
