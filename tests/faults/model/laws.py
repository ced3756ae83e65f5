"""What must hold in every state, and of every step. Each says in a few words what is broken."""

from collections.abc import Iterator
from functools import cache

from tests.faults.model.programs import ATOMIC, EVENTS, TIMEOUT, Program, asked, fits
from tests.faults.model.state import (
    COMPLETED,
    CONSUMED,
    FREE,
    HELD,
    NONE,
    SEEN,
    UNSEEN,
    State,
    World,
    is_active,
)

TWICE = "an atomic effect happened twice"
APART = "an atomic effect and its outcome are apart"
UNDONE = "an outcome is recorded and its effect never happened"
TOO_OFTEN = "an effect was repeated more often than faults happened"
MISFIT = "a replay does not ask for what is recorded"
UNGUARDED = "the run is active and nobody will ever look"
EVENT_LOST = "an event was consumed and no outcome holds it"
UNFINISHED = "the run is completed and something of it is missing"
REOPENED = "a completed run was changed"
REWRITTEN = "a recorded outcome was removed, or got one before it"
NOT_CLAIMED = "a released lease was taken without a claim"
TAKEN_OVER = "a live lease was taken by a claim"
BACKWARDS = "a counter of the row went back"
MAIL_BACK = "a stored event was unsent, or a consumed one is back"
TOO_EARLY = "a timeout was recorded although an event was there"
STUCK = "nothing can happen any more and the run is not completed"
HOPELESS = "the end cannot be reached any more without another fault"


def of_state(world: World, s: State) -> Iterator[str]:
    yield from _of_facts(world.program, s.journal, s.mail, s.effects, world.faults - s.faults)
    if is_active(s) and s.lease == FREE and s.due == NONE and not _waits_untimed(world, s):
        yield UNGUARDED
    if s.status == COMPLETED and len(s.journal) != world.program.length:
        yield UNFINISHED


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
        elif times > 1 + faults:
            yield TOO_OFTEN


def _waits_untimed(world: World, s: State) -> bool:
    wanted = asked(world.program, s.journal)
    timed = wanted.sleep or world.program.timed
    return s.waits and wanted.events != "" and not wanted.work and not timed


def of_step(s: State, t: State) -> Iterator[str]:
    if s.status == COMPLETED and (t.status, t.journal, t.epoch) != (s.status, s.journal, s.epoch):
        yield REOPENED
    if t.journal != s.journal:
        if not t.journal.startswith(s.journal):
            yield REWRITTEN
        if t.journal[len(s.journal) :] == TIMEOUT and (UNSEEN in s.mail or SEEN in s.mail):
            yield TOO_EARLY
    if t.lease == HELD and t.epoch == s.epoch and s.lease == FREE:
        yield NOT_CLAIMED
    if s.lease == HELD and t.epoch != s.epoch:
        yield TAKEN_OVER
    if t.epoch < s.epoch or t.wake_n < s.wake_n or t.signals < s.signals or t.posted < s.posted:
        yield BACKWARDS
    if t.mail != s.mail and any(
        old >= UNSEEN and new < old for old, new in zip(s.mail, t.mail, strict=True)
    ):
        yield MAIL_BACK
