"""A process that ends at a named point leaves the state of before, or of after; no other."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from django_hookflow.core.entries import Kind, RunStatus, StepStatus
from django_hookflow.core.transitions import (
    Atomic,
    Attempted,
    Begin,
    Cancel,
    Claim,
    Collect,
    Fail,
    Fence,
    Finish,
    Fire,
    Fork,
    Invoke,
    Pause,
    Rearm,
    Receive,
    Record,
    Release,
    Resume,
    Retry,
    SendEvent,
    Signal,
    Suspend,
    Trigger,
)
from django_hookflow.journals.base import CRASH_POINTS
from tests.journals.bench import (
    LEASE,
    SECOND,
    START,
    Bench,
    Crash,
    MemoryBench,
    OrmBench,
    entry,
    outcome,
    sleep,
)
from tests.journals.test_commit import LATE

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

TRANSITIONS = list(dict.fromkeys(point.partition(":")[0] for point in CRASH_POINTS))
PREPARED = UUID("01890000-0000-7000-8000-000000000001")
CHILD = UUID("01890000-0000-7000-8000-000000000002")


def prepare(bench: Bench, name: str) -> tuple[UUID, Callable[[], Any]]:
    """A run, and the one transition that is to be interrupted."""
    journal = bench.journal
    if name == "trigger":
        facts = {"workflow_id": "w", "version": "", "seed": 1, "data": "1"}
        return PREPARED, lambda: journal.trigger(Trigger(id=PREPARED, run_id="r", **facts))
    if name in {"claim", "published", "rearm", "nudge"}:
        id = bench.start()
        calls: dict[str, Callable[[], Any]] = {
            "claim": lambda: journal.claim(Claim(id=id, wake=1, lease=LEASE)),
            "published": lambda: journal.published(id, 1),
            "rearm": lambda: journal.rearm(Rearm(id=id, wake=1)),
            "nudge": lambda: journal.nudge(overdue=SECOND, limit=5),
        }
        if name == "nudge":
            journal.published(id, 1)
            bench.pass_time(hours=1)
        return id, calls[name]
    if name == "fork":
        id, fence = bench.held()
        bench.record(fence, "a")
        fork = Fork(source=id, id=PREPARED, run_id="r", from_step="a")
        return PREPARED, lambda: journal.fork(fork)
    if name in {"signal", "event"}:
        id = bench.suspended("event:paid")
        send = SendEvent(id=id, name="paid", payload="1")
        signal = Signal(id=id, wait="event:paid")
        return id, lambda: journal.send_event(send) if name == "event" else journal.signal(signal)
    id, fence = bench.held()
    if name == "receive":
        bench.send(id, "1")
    wait = entry("a", Kind.EVENT, event="paid")
    if name == "collect":
        journal.commit(invoke(id, fence))
        journal.cancel(Cancel(id=CHILD))
    if name == "retry":
        bench.record(fence, "a", status=StepStatus.FAILED, value=None, error=LATE)
        error = replace(LATE, uncaught=("a#1",))
        journal.finish(Finish(fence=fence, status=RunStatus.FAILED, error=error))
    if name == "resume":
        journal.pause(Pause(id=id))
    parts: dict[str, tuple[Callable[[Any], Any], Any]] = {
        "record": (journal.commit, Record(fence=fence, entry=outcome("a"))),
        "attempted": (
            journal.commit,
            Attempted(fence=fence, entry=entry("a", attempt=1), retry_in=SECOND),
        ),
        "atomic": (
            journal.commit,
            Atomic(fence=fence, entry=outcome("a", Kind.ATOMIC), work=lambda: "1"),
        ),
        "fire": (journal.commit, Fire(fence=fence, entry=sleep("a", START))),
        "begin": (journal.commit, Begin(fence=fence, entry=entry("a", undo="u"))),
        "invoke": (journal.commit, invoke(id, fence)),
        "collect": (journal.commit, Collect(fence=fence, entry=entry("c", Kind.CHILD))),
        "fail": (journal.fail, Fail(fence=fence, error=LATE)),
        "receive": (journal.commit, Receive(fence=fence, entry=wait, timeout_error=LATE)),
        "suspend": (
            journal.suspend,
            Suspend(fence=fence, seen=0, due=SECOND, pending=(sleep("a", START),)),
        ),
        "release": (journal.release, Release(fence=fence)),
        "finish": (
            journal.finish,
            Finish(fence=fence, status=RunStatus.COMPLETED, result="1"),
        ),
        "cancel": (journal.cancel, Cancel(id=id)),
        "pause": (journal.pause, Pause(id=id)),
        "resume": (journal.resume, Resume(id=id)),
        "retry": (journal.retry, Retry(id=id)),
    }
    apply, transition = parts[name]
    return id, lambda: apply(transition)


def invoke(parent: UUID, fence: Fence) -> Invoke:
    facts = {"workflow_id": "w", "version": "", "seed": 1, "data": "1", "depth": 1}
    child = Trigger(id=CHILD, run_id="child", parent=parent, parent_step="c#1", **facts)
    return Invoke(fence=fence, entry=entry("c", Kind.CHILD), child=child, conflict=LATE)


def state(bench: Bench, id: UUID) -> Any:
    return None if bench.journal.look(id) is None else bench.everything(id)


@pytest.mark.parametrize("name", TRANSITIONS)
def test_crash_leaves_before_or_after(bench: Bench, name: str) -> None:
    id, call = prepare(bench, name)
    before = state(bench, id)
    for place in ("before", "inside"):
        bench.crash_at = f"{name}:{place}"
        with pytest.raises(Crash):
            call()
        assert state(bench, id) == before, place
    # The next process does the same once more, and dies right after.
    bench.crash_at = f"{name}:after"
    bench.points.clear()
    with pytest.raises(Crash):
        call()
    assert bench.points == [f"{name}:{place}" for place in ("before", "inside", "after")]
    bench.crash_at = ""
    assert state(bench, id) != before


@pytest.mark.parametrize("name", TRANSITIONS)
def test_every_transition_leaves_the_rows_that_its_twin_leaves(orm: OrmBench, name: str) -> None:
    """MariaDB evaluates a SET list from left to right; no column may notice."""

    def rows_after(bench: Bench) -> Any:
        id, call = prepare(bench, name)
        call()
        run, steps, mail = bench.everything(id)
        return replace(run, id=PREPARED, run_id="r"), steps, mail

    assert rows_after(orm) == rows_after(MemoryBench())


def test_crash_in_the_end_of_a_child_leaves_the_parent_alone(bench: Bench) -> None:
    parent = bench.suspended("step:c#1")
    child, fence = bench.held()
    before = bench.everything(parent), bench.everything(child)
    finish = Finish(fence=fence, status=RunStatus.COMPLETED, parent=parent)
    bench.crash_at = "finish:inside"
    with pytest.raises(Crash):
        bench.journal.finish(finish)
    assert (bench.everything(parent), bench.everything(child)) == before
    bench.crash_at = "finish:after"
    with pytest.raises(Crash):
        bench.journal.finish(finish)
    assert bench.run(parent).signals == 1
    assert bench.run(child).status is RunStatus.COMPLETED
