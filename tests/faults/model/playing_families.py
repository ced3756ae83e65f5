"""What touches a parent and its child, on a real journal; beside ``playing``.

What the child does itself is played as any other run's.
"""

import uuid

from django_hookflow.core.entries import Entry, ErrorRecord, Kind
from django_hookflow.core.transitions import Collect, Invoke, Trigger
from django_hookflow.engine.publishing import cancel_orphans
from tests.faults.model.conformance import Replay
from tests.faults.model.family import has_child
from tests.faults.model.playing_entries import CHILD_KEY, Player, begins, commit
from tests.faults.model.programs import CHILD
from tests.faults.model.state import Handler
from tests.faults.model.walks import Step
from tests.journals.bench import entry

TAKEN = ErrorRecord(type="RunConflict", message="taken", raises="ChildFailed")


def _starts_child(replay: Replay, step: Step, h: Handler) -> str:
    id = uuid.uuid4()
    child = Trigger(
        id=id,
        run_id=str(id),
        workflow_id="w",
        version="",
        seed=7,
        data="1",
        parent=replay.id,
        parent_step=CHILD_KEY,
        depth=1,
    )
    invoke = Invoke(fence=replay.fence(h), entry=_wait(), child=child, conflict=TAKEN)
    answer = commit(replay, step, h, invoke, begins(step))
    replay.check(replay.journal.look(id) is not None, has_child(step.after))
    assert replay.child is not None
    if has_child(step.after):  # not where a pause or a cancel came before
        replay.child.id = id
    return answer


def _wait() -> Entry:
    return entry(CHILD, Kind.CHILD)


def collect(replay: Replay, h: Handler) -> Collect:
    return Collect(fence=replay.fence(h), entry=_wait())


def _finds_no_result(replay: Replay, step: Step, h: Handler) -> str:
    """The model's holder does not learn by this that it has lost the run: it learns later."""
    return commit(replay, step, h, collect(replay, h), "not yet")


def _sweeps_child(replay: Replay, step: Step) -> str:
    assert replay.child is not None
    orphans = replay.journal.orphans(limit=500)
    replay.check(replay.child.id in orphans, True)
    cancel_orphans(replay.journal, orphans)
    return ""


PLAYERS: dict[str, Player] = {
    "starts the child": _starts_child,
    "finds no result": _finds_no_result,
    "sweeps the child": _sweeps_child,
}
