"""A holder of the run: it runs the body, or compensates, until the run is given back or ends.

Longer than the habit, to be read from top to bottom: every way a holder has from one transaction
to the next is in here.
"""

from tests.faults.model import family, outside, row, undoing
from tests.faults.model.actors import (
    Steps,
    add_handler,
    answer,
    drop_handler,
    set_handler,
    spend,
)
from tests.faults.model.programs import ATOMIC, CHILD, FAILURE, SLEEP, TIMEOUT, Asked, asked
from tests.faults.model.state import (
    ANSWERING,
    BODY,
    CANCELLING,
    COMPLETED,
    FAILED,
    LEFT,
    NONE,
    PAST,
    PAUSED,
    PUBLISHING,
    STOPS,
    UNDOES,
    UNSET,
    Handler,
    State,
    World,
)


def mode_of(world: World, s: State) -> int:
    """How whoever reads the row takes it."""
    cancelling = s.status == CANCELLING and world.rules.cancelling_runs_no_body
    if s.status == PAUSED:
        return STOPS
    return UNDOES if cancelling or s.failing else BODY


def hold(world: World, s: State, n: int, h: Handler) -> Steps:
    """What it knows is what it was given at the claim, and its own outcomes since."""
    if h.mode == BODY:
        yield from _run(world, s, n, h)
        return
    yield from _settle(world, s, n, h)
    if world.allows(s, "infra"):
        yield ("F releases", h), _release(world, spend(s), n, h)
    if h.mode == UNDOES and not (undoing.waits_for_units(world, h)):
        yield from _undo(world, s, n, h)
    elif h.mode == STOPS and not (h.out or h.ans or h.got):
        yield ("suspends", h), _suspend(world, s, n, h)


def _run(world: World, s: State, n: int, h: Handler) -> Steps:
    wanted = asked(world.program, h.handed)
    mine = (h.out + h.ans + h.got).replace(FAILURE, world.program.may_fail)
    to_start = "".join(unit for unit in wanted.work if unit not in mine)
    yield from _start(world, s, n, h, to_start)
    yield from _settle(world, s, n, h)
    yield from _wait(world, s, n, h, wanted)
    if wanted.child and s.status != CANCELLING:
        yield from _child(world, s, n, h)
    if world.allows(s, "infra"):
        yield ("F releases", h), _release(world, spend(s), n, h)
    busy = h.out if world.rules.suspend_after_units else ""
    if wanted.fails and not world.rules.undo_after_units:
        busy = ""
    if busy or h.ans or h.got:
        return
    if wanted.end or wanted.fails:
        yield ("finishes" if wanted.end else "fails", h), _ended(world, s, n, h, wanted)
        return
    if world.allows(s, "stop"):
        yield ("F stops", h), _suspend(world, spend(s), n, h, at_once=True)
    waits = wanted.sleep or wanted.events or (wanted.child and _is_started(world, s))
    if not to_start and waits and _nothing_due(world, s, h, wanted):
        yield ("suspends", h), _suspend(world, s, n, h)


def _nothing_due(world: World, s: State, h: Handler, wanted: Asked) -> bool:
    fires = s.timer == PAST and (wanted.sleep or world.program.timed)
    return not fires and (h.looked or not (wanted.events or wanted.child))


def _start(world: World, s: State, n: int, h: Handler, units: str) -> Steps:
    for unit in units:
        if unit in ATOMIC and _is_refused(s, world.rules.atomic_leaves_cancelling):
            yield ("commits too late", h, unit), _told(world, s, n, h)
        elif unit in ATOMIC:
            done = row.commit(world, s, h, unit)
            yield ("commits atomically", h, unit), _recorded(world, s, n, h, unit, done)
        elif _needs_row(world, h, unit):
            yield ("begins", h, unit), _begin(world, s, n, h, unit)
        else:
            started = h._replace(out=h.out + unit, begun=h.begun.replace(unit, ""))
            yield ("executes", h, unit), set_handler(undoing.effect(world, s, unit), n, started)


def _is_refused(s: State, rule: bool) -> bool:
    return s.status == CANCELLING and rule


def _needs_row(world: World, h: Handler, unit: str) -> bool:
    return unit in world.program.undos and unit not in h.begun and world.rules.undo_before_effect


def _begin(world: World, s: State, n: int, h: Handler, unit: str) -> State:
    """Of a run that is paused or cancelled nothing begins, and its holder is told so."""
    started = row.start(world, s, h, unit)
    if started is None:
        return answer(s, n, 200)
    if s.status == PAUSED or _is_refused(s, world.rules.start_leaves_cancelling):
        return _told(world, s, n, h)
    return set_handler(started, n, h._replace(begun=h.begun + unit))


def _told(world: World, s: State, n: int, h: Handler) -> State:
    """A transaction of the holder's has met a run that is paused or cancelled."""
    if not row.holds(world, s, h):
        return answer(s, n, 200)
    return set_handler(s, n, _aware(world, s, h))


def _aware(world: World, s: State, h: Handler) -> Handler:
    """What every transaction of a holder's tells it: how the run is to be taken from now on."""
    if not world.rules.commit_tells_status and s.status == PAUSED:
        return h
    mode = mode_of(world, s)
    if mode == h.mode:
        return h
    if mode == BODY:
        return h._replace(mode=BODY)
    if mode == STOPS:
        return h._replace(mode=STOPS, begun="")
    busy = h.out or h.ans
    return h._replace(mode=STOPS, begun="") if busy else undoing.begun(s, h)


def _settle(world: World, s: State, n: int, h: Handler) -> Steps:
    for unit in h.out:
        ended = h._replace(out=h.out.replace(unit, ""))
        done = row.commit(world, s, h, unit)
        yield ("records", h, unit), _recorded(world, s, n, ended, unit, done)
        if unit == world.program.may_fail and FAILURE not in s.journal and "-" not in s.journal:
            done = row.commit(world, s, h, FAILURE)
            yield ("records", h, FAILURE), _recorded(world, s, n, ended, FAILURE, done)
    for unit in h.ans:
        told = h._replace(ans=h.ans.replace(unit, ""), got=h.got + unit)
        over = _handed_over(world, s, told)
        if h.mode == STOPS and s.status == CANCELLING:  # which the last commit has said
            over = _aware(world, s, over)
        yield ("is told", h, unit), set_handler(s, n, over)


def _recorded(world: World, s: State, n: int, h: Handler, unit: str, done: State | None) -> State:
    if done is None:
        return answer(s, n, 200)
    if world.program.parallel and h.mode != UNDOES:
        return set_handler(done, n, _aware(world, done, h._replace(ans=h.ans + unit)))
    over = _handed_over(world, done, h._replace(got=h.got + unit))
    return set_handler(done, n, _aware(world, done, over))


def _handed_over(world: World, s: State, h: Handler) -> Handler:
    """Outcomes whose turn it is, in the order of their seq."""
    if not world.rules.hand_over_by_seq:
        return h._replace(handed=h.handed + h.got, got="")
    while (unit := s.journal[len(h.handed) : len(h.handed) + 1]) and unit in h.got:
        h = h._replace(handed=h.handed + unit, got=h.got.replace(unit, ""))
    return h


def _wait(world: World, s: State, n: int, h: Handler, wanted: Asked) -> Steps:
    if s.status == CANCELLING:
        if wanted.sleep or wanted.events or wanted.child:
            yield ("asks too late", h), _told(world, s, n, h)
        return
    mine = h.out + h.ans + h.got
    if wanted.sleep and SLEEP not in mine and (s.timer == PAST or (s.timer == UNSET and h.out)):
        # Not written down yet, its time may come while something executes beside it.
        done = row.commit(world, s, h, SLEEP)
        yield ("fires", h, s.timer == UNSET), _recorded(world, s, n, h, SLEEP, done)
    for unit in wanted.events:
        if unit in mine or (unit == "E" and TIMEOUT in mine):
            continue
        if not h.looked or (world.program.timed and s.timer == PAST):
            yield from _look(world, s, n, h, unit)


def _look(world: World, s: State, n: int, h: Handler, unit: str) -> Steps:
    found, after = row.receive(world, s, h, unit)
    if found == "nothing":
        yield ("finds no event", h, unit), set_handler(s, n, h._replace(looked=True))
    elif found == "taken" and after is not None:
        yield ("takes an event", h, unit), set_handler(after, n, h._replace(out=h.out + unit))
    else:
        outcome = TIMEOUT if found == "timeout" else unit
        yield ("receives", h, unit, found), _recorded(world, s, n, h, outcome, after)


# --- a child


def _is_started(world: World, s: State) -> bool:
    return family.has_child(s) or CHILD in s.undos


def _child(world: World, s: State, n: int, h: Handler) -> Steps:
    """It is started if the journal has no row of it; its result is looked for."""
    outcome = family.result(s)
    if not _is_started(world, s) or CHILD in h.begun:
        yield ("starts the child", h), _start_child(world, s, n, h)
    elif outcome:
        done = row.commit(world, s, h, outcome)
        yield ("receives", h, outcome, "result"), _recorded(world, s, n, h, outcome, done)
    elif not h.looked:
        yield ("finds no result", h), set_handler(s, n, h._replace(looked=True))


def _start_child(world: World, s: State, n: int, h: Handler) -> State:
    if s.status == PAUSED:
        return _told(world, s, n, h)
    if not world.rules.child_with_row:
        return _start_apart(world, s, n, h)
    started = family.start_child(world, s, h)
    return answer(s, n, 200) if started is None else started


def _start_apart(world: World, s: State, n: int, h: Handler) -> State:
    """Without the rule: the parent's row first, and the child in a transaction of its own."""
    if CHILD in h.begun:
        return set_handler(family.born(s), n, h._replace(begun=""))
    written = row.start(world, s, h, CHILD)
    if written is None:
        return answer(s, n, 200)
    return set_handler(written, n, h._replace(begun=CHILD))


# --- compensations


def _undo(world: World, s: State, n: int, h: Handler) -> Steps:
    """One after the other, each a step; then the end."""
    if h.out.lower() == h.out != "" or h.got:
        return
    unit = undoing.following(world, s, h)
    if unit:
        started = undoing.effect(world, s, unit)
        yield ("executes", h, unit), set_handler(started, n, h._replace(out=h.out + unit))
    else:
        status = undoing.last_status(s)
        yield ("finishes", h), _finished(world, s, n, h, status)
    if world.allows(s, "stop"):
        yield ("F stops", h), _suspend(world, spend(s), n, h, at_once=True)


# --- the ends of a delivery


def _ended(world: World, s: State, n: int, h: Handler, wanted: Asked) -> State:
    """Of the body: a failing run with something to compensate goes on with that."""
    if wanted.end:
        return _finished(world, s, n, h, COMPLETED)
    if not outside.has_undos(world, s):
        return _finished(world, s, n, h, FAILED)
    after = row.fail(world, s, h)
    if isinstance(after, str):
        return _told(world, s, n, h)
    if after.status == PAUSED:
        return _end(n, h, after, ANSWERING)
    return set_handler(after, n, undoing.begun(after, h))


def _finished(world: World, s: State, n: int, h: Handler, status: int) -> State:
    after = row.finish(world, s, h, status)
    return _told(world, s, n, h) if isinstance(after, str) else _end(n, h, after, ANSWERING)


def _end(n: int, h: Handler, after: State, pc: int) -> State:
    return set_handler(after, n, Handler(pc=pc, wake=h.wake, attached=h.attached))


def _suspend(world: World, s: State, n: int, h: Handler, *, at_once: bool = False) -> State:
    after = row.suspend(world, s, h, at_once=at_once)
    if after == "moved":
        return set_handler(s, n, _aware(world, s, h._replace(seen=s.signals, looked=False)))
    if isinstance(after, str):
        return answer(s, n, 200)
    return _end(n, h, after, ANSWERING if after.due == NONE else PUBLISHING)


def _release(world: World, s: State, n: int, h: Handler) -> State:
    """503 at once; what still executes outlives its delivery."""
    after = row.release(world, s, h)
    if after is None:
        return answer(s, n, 200)
    over = answer(after, n, 503)
    if not h.out:
        return over
    return add_handler(over, h._replace(pc=LEFT, attached=False, ans="", got="", looked=False))


def left_behind(world: World, s: State, n: int, h: Handler) -> Steps:
    """A unit that outlived its delivery tries to record what it did."""
    for unit in h.out:
        done = row.commit(world, s, h, unit)
        left = h._replace(out=h.out.replace(unit, ""))
        after = s if done is None else done
        over = set_handler(after, n, left) if left.out else drop_handler(after, n)
        yield ("records too late", h, unit), over
