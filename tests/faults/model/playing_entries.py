"""The rows of the journal that the units of a program are, and what a commit of one answers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django_hookflow.core.entries import Entry, ErrorRecord, Kind, StepStatus
from django_hookflow.core.transitions import (
    Commit,
    Committed,
    Failing,
    Fenced,
    Finished,
    NotYet,
    SignalsMoved,
    StaysPaused,
    Stopped,
    Suspended,
)
from tests.faults.model import row
from tests.faults.model.conformance import Replay
from tests.faults.model.programs import CHILD, FAILURE, SUPERSEDED, UNDOING
from tests.faults.model.projection import STATUSES
from tests.faults.model.senders import EVENT
from tests.faults.model.state import CANCELLING, PAUSED, Handler
from tests.faults.model.walks import Step
from tests.journals.bench import entry, outcome

Player = Callable[..., str]

#: The key of the step that a child is to its parent.
CHILD_KEY = entry(CHILD).key


def recorded(replay: Replay, step: Step, unit: str) -> Entry:
    """The outcome of what has executed."""
    if unit in UNDOING:
        undone = outcome(unit.upper(), Kind.UNDO)
        return replace(undone, key=f"{undone.key}/undo")
    if unit == FAILURE:
        unit = replay.world.program.may_fail
        broken = outcome(unit, series=_series(replay, step, unit), error=error_of(replay))
        return replace(broken, status=StepStatus.FAILED, value=None)
    return outcome(unit, series=_series(replay, step, unit), undo=undo_of(replay, unit))


def begun(replay: Replay, step: Step, unit: str, kind: Kind = Kind.RUN) -> Entry:
    """The row of a step that has not ended."""
    return entry(unit, kind, series=_series(replay, step, unit), undo=undo_of(replay, unit))


def wait(replay: Replay, unit: str) -> Entry:
    ready_at = replay.timer_at if replay.world.program.timed else None
    return entry(unit, Kind.EVENT, event=EVENT, ready_at=ready_at)


def undo_of(replay: Replay, unit: str) -> str:
    return f"undo {unit}" if unit in replay.world.program.undos else ""


def error_of(replay: Replay) -> ErrorRecord:
    """Of the run too: its body catches nothing."""
    key = entry(replay.world.program.may_fail).key
    return ErrorRecord(type="ValueError", message="broken", uncaught=(key,))


def _series(replay: Replay, step: Step, unit: str) -> int:
    is_retried = unit == replay.world.program.may_fail
    return step.before.journal.count(SUPERSEDED) if is_retried else 0


# --- what is answered


def begins(step: Step) -> str:
    """Of a run that is paused or cancelled nothing begins."""
    return "stopped" if step.before.status in (PAUSED, CANCELLING) else "begun"


NAMES = {
    Suspended: "suspended",
    SignalsMoved: "moved",
    StaysPaused: "stays paused",
    Failing: "failing",
    Finished: "finished",
    type(None): "released",
}


def holds(replay: Replay, step: Step, h: Handler) -> bool:
    return row.holds(replay.world, step.before, h)


def commit(
    replay: Replay, step: Step, h: Handler, transition: Commit, wanted: str = "committed"
) -> str:
    """``wanted`` is what is answered to a holder that has not lost the run."""
    answer: Any
    try:
        answer = replay.journal.commit(transition)
    except Fenced as refused:
        answer = refused
    found = _kind(answer)
    replay.check(found, wanted if holds(replay, step, h) else "fenced")
    if isinstance(answer, Committed):
        _check_told(replay, step, answer)
    return found


def _kind(answer: Any) -> str:
    if isinstance(answer, Fenced):
        return "stopped" if isinstance(answer, Stopped) else "fenced"
    if isinstance(answer, NotYet):
        return "not yet"
    return "committed" if answer.entry.is_outcome else "begun"


def _check_told(replay: Replay, step: Step, answer: Committed) -> None:
    """What a commit tells besides its outcome: its number, a pause, a cancel, the mailbox."""
    after = step.after
    seq = len(after.journal) if answer.entry.is_outcome else None
    wanted = (seq, after.status, after.signals)
    replay.check((answer.entry.seq, STATUSES[answer.status], answer.signals), wanted)


def end(replay: Replay, step: Step, h: Handler, apply: Callable[[], Any], wanted: Any) -> str:
    """Of a holding: ``wanted`` is answered unless the run is lost."""
    try:
        answer = apply()
    except Fenced:
        replay.check("fenced", "held" if holds(replay, step, h) else "fenced")
        return "fenced"
    replay.check((answer, holds(replay, step, h)), (wanted, True))
    return NAMES[type(answer)]
