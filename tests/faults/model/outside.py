"""The transitions that come from outside of a holder, and wake-ups; beside ``row``."""

from tests.faults.model.programs import (
    FAILURE,
    SUPERSEDED,
    undone,
)
from tests.faults.model.row import over
from tests.faults.model.state import (
    CANCELLED,
    CANCELLING,
    FAILED,
    FREE,
    HELD,
    LEASE,
    NONE,
    NOW,
    PAUSED,
    PENDING,
    RUNNING,
    SEEN,
    SUSPENDED,
    TIMER,
    TO_COME,
    UNSEEN,
    State,
    World,
    is_active,
    is_due,
    is_open,
)

# --- events and users


def signal(world: World, s: State) -> State:
    """Of an open run: always the version; a wake-up if it sleeps, waits and is not due."""
    if not is_open(s):
        return s
    if world.rules.signal_moves_version:
        s = s._replace(signals=s.signals + 1)
    sleeping = s.lease != HELD if world.rules.signal_wakes_sleepers else s.lease == HELD
    if is_active(s) and sleeping and s.waits and not is_due(s):
        s = s._replace(wake_n=s.wake_n + 1, owed=True, due=NOW)
    return s


def signal_unseen(world: World, s: State) -> State:
    """SIGNAL of an event; what of its name is unseen counts as seen from now on."""
    if not is_open(s):
        return s
    return signal(world, s)._replace(mail=s.mail.replace(UNSEEN, SEEN))


def cancel(world: World, s: State) -> State | None:
    """With compensations. Who holds the run records what executes; the next one compensates."""
    if not is_open(s):
        return None
    if not has_undos(world, s):
        return end(s)
    held = s.lease == HELD and world.rules.cancel_waits_for_holder
    woken = s if held else s._replace(wake_n=s.wake_n + 1, owed=True)
    if not world.rules.cancel_waits_for_holder:
        woken = woken._replace(epoch=s.epoch + 1, lease=FREE)
    return woken._replace(
        status=CANCELLING,
        due=LEASE if held else NOW,
        signals=s.signals + world.rules.cancel_moves_signals,
        waits=False,
        late=0,
    )


def has_undos(world: World, s: State) -> bool:
    """Whether a step has to be compensated, or had to be: of that the next holder finds none."""
    return s.undos != "" or any(unit in world.program.undos for unit in s.journal)


def end(s: State) -> State | None:
    """CANCEL at once: a holder is fenced, nothing is compensated."""
    if not is_open(s):
        return None
    return over(s, CANCELLED)._replace(epoch=s.epoch + 1, late=0)


def pause(world: World, s: State) -> State | None:
    """No epoch: what executes is recorded."""
    if s.status not in (PENDING, RUNNING, SUSPENDED):
        return None
    paused = s._replace(status=PAUSED, late=0)
    return paused._replace(due=NONE, owed=False) if world.rules.pause_is_still else paused


def resume(world: World, s: State) -> State | None:
    if s.status != PAUSED:
        return None
    held = s.lease == HELD
    due = LEASE if held else NOW
    return s._replace(
        status=RUNNING if held else SUSPENDED,
        signals=s.signals + world.rules.resume_moves_signals,
        wake_n=s.wake_n + 1,
        owed=True,
        due=due if world.rules.resume_is_due else NONE,
        late=0,
    )


def retry(world: World, s: State) -> State | None:
    """Of a failed run of which nothing was compensated."""
    compensated = undone(s.journal) != "" and world.rules.retry_asks_for_compensations
    if s.status != FAILED or compensated:
        return None
    journal = s.journal
    if world.rules.retry_supersedes:
        journal = journal.replace(FAILURE, SUPERSEDED)
    woken = s._replace(wake_n=s.wake_n + 1, owed=True, due=NOW) if world.rules.retry_is_due else s
    return woken._replace(
        status=SUSPENDED,
        epoch=s.epoch + 1,
        signals=s.signals + 1,  # a child may have ended meanwhile, and told a run that was over
        failing=False,
        journal=journal,
    )


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
