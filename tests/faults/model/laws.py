"""What must hold in every state, and of every step. Each says in a few words what is broken."""

from collections.abc import Iterator
from functools import cache

from tests.faults.model.programs import (
    ATOMIC,
    CHILD,
    CHILD_FAILED,
    EVENTS,
    SLEEP,
    SUPERSEDED,
    TIMEOUT,
    UNDO,
    UNDOING,
    Program,
    asked,
    fits,
    next_undo,
)
from tests.faults.model.state import (
    ABSENT,
    CANCELLED,
    CANCELLING,
    COMPLETED,
    CONSUMED,
    END,
    FAILED,
    FREE,
    HELD,
    NONE,
    NOW,
    PAUSED,
    RETRY,
    SEEN,
    UNSEEN,
    UNSET,
    State,
    World,
    is_active,
    is_terminal,
)

TWICE = "an atomic effect happened twice"
APART = "an atomic effect and its outcome are apart"
UNDONE = "an outcome is recorded and its effect never happened"
TOO_OFTEN = "an effect was repeated more often than faults happened"
MISFIT = "a replay does not ask for what is recorded"
UNGUARDED = "the run is active and nobody will ever look"
EVENT_LOST = "an event was consumed and no outcome holds it"
UNFINISHED = "the run is completed and something of it is missing"
NOT_THE_RESULT = "the outcome of a child step is not the child's"
REOPENED = "a run that has ended was changed"
REWRITTEN = "a recorded outcome was removed, or got one before it"
NOT_CLAIMED = "a released lease was taken without a claim"
TAKEN_OVER = "a live lease was taken by a claim"
BACKWARDS = "a counter of the row went back"
MAIL_BACK = "a stored event was unsent, or a consumed one is back"
TOO_EARLY = "a timeout was recorded although an event was there"
STUCK = "nothing can happen any more and the run is not completed"
ENDED_PAUSED = "a paused run was taken or has ended"
NOT_STILL = "a paused run is due, or owes a wake-up"
TIME_STANDS = "a paused run was given back, and its timer was not written"
STARTED_LATE = "a step began of a run that its holder knew to be paused or cancelled"
TOO_LATE = "after the decision to cancel a step began, or an atomic one took effect"
ESCAPED = "a cancelled run became something else"
SLEEPS_CANCELLING = "a cancelling run waits for what only its body asked for"
ESCAPED_PAUSE = "a paused run goes on, and nobody has resumed it"
UNDONE_UNDER_WAY = "a step's outcome was recorded after a compensation had begun"
WRONG_ORDER = "an older step was compensated before a newer one"
LEFT_STANDING = "a run ended cancelled or failed, and a step of it is not compensated"
AFTER_UNDO = "an effect began after its compensation had"
STANDS_UNDONE = "a completed run was compensated"
IN_VAIN = "a retried run failed again, and nothing was tried"
HOPELESS = "the end cannot be reached any more without another fault"


def of_state(world: World, s: State) -> Iterator[str]:
    yield from _of_facts(world.program, s.journal, s.mail, s.effects, world.faults - s.faults)
    if is_active(s) and s.lease == FREE and s.due == NONE and not _waits_untimed(world, s):
        yield UNGUARDED
    if s.status == COMPLETED and not asked(world.program, s.journal).end:
        yield UNFINISHED
    yield from _of_vocabulary(world, s)
    if s.child is not None:
        yield from of_state(world.of_child, s.child._replace(faults=s.faults))
        failed = s.child.status in (FAILED, CANCELLED)
        if (CHILD in s.journal and s.child.status != COMPLETED) or (
            CHILD_FAILED in s.journal and not failed
        ):
            yield NOT_THE_RESULT


def _of_vocabulary(world: World, s: State) -> Iterator[str]:
    if s.status == COMPLETED and set(s.journal) & set(UNDOING):
        yield STANDS_UNDONE
    if s.status == PAUSED and (s.due != NONE or s.owed):
        yield NOT_STILL
    if s.late > _width(world.program) * (1 + world.faults - s.faults):
        yield STARTED_LATE
    if s.status == CANCELLING and s.lease == FREE and s.due != NOW:
        yield SLEEPS_CANCELLING
    retried = RETRY in world.users and RETRY not in s.users
    if s.status == FAILED and retried and SUPERSEDED not in s.journal:
        yield IN_VAIN
    undone_all = s.status in (CANCELLED, FAILED) and END not in world.users
    if undone_all and any(_stands(world.program, s, unit) for unit in world.program.undos):
        yield LEFT_STANDING


def _width(program: Program) -> int:
    """How many steps a holder may be about to begin."""
    return len(asked(program, "").work)


def _stands(program: Program, s: State, unit: str) -> bool:
    happened = s.effects[program.work.index(unit)] > 0
    return happened and UNDO[unit] not in s.journal and unit != program.may_fail


@cache
def _of_facts(
    program: Program, journal: str, mail: str, effects: tuple[int, ...], faults: int
) -> tuple[str, ...]:
    """What depends on little, and is asked for all the time."""
    broken = list(_effects(program, journal, effects, faults))
    if mail.count(CONSUMED) != sum(unit in EVENTS for unit in journal):
        broken.append(EVENT_LOST)
    if not fits(program, journal):
        broken.append(MISFIT)
    return tuple(broken)


def _effects(
    program: Program, journal: str, effects: tuple[int, ...], faults: int
) -> Iterator[str]:
    for unit, times in zip(program.work, effects, strict=True):
        recorded = unit in journal
        if unit in ATOMIC:
            if times > 1:
                yield TWICE
            elif times != recorded:
                yield APART
        elif recorded and not times:
            yield UNDONE
        elif times > 1 + faults + journal.count(SUPERSEDED):
            yield TOO_OFTEN


def _waits_untimed(world: World, s: State) -> bool:
    if s.status == CANCELLING or s.failing:
        return False
    wanted = asked(world.program, s.journal)
    timed = wanted.sleep or world.program.timed
    child = wanted.child and s.child is not None and s.child.status != ABSENT
    return s.waits and (wanted.events != "" or child) and not wanted.work and not timed


def of_step(world: World, s: State, t: State) -> Iterator[str]:
    yield from _row_step(s, t)
    if s.child is not None and t.child is not None and s.child is not t.child:
        yield from _child_step(world, s, t, s.child, t.child)
    if s.status == PAUSED or s.status == CANCELLING:
        yield from _stopped_step(world, s, t)
    if t.journal != s.journal or t.effects != s.effects:
        yield from _undoing_step(world, s, t)


def _child_step(world: World, s: State, t: State, old: State, new: State) -> Iterator[str]:
    if old.status == ABSENT and s.status in (CANCELLING, PAUSED, CANCELLED):
        yield TOO_LATE
    old, new = old._replace(faults=s.faults), new._replace(faults=t.faults)
    if old.status != ABSENT and old != new:
        yield from of_step(world.of_child, old, new)


def _stopped_step(world: World, s: State, t: State) -> Iterator[str]:
    if s.status == CANCELLING and t.status not in (CANCELLING, CANCELLED):
        yield ESCAPED
    if s.status == PAUSED and (t.status >= COMPLETED) and t.status != CANCELLED:
        yield ENDED_PAUSED
    if s.status == PAUSED and is_active(t) and t.status != CANCELLING and t.signals == s.signals:
        yield ESCAPED_PAUSE
    if s.status == PAUSED and t.epoch != s.epoch and t.status not in (CANCELLING, CANCELLED):
        yield ENDED_PAUSED
    if s.status == CANCELLING:
        begun = set(t.undos) - set(s.undos)
        atomic = {u for u in ATOMIC if u in t.journal and u not in s.journal}
        if begun or atomic:
            yield TOO_LATE
    released = s.status == t.status == PAUSED and s.lease == HELD and t.lease == FREE
    if released and t.timer == UNSET and s.faults == t.faults and _sleeps(world, s):
        yield TIME_STANDS


def _sleeps(world: World, s: State) -> bool:
    wanted = asked(world.program, s.journal)
    return wanted.sleep or (world.program.timed and wanted.events != "")


def _undoing_step(world: World, s: State, t: State) -> Iterator[str]:
    program = world.program
    if any(s.effects[program.work.index(UNDO[unit])] for unit in program.undos):
        added = t.journal[len(s.journal) :]
        if added and added not in (*UNDOING, SLEEP) and s.faults == world.faults:
            yield UNDONE_UNDER_WAY
    for unit in program.undos:
        undo = UNDO[unit]
        now = undo in t.journal and undo not in s.journal
        if now and next_undo(program, s.journal, s.undos) != undo:
            yield WRONG_ORDER
        at, after = program.work.index(unit), program.work.index(undo)
        if t.effects[at] > s.effects[at] and s.effects[after] and s.faults == world.faults:
            yield AFTER_UNDO


def _row_step(s: State, t: State) -> Iterator[str]:
    retried = s.status == FAILED and s.users != t.users
    changed = (t.status, t.journal, t.epoch) != (s.status, s.journal, s.epoch)
    if is_terminal(s) and changed and not retried:
        yield REOPENED
    if t.journal != s.journal:
        if not t.journal.startswith(s.journal) and not retried:
            yield REWRITTEN
        if t.journal[len(s.journal) :] == TIMEOUT and (UNSEEN in s.mail or SEEN in s.mail):
            yield TOO_EARLY
    if t.lease == HELD and t.epoch == s.epoch and s.lease == FREE:
        yield NOT_CLAIMED
    if s.lease == t.lease == HELD and t.epoch != s.epoch:
        yield TAKEN_OVER
    if t.epoch < s.epoch or t.wake_n < s.wake_n or t.signals < s.signals or t.posted < s.posted:
        yield BACKWARDS
    if t.mail != s.mail and any(
        old >= UNSEEN and new < old for old, new in zip(s.mail, t.mail, strict=True)
    ):
        yield MAIL_BACK
