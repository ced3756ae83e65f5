"""What users do to a run from outside: cancel, pause, resume, retry."""

from tests.faults.model import family, outside
from tests.faults.model.actors import Steps
from tests.faults.model.state import (
    CANCEL,
    END,
    PAUSE,
    PAUSED,
    RETRY,
    STARTED,
    TRIGGERED,
    State,
    World,
)


def users(world: World, s: State) -> Steps:
    """Each at any moment, once; a paused run may be resumed at any moment."""
    if CANCEL in s.users and (after := outside.cancel(world, s)) is not None:
        for how, t in family.with_children(world, s, after, at_once=False):
            yield ("cancels", *how), _done(s, t, CANCEL)
    if END in s.users and (after := outside.end(s)) is not None:
        for how, t in family.with_children(world, s, after, at_once=True):
            yield ("cancels at once", *how), _done(s, t, END)
    if PAUSE in s.users and (after := outside.pause(world, s)) is not None:
        yield ("pauses",), _done(s, after, PAUSE)
    if s.status == PAUSED and (after := outside.resume(world, s)) is not None:
        yield ("resumes",), _done(s, after, "")
    if RETRY in s.users and (after := outside.retry(world, s)) is not None:
        yield ("retries",), _done(s, after, RETRY)


def _done(s: State, after: State, what: str) -> State:
    """What is owed then, its process publishes after its commit."""
    publishes = after.owed and after.wake_n > s.wake_n and s.trigger == STARTED
    return after._replace(
        users=s.users.replace(what, "") if what else s.users,
        trigger=TRIGGERED if publishes else s.trigger,
    )
