"""A parent and its child: two runs side by side, and the transitions that touch both.

The child is a run like any other, with messages and deliveries of its own. Whatever ends it
signals its parent in the same transaction: parent's row first, which in here is one step.
"""

from collections.abc import Callable

from tests.faults.model import outside, row
from tests.faults.model.actors import Steps
from tests.faults.model.programs import CHILD, CHILD_FAILED
from tests.faults.model.state import (
    ABSENT,
    CANCELLED,
    CANCELLING,
    COMPLETED,
    PENDING,
    STARTED,
    TRIGGERED,
    Handler,
    State,
    World,
    is_open,
    is_terminal,
)


def child_steps(world: World, s: State, steps: Callable[[World, State], Steps]) -> Steps:
    assert s.child is not None
    for action, child in steps(world.of_child, s.child._replace(faults=s.faults)):
        yield (f"child: {action[0]}", *action[1:]), _beside(world, s, child, child.faults)


def start_child(world: World, s: State, h: Handler) -> State | None:
    """START: the parent's pending row and the child's row with its first wake-up, in one."""
    started = row.start(world, s, h, CHILD)
    return None if started is None else born(started._replace(undos=s.undos))


def born(s: State) -> State:
    assert s.child is not None
    return s._replace(child=s.child._replace(status=PENDING, trigger=TRIGGERED))


def has_child(s: State) -> bool:
    return s.child is not None and s.child.status != ABSENT


def result(s: State) -> str:
    """The outcome of the parent's step: nothing while the child goes on."""
    if s.child is None or not is_terminal(s.child):
        return ""
    return CHILD if s.child.status == COMPLETED else CHILD_FAILED


def with_children(world: World, s: State, after: State, *, at_once: bool) -> Steps:
    """CANCEL of the parent, and of its child in the same transaction, or later by the sweeper."""
    if not has_child(s) or not world.rules.cancel_takes_children:
        yield (), after
        return
    yield (), cancel_child(world, after, at_once=at_once)
    if world.rest:
        yield ("leaves the child",), after


def sweep_child(world: World, s: State) -> Steps:
    orphan = s.status in (COMPLETED, CANCELLED, CANCELLING)  # a failed one may be retried
    allowed = world.sweeper and world.rules.sweep_children
    left = s.child is not None and is_open(s.child) and s.child.status != CANCELLING
    if allowed and orphan and left:
        yield ("sweeps the child",), cancel_child(world, s)


def cancel_child(world: World, s: State, *, at_once: bool = False) -> State:
    assert s.child is not None
    child = outside.end(s.child) if at_once else outside.cancel(world.of_child, s.child)
    if child is None:
        return s
    publishes = child.owed and child.wake_n > s.child.wake_n
    child = child._replace(trigger=TRIGGERED) if publishes else child
    return _beside(world, s, child, s.faults)


def _beside(world: World, s: State, child: State, faults: int) -> State:
    """The parent beside its child's next state; it is told if that is the end."""
    assert s.child is not None
    ended = is_terminal(child) and not is_terminal(s.child)
    after = s._replace(child=child._replace(faults=0), faults=faults)
    by_cancel = child.status == CANCELLED
    rules = world.rules
    if not ended or not (rules.child_cancel_signals if by_cancel else rules.child_end_signals):
        return after
    told = outside.signal(world, after)
    publishes = told.wake_n > s.wake_n and told.trigger == STARTED
    return told._replace(trigger=TRIGGERED) if publishes else told
