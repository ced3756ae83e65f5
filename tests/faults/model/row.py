"""The transitions: what each does to the row. ``None`` says that its condition did not hold.

Beside each stands what the mutations make of it; they have no other place to be wrong in.
"""

from tests.faults.model.programs import ATOMIC, SLEEP, TIMEOUT, asked
from tests.faults.model.state import (
    COMPLETED,
    CONSUMED,
    FREE,
    HELD,
    LEASE,
    NONE,
    NOW,
    PAST,
    RUNNING,
    SEEN,
    SUSPENDED,
    TIMER,
    TO_COME,
    UNSEEN,
    UNSET,
    Handler,
    State,
    World,
    is_active,
    is_due,
    put,
)

# --- a holder


def claim(world: World, s: State, wake: int) -> State:
    """Of a run that is due and not leased. Sleeps that are due fire in the same transaction."""
    journal = s.journal
    if SLEEP in world.program.units and s.timer == PAST and SLEEP not in journal:
        journal += SLEEP
    return s._replace(
        status=RUNNING,
        epoch=s.epoch + world.rules.claim_raises_epoch,
        lease=HELD,
        lease_w=wake,
        due=LEASE,
        journal=journal,
    )


def holds(world: World, s: State, h: Handler) -> bool:
    """The fence: the epoch, and a lease that nobody has released; it may be past."""
    if not is_active(s):
        return False
    if not world.rules.fence:
        return True
    released = s.lease == FREE and world.rules.lease_not_null
    return s.epoch == h.epoch and not released


def commit(world: World, s: State, h: Handler, unit: str) -> State | None:
    """RECORD, ATOMIC or FIRE of a unit: its outcome gets the next seq, the lease is renewed."""
    recorded = s.journal.replace(TIMEOUT, "E")
    known = "E" if unit == TIMEOUT else unit
    if not holds(world, s, h) or (known in recorded and world.rules.unique_key):
        return None
    journal = s.journal + unit
    if not world.rules.seq_in_commit:
        journal = _number_from_memory(world, s, unit)
    if unit in ATOMIC:
        s = s._replace(effects=with_effect(world, s, unit))
    return s._replace(journal=journal, lease=HELD, due=LEASE)


def _number_from_memory(world: World, s: State, unit: str) -> str:
    """Numbers that were given when the units were asked for."""
    asked_as = world.program.units.index("E" if unit == TIMEOUT else unit)
    at = min(asked_as, world.program.length - 1)
    return put(s.journal.ljust(at, "."), at, unit)


def with_effect(world: World, s: State, unit: str) -> tuple[int, ...]:
    at = world.program.work.index(unit)
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
    """The next state, or why not: ``fenced``, or ``moved`` (the mailbox's version)."""
    if not holds(world, s, h):
        return "fenced"
    if s.signals != h.seen and world.rules.suspend_compares_signals:
        return "moved"
    wanted = asked(world.program, h.handed)
    timed = wanted.sleep or (world.program.timed and wanted.events != "")
    if not world.rules.suspend_takes_earliest and wanted.events:
        timed = False
    due = NOW if at_once else (TIMER if timed else NONE)
    return s._replace(
        status=SUSPENDED,
        lease=FREE,
        due=due,
        waits=wanted.events != "" and world.rules.suspend_writes_waits,
        timer=TO_COME if s.timer == UNSET and timed else s.timer,
        wake_n=s.wake_n + (due != NONE),
        owed=s.owed or due != NONE,
    )


def release(world: World, s: State, h: Handler) -> State | None:
    if not holds(world, s, h):
        return None
    return s._replace(status=SUSPENDED, lease=FREE, due=NOW)


def finish(world: World, s: State, h: Handler) -> State | None:
    if not holds(world, s, h):
        return None
    return s._replace(status=COMPLETED, lease=FREE, due=NONE, owed=False, waits=False)


# --- from outside


def signal(world: World, s: State) -> State:
    """Of an active run: always the version; a wake-up if it sleeps, waits and is not due."""
    if not is_active(s):
        return s
    if world.rules.signal_moves_version:
        s = s._replace(signals=s.signals + 1)
    sleeping = s.lease != HELD if world.rules.signal_wakes_sleepers else s.lease == HELD
    if sleeping and s.waits and not is_due(s):
        s = s._replace(wake_n=s.wake_n + 1, owed=True, due=NOW)
    return s


def signal_unseen(world: World, s: State) -> State:
    """SIGNAL of an event; what of its name is unseen counts as seen from now on."""
    if not is_active(s):
        return s
    return signal(world, s)._replace(mail=s.mail.replace(UNSEEN, SEEN))


# --- wake-ups


def rearm(s: State, wake: int) -> State | None:
    if s.lease == HELD or not is_active(s) or s.wake_n != wake or s.due == NONE:
        return None
    return s._replace(wake_n=s.wake_n + 1, owed=True)


def post(world: World, s: State) -> State:
    """Publish what is owed; the message service takes a number once."""
    wake = s.wake_n
    if wake > s.posted:
        late = s.due == TIMER and s.timer == TO_COME and s.lease == FREE
        s = s._replace(posted=wake, queue=tuple(sorted((*s.queue, (wake, late)))))
    if world.notes_late:
        return s._replace(noting=tuple(sorted({*s.noting, wake})))
    return s._replace(owed=False)


def note(world: World, s: State, wake: int) -> State:
    """What the row owed was taken, unless it owes another one by now."""
    noting = tuple(w for w in s.noting if w != wake)
    same = s.wake_n == wake or not world.rules.note_compares_number
    return s._replace(noting=noting, owed=s.owed and not same)


def may_post(s: State) -> bool:
    """Whether something is owed that no other publisher is just noting down as taken."""
    return s.owed and s.wake_n not in s.noting
