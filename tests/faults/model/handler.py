"""One delivery: what it finds, whether it claims, what it executes, how it ends."""

from tests.faults.model import outside, row
from tests.faults.model.actors import (
    Steps,
    answer,
    exists,
    set_handler,
    spend,
)
from tests.faults.model.holder import hold, left_behind, mode_of
from tests.faults.model.state import (
    ANSWERING,
    ARRIVED,
    HELD,
    HOLDING,
    NONE,
    PAUSED,
    PUBLISHING,
    Handler,
    State,
    World,
    is_due,
    is_terminal,
)


def handler(world: World, s: State, n: int) -> Steps:
    h = s.handlers[n]
    if h.pc == ARRIVED:
        yield from _arrive(world, s, n, h)
        return
    if world.allows(s, "crash"):
        yield ("F crashes", h), answer(spend(s), n, 500)
    if h.pc == HOLDING:
        yield from hold(world, s, n, h)
    elif h.pc == PUBLISHING:
        yield from _publish(world, s, n, h)
    elif h.pc == ANSWERING:
        yield ("answers", h), answer(s, n, 200)
    else:
        yield from left_behind(world, s, n, h)


# --- rows 5 to 12 of the table of answers


def _arrive(world: World, s: State, n: int, h: Handler) -> Steps:
    wake = h.wake
    if not exists(s):
        yield ("finds no run", wake), answer(s, n, 200)
    elif is_terminal(s):
        yield ("finds it done", wake), answer(s, n, 200)
    elif s.status == PAUSED and world.rules.claim_leaves_paused and not _is_own(world, s, wake):
        yield ("finds it paused", wake), answer(s, n, 200)
    elif s.lease == HELD and world.rules.claim_asks_for_the_lease:
        if wake != s.lease_w:
            yield ("finds it covered", wake), _flush(world, s, n, h)
        elif world.rules.busy_asks_again:
            yield ("finds it busy", wake), answer(s, n, 503)
        else:
            yield ("finds it busy", wake), answer(s, n, 200)
    elif wake != s.wake_n and not world.rules.admit_by_row:
        yield ("finds it stale", wake), answer(s, n, 200)
    elif is_due(s) or s.lease == HELD:
        yield ("claims", wake), _claim(world, s, n, h)
    elif s.due != NONE and wake == s.wake_n and world.rules.rearm_early:
        armed = outside.rearm(s, wake)
        assert armed is not None, "it was just found so"
        yield ("finds it early", wake), set_handler(armed, n, h._replace(pc=PUBLISHING))
    else:
        yield ("finds it stale", wake), _flush(world, s, n, h)


def _is_own(world: World, s: State, wake: int) -> bool:
    """The message of a paused run's holder comes again: it guards the lease as ever."""
    return s.lease == HELD and wake == s.lease_w and world.rules.paused_holder_is_busy


def _flush(world: World, s: State, n: int, h: Handler) -> State:
    if s.owed and world.rules.delivery_flushes:
        return set_handler(s, n, h._replace(pc=PUBLISHING))
    return answer(s, n, 200)


def _claim(world: World, s: State, n: int, h: Handler) -> State:
    taken = row.claim(world, s, h.wake)
    holder = h._replace(
        pc=HOLDING,
        epoch=taken.epoch,
        seen=taken.signals,
        handed=taken.journal.partition(".")[0],
        attached=h.attached and world.rules.answer_at_end,
        mode=mode_of(world, taken),
    )
    return set_handler(taken, n, holder)


def _publish(world: World, s: State, n: int, h: Handler) -> Steps:
    """What the row owes, before the answer; if it is not taken, the message comes again."""
    done = h._replace(pc=ANSWERING)
    if not outside.may_post(s):
        yield ("posts nothing", "handler", h), set_handler(s, n, done)
        return
    yield ("posts", "handler", h), set_handler(outside.post(world, s), n, done)
    if world.allows(s, "pubfail"):
        yield ("F POST fails", h), answer(spend(s), n, 503)
