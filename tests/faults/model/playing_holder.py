"""What each transaction of a holder's is on a real journal; beside ``playing``."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django_hookflow.core.entries import ErrorRecord, Kind, RunStatus
from django_hookflow.core.transitions import (
    STEP,
    Atomic,
    Begin,
    Fail,
    Failing,
    Finish,
    Finished,
    Fire,
    Receive,
    Record,
    Release,
    SignalsMoved,
    StaysPaused,
    Suspend,
    Suspended,
    wait_for,
)
from tests.faults.model import outside, row
from tests.faults.model.conformance import MARGIN, Replay
from tests.faults.model.playing_entries import (
    CHILD_KEY,
    Player,
    begins,
    begun,
    commit,
    end,
    error_of,
    recorded,
    wait,
)
from tests.faults.model.playing_families import collect
from tests.faults.model.programs import SLEEP, asked
from tests.faults.model.senders import EVENT
from tests.faults.model.state import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    FAILED,
    FREE,
    PAUSED,
    STOPS,
    UNDOES,
    Handler,
)
from tests.faults.model.undoing import last_status
from tests.faults.model.walks import Step
from tests.journals.bench import sleep

LATE = ErrorRecord(type="EventTimeout", message="too late", raises="EventTimeout")
ENDS = {
    COMPLETED: RunStatus.COMPLETED,
    FAILED: RunStatus.FAILED,
    CANCELLED: RunStatus.CANCELLED,
}


def _begins(replay: Replay, step: Step, h: Handler, unit: str) -> str:
    transition = Begin(fence=replay.fence(h), entry=begun(replay, step, unit))
    return commit(replay, step, h, transition, begins(step))


def _records(replay: Replay, step: Step, h: Handler, unit: str) -> str:
    transition = Record(fence=replay.fence(h), entry=recorded(replay, step, unit))
    return commit(replay, step, h, transition)


def _atomically(
    replay: Replay, step: Step, h: Handler, unit: str, wanted: str = "committed"
) -> str:
    effects: list[str] = []

    def work() -> str:
        effects.append(unit)
        return '"done"'

    written = replace(begun(replay, step, unit, Kind.ATOMIC), attempt=1)
    transition = Atomic(fence=replay.fence(h), entry=written, work=work)
    answer = commit(replay, step, h, transition, wanted)
    replay.check(effects, [unit])
    return answer


def _fire(replay: Replay, h: Handler, ready_at: datetime) -> Fire:
    return Fire(fence=replay.fence(h), entry=sleep(SLEEP, ready_at))


def _fires(replay: Replay, step: Step, h: Handler, unwritten: bool) -> str:
    ready_at = replay.bench.time - MARGIN if unwritten else replay.timer_at
    return commit(replay, step, h, _fire(replay, h, ready_at))


def _receive(replay: Replay, h: Handler, unit: str) -> Receive:
    return Receive(fence=replay.fence(h), entry=wait(replay, unit), timeout_error=LATE)


def _receives(replay: Replay, step: Step, h: Handler, unit: str, found: str) -> str:
    transition = collect(replay, h) if found == "result" else _receive(replay, h, unit)
    return found + " " + commit(replay, step, h, transition)


def _finds_no_event(replay: Replay, step: Step, h: Handler, unit: str) -> str:
    return commit(replay, step, h, _receive(replay, h, unit), "not yet")


def _suspends(replay: Replay, step: Step, h: Handler) -> str:
    transition, after = _suspension(replay, step, h), step.after
    wanted: Any = Suspended(owed=transition.due is not None)
    if after.lease != FREE:
        cancelling = after.status == CANCELLING
        wanted = SignalsMoved(seen=after.signals, cancelling=cancelling)
    elif after.status == PAUSED:
        wanted = StaysPaused()
    return end(replay, step, h, lambda: replay.journal.suspend(transition), wanted)


def _suspension(replay: Replay, step: Step, h: Handler) -> Suspend:
    program, wanted = replay.world.program, row.wanted_of(replay.world, h)
    pending = [wait(replay, unit) for unit in wanted.events]
    if wanted.sleep:
        pending.append(sleep(SLEEP, replay.timer_at))
    waits = [f"event:{EVENT}"] if wanted.events else []
    if wanted.child:
        waits.append(wait_for(STEP, CHILD_KEY))
    at_once = step.action[0] == "F stops" or h.mode == STOPS
    timed = wanted.sleep or (program.timed and wanted.events != "")
    return Suspend(
        fence=replay.fence(h),
        seen=h.seen,
        due=timedelta(0) if at_once else replay.timer_at if timed else None,
        waits=tuple(waits),
        pending=tuple(pending),
    )


def _releases(replay: Replay, step: Step, h: Handler) -> str:
    release = Release(fence=replay.fence(h))
    return end(replay, step, h, lambda: replay.journal.release(release), None)


def _finishes(replay: Replay, step: Step, h: Handler) -> str:
    undone = h.mode == UNDOES
    return _finish(replay, step, h, last_status(step.before) if undone else COMPLETED)


def _finish(replay: Replay, step: Step, h: Handler, status: int) -> str:
    """A child's end tells its parent."""
    before, parent = step.before, replay.parent
    transition = Finish(
        fence=replay.fence(h),
        status=ENDS[status],
        result="1" if status == COMPLETED else None,
        error=error_of(replay) if status == FAILED else None,
        parent=None if parent is None else parent.id,
        parent_step="" if parent is None else CHILD_KEY,
    )
    wanted = _refusal(step) if status != CANCELLED or before.status == PAUSED else None
    return end(replay, step, h, lambda: replay.journal.finish(transition), wanted or Finished())


def _refusal(step: Step) -> Any:
    """What a holder is told that may not end its run, if it may not."""
    if step.before.status == CANCELLING:
        return SignalsMoved(seen=step.before.signals, cancelling=True)
    return StaysPaused() if step.before.status == PAUSED else None


def _fails(replay: Replay, step: Step, h: Handler) -> str:
    if not outside.has_undos(replay.world, step.before):
        return _finish(replay, step, h, FAILED)
    fail = Fail(fence=replay.fence(h), error=error_of(replay))
    wanted = _refusal(step) or Failing()
    return end(replay, step, h, lambda: replay.journal.fail(fail), wanted)


# --- after the decision to cancel


def _commits_too_late(replay: Replay, step: Step, h: Handler, unit: str) -> str:
    return _atomically(replay, step, h, unit, "stopped")


def _asks_too_late(replay: Replay, step: Step, h: Handler) -> str:
    """It asks for one of what it waits for; each is refused."""
    wanted = asked(replay.world.program, h.handed)
    asks: list[Any] = [_receive(replay, h, unit) for unit in wanted.events]
    if wanted.sleep:
        asks.append(_fire(replay, h, replay.timer_at))
    if wanted.child:
        asks.append(collect(replay, h))
    (answer,) = {commit(replay, step, h, each, "stopped") for each in asks}
    return answer


#: By the name of the action, without the mark of a fault.
PLAYERS: dict[str, Player] = {
    "records": _records,
    "records too late": _records,
    "commits atomically": _atomically,
    "fires": _fires,
    "receives": _receives,
    "finds no event": _finds_no_event,
    "suspends": _suspends,
    "stops": _suspends,
    "releases": _releases,
    "finishes": _finishes,
}

#: What only happens to what may be cancelled, fail or be undone.
WINDING_UP: dict[str, Player] = {
    "begins": _begins,
    "fails": _fails,
    "commits too late": _commits_too_late,
    "asks too late": _asks_too_late,
}
