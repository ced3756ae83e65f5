"""What users do to a run from outside, on a real journal; beside ``playing``."""

from django_hookflow.core.admission import Ended
from django_hookflow.core.transitions import (
    Cancel,
    Cancelled,
    Pause,
    Paused,
    Resume,
    Resumed,
    Retried,
    Retry,
)
from django_hookflow.engine.publishing import cancel_orphans
from tests.faults.model.conformance import Replay
from tests.faults.model.playing import finds
from tests.faults.model.playing_entries import Player
from tests.faults.model.state import CANCELLING, FREE, HELD, PAUSED
from tests.faults.model.walks import Step


def _pauses(replay: Replay, step: Step) -> str:
    replay.check(replay.journal.pause(Pause(id=replay.id)), Paused())
    return _of(step)


def _resumes(replay: Replay, step: Step) -> str:
    replay.check(replay.journal.resume(Resume(id=replay.id)), Resumed())
    return _of(step)


def _retries(replay: Replay, step: Step) -> str:
    replay.check(replay.journal.retry(Retry(id=replay.id)), Retried())
    return ""


def _cancels(replay: Replay, step: Step, leaves: str = "") -> str:
    """Its children follow once the cancel is committed, as ``WorkflowRun.cancel`` does it."""
    _before, after = step.before, step.after
    answer = replay.journal.cancel(Cancel(id=replay.id))
    replay.check(type(answer), Cancelled)
    replay.check(answer.owed, after.owed)
    if replay.child is not None and not leaves:
        children = replay.journal.orphans(limit=500, of=[replay.id])
        cancel_orphans(replay.journal, children)
    return ("winds up, " if after.status == CANCELLING else "ends, ") + _of(step)


def _cancels_at_once(replay: Replay, step: Step) -> str:
    cancel = Cancel(id=replay.id, compensate=False)
    replay.check(replay.journal.cancel(cancel), Cancelled())
    return _of(step)


def _of(step: Step) -> str:
    """What kind of a run it was done to."""
    before = step.before
    held = {FREE: "free", HELD: "held"}.get(before.lease, "left")
    return f"paused {held}" if before.status == PAUSED else held


def _finds_paused(replay: Replay, step: Step, wake: int) -> str:
    replay.check(finds(replay, wake, Ended).paused, True)
    return _of(step)


PLAYERS: dict[str, Player] = {
    "finds it paused": _finds_paused,
    "pauses": _pauses,
    "resumes": _resumes,
    "retries": _retries,
    "cancels": _cancels,
    "cancels at once": _cancels_at_once,
}
