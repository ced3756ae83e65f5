"""What a holder of a cancelling or failing run does: compensations, newest first, then the end."""

from tests.faults.model import row
from tests.faults.model.programs import EXTERNAL, next_undo
from tests.faults.model.state import (
    CANCELLED,
    CANCELLING,
    FAILED,
    PAUSED,
    UNDOES,
    Handler,
    State,
    World,
)


def begun(s: State, h: Handler) -> Handler:
    """The holder turns from the body to compensations; it has read the journal again."""
    return h._replace(mode=UNDOES, handed=s.journal, begun="", got="", looked=False)


def waits_for_units(world: World, h: Handler) -> bool:
    """Until every step that executes has ended."""
    return world.rules.undo_after_units and bool(h.out or h.ans)


def following(world: World, s: State, h: Handler) -> str:
    """By what the holder knows; pending rows change no more once compensations have begun."""
    pending = s.undos if world.rules.undo_of_unknown else ""
    oldest = not world.rules.undo_newest_first
    return next_undo(world.program, h.handed, pending, oldest=oldest)


def last_status(s: State) -> int:
    return CANCELLED if s.status == CANCELLING else FAILED


def effect(world: World, s: State, unit: str) -> State:
    """A step outside begins, and so may its effect."""
    stopped = s.status in (CANCELLING, PAUSED, CANCELLED) and unit in EXTERNAL
    effects = row.with_effect(world, s, unit)
    return s._replace(effects=effects, late=s.late + stopped)
