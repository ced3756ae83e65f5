"""Children, what follows a failure, and cancelling with something to undo."""

import uuid
from dataclasses import replace
from typing import Any

import pytest

from django_hookflow.core.entries import Entry, ErrorRecord, Kind, RunStatus, StepStatus
from django_hookflow.core.transitions import (
    Atomic,
    Begin,
    Cancel,
    Cancelled,
    Claim,
    Claimed,
    Collect,
    Committed,
    Compensated,
    Fail,
    Failing,
    Fence,
    Fenced,
    Finish,
    Finished,
    Fire,
    Invoke,
    NotYet,
    Over,
    Retried,
    Retry,
    SignalsMoved,
    StaysPaused,
    Stopped,
    Suspend,
    Suspended,
    Trigger,
)
from tests.journals.bench import LEASE, SECOND, START, Bench, entry, outcome, sleep
from tests.journals.test_commit import LATE

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

CONFLICT = ErrorRecord(type="RunConflict", message="taken", step="c", raises="ChildFailed")
WAIT = entry("c", Kind.CHILD, call="w")


def child_of(parent: uuid.UUID, *, key: str = "c#1", run_id: str = "", data: str = "1") -> Trigger:
    id = uuid.uuid4()
    return Trigger(
        id=id, run_id=run_id or str(id), workflow_id="w", version="", seed=1, data=data,
        parent=parent, parent_step=key, depth=1,
    )  # fmt: skip


def invoke(bench: Bench, fence: Fence, child: Trigger, wait: Entry = WAIT) -> Committed:
    answer = bench.journal.commit(Invoke(fence=fence, entry=wait, child=child, conflict=CONFLICT))
    assert isinstance(answer, Committed)
    return answer


def family(bench: Bench) -> tuple[uuid.UUID, Fence, uuid.UUID]:
    """A held run, and the child that it has invoked."""
    parent, fence = bench.held()
    child = child_of(parent)
    invoke(bench, fence, child)
    return parent, fence, child.id


def claimed(bench: Bench, id: uuid.UUID) -> Fence:
    answer = bench.journal.claim(Claim(id=id, wake=bench.run(id).wake_n, lease=LEASE))
    assert isinstance(answer, Claimed)
    return Fence(id=id, epoch=answer.run.epoch, lease=LEASE)


def finished(bench: Bench, child: uuid.UUID, **ending: Any) -> None:
    fence, run = claimed(bench, child), bench.run(child)
    how = {"status": RunStatus.COMPLETED, "result": '"r"', **ending}
    finish = Finish(fence=fence, parent=run.parent, parent_step=run.parent_step, **how)
    assert bench.journal.finish(finish) == Finished()


# --- children


def test_a_child_and_the_wait_for_it_are_written_together(bench: Bench) -> None:
    parent, fence = bench.held()
    child = child_of(parent)
    answer = invoke(bench, fence, child)
    assert (answer.entry.status, answer.entry.child) == (StepStatus.PENDING, child.id)
    [step] = bench.steps(parent)
    assert (step.key, step.kind, step.status, step.child, step.started_at) == (
        "c#1", Kind.CHILD, StepStatus.PENDING, child.id, bench.time,
    )  # fmt: skip
    run = bench.run(child.id)
    assert (run.parent, run.parent_step, run.depth) == (parent, "c#1", 1)
    assert (run.status, run.wake_n, run.owed_at) == (RunStatus.PENDING, 1, bench.time)


def test_a_wait_that_was_asked_for_earlier_has_begun_then(bench: Bench) -> None:
    parent, fence = bench.held()
    bench.pass_time(seconds=5)
    asked = replace(WAIT, started_at=START + SECOND)
    assert invoke(bench, fence, child_of(parent), asked).entry.started_at == START + SECOND


def test_a_fenced_holder_starts_no_child(bench: Bench) -> None:
    parent, fence = bench.held()
    child = child_of(parent)
    with pytest.raises(Fenced):
        invoke(bench, replace(fence, epoch=fence.epoch - 1), child)
    assert bench.journal.look(child.id) is None
    assert bench.steps(parent) == ()


def test_a_name_that_is_taken_is_the_steps_failure(bench: Bench) -> None:
    bench.start("taken")
    parent, fence = bench.held()
    bench.alter(parent, deaths=4)
    answer = invoke(bench, fence, child_of(parent, run_id="taken"))
    assert (answer.entry.status, answer.entry.error, answer.entry.seq) == (
        StepStatus.FAILED, CONFLICT, 1,
    )  # fmt: skip
    assert (bench.run(parent).seq, bench.run(parent).deaths) == (1, 0)
    assert bench.steps(parent) == (answer.entry,)


@pytest.mark.parametrize("whose", ["nobody's", "another run's", "another step's"])
def test_a_run_that_this_step_has_not_started_is_not_its_child(bench: Bench, whose: str) -> None:
    """Though it is of the same workflow, with the same data."""
    parent, fence = bench.held()
    there = child_of(parent, run_id="taken")
    if whose == "nobody's":
        there = replace(there, parent=None, parent_step="")
    elif whose == "another run's":
        there = replace(there, parent=bench.start())
    else:
        there = replace(there, parent_step="d#1")
    bench.journal.trigger(there)
    answer = invoke(bench, fence, child_of(parent, run_id="taken"))
    assert (answer.entry.status, answer.entry.error, answer.entry.child) == (
        StepStatus.FAILED, CONFLICT, None,
    )  # fmt: skip
    assert bench.steps(parent) == (answer.entry,)


def test_a_step_whose_row_is_there_has_started_its_child(bench: Bench) -> None:
    parent, fence = bench.held()
    child = child_of(parent)
    first = invoke(bench, fence, child)
    bench.pass_time(seconds=1)
    # By whatever id it asks for the child: each attempt makes up one.
    assert invoke(bench, fence, replace(child, id=uuid.uuid4())).entry == first.entry
    assert bench.steps(parent) == (first.entry,)
    assert bench.run(parent).signals == 0


def test_what_this_step_has_started_before_is_its_child(bench: Bench) -> None:
    """As after a retry, for a child with a name; it may be over, so the parent has to look."""
    parent, fence, child = family(bench)
    name = bench.run(child).run_id
    bench.supersede(parent)
    again = replace(WAIT, series=1)
    same = child_of(parent, run_id=name)
    answer = invoke(bench, fence, same, again)
    assert answer.entry.child == child
    assert (answer.signals, bench.run(parent).signals) == (1, 1)
    assert bench.journal.look(same.id) is None


def test_a_childs_result_is_collected_once_it_is_there(bench: Bench) -> None:
    parent, fence, child = family(bench)
    collect = Collect(fence=fence, entry=WAIT)
    assert bench.journal.commit(collect) == NotYet(now=bench.time)
    assert bench.run(parent).seq == 0
    finished(bench, child)
    assert bench.run(parent).signals == 1
    answer = bench.journal.commit(collect)
    assert isinstance(answer, Committed)
    assert (answer.entry.status, answer.entry.value, answer.entry.child) == (
        StepStatus.COMPLETED, '"r"', child,
    )  # fmt: skip
    with pytest.raises(Fenced):
        bench.journal.commit(collect)


def test_how_to_undo_a_child_was_written_before_it_began(bench: Bench) -> None:
    """So that it is what the row says, and not what is asked for when the child has ended."""
    parent, fence = bench.held()
    child = child_of(parent)
    invoke(bench, fence, child, replace(WAIT, undo="u"))
    finished(bench, child.id)
    answer = bench.journal.commit(Collect(fence=fence, entry=WAIT))
    assert isinstance(answer, Committed)
    assert (answer.entry.status, answer.entry.undo) == (StepStatus.COMPLETED, "u")
    assert bench.steps(parent) == (answer.entry,)


@pytest.mark.parametrize("how", ["failed", "cancelled", "pruned"])
def test_a_child_that_comes_to_nothing_fails_the_step(bench: Bench, how: str) -> None:
    _, fence, child = family(bench)
    if how == "failed":
        error = ErrorRecord(type="a.Oops", message="no", classes=("a.Oops",))
        finished(bench, child, status=RunStatus.FAILED, result=None, error=error)
    elif how == "cancelled":
        assert bench.journal.cancel(Cancel(id=child)) == Cancelled()
    else:
        bench.remove(child)
    answer = bench.journal.commit(Collect(fence=fence, entry=WAIT))
    assert isinstance(answer, Committed)
    found = answer.entry.error
    assert found is not None
    assert (answer.entry.status, found.raises, found.step) == (
        StepStatus.FAILED, "ChildFailed", "c",
    )  # fmt: skip
    said = {"failed": "no", "cancelled": "was cancelled", "pruned": "not there any more"}[how]
    assert found.message.endswith(said)
    assert ("a.Oops" in found.classes) == (how == "failed")


def test_the_end_of_a_child_wakes_its_parent(bench: Bench) -> None:
    for end in ("finish", "cancel"):
        parent, fence, child = family(bench)
        suspend = Suspend(fence=fence, seen=0, due=None, waits=("step:c#1",))
        assert bench.journal.suspend(suspend) == Suspended(owed=False)
        bench.pass_time(seconds=1)
        if end == "finish":
            finished(bench, child)
        else:
            bench.journal.cancel(Cancel(id=child))
        run = bench.run(parent)
        assert (run.signals, run.owed_at, run.due_at) == (1, bench.time, bench.time)


def test_a_cancel_that_does_not_end_a_child_tells_its_parent_nothing(bench: Bench) -> None:
    parent, _, child = family(bench)
    fence = claimed(bench, child)
    bench.record(fence, "a", undo="u")
    before = bench.everything(parent)
    for _ in range(2):
        assert isinstance(bench.journal.cancel(Cancel(id=child)), Cancelled)
        assert bench.run(child).status is RunStatus.CANCELLING
        assert bench.everything(parent) == before
    bench.journal.cancel(Cancel(id=child, compensate=False))
    told = bench.run(parent).signals
    assert told == 1
    assert bench.journal.cancel(Cancel(id=child)) == Over(status=RunStatus.CANCELLED)
    assert bench.run(parent).signals == told


@pytest.mark.parametrize("end", ["cancelled", "finished", "cancelling"])
def test_children_of_a_parent_that_is_over_are_orphans(bench: Bench, end: str) -> None:
    parent, fence, child = family(bench)
    assert bench.journal.orphans(limit=9) == []
    if end == "finished":
        bench.journal.finish(Finish(fence=fence, status=RunStatus.COMPLETED, result="1"))
    else:
        if end == "cancelling":
            bench.record(fence, "a", undo="u")
        bench.journal.cancel(Cancel(id=parent))
    assert list(bench.journal.orphans(limit=9)) == [child]
    assert list(bench.journal.orphans(limit=9, of=[parent])) == [child]
    assert list(bench.journal.orphans(limit=9, of=[child])) == []
    bench.alter(child, status=RunStatus.PAUSED)
    assert list(bench.journal.orphans(limit=9)) == [child]
    bench.journal.cancel(Cancel(id=child))
    assert bench.journal.orphans(limit=9) == []


def test_a_child_that_is_being_undone_needs_no_second_cancel(bench: Bench) -> None:
    parent, _, child = family(bench)
    bench.record(claimed(bench, child), "a", undo="u")
    bench.journal.cancel(Cancel(id=child))
    bench.journal.cancel(Cancel(id=parent))
    assert bench.run(child).status is RunStatus.CANCELLING
    assert list(bench.journal.orphans(limit=9)) == []


def test_children_of_a_failed_parent_are_left_to_its_retry(bench: Bench) -> None:
    _, fence, child = family(bench)
    bench.journal.finish(Finish(fence=fence, status=RunStatus.FAILED, error=LATE))
    assert bench.journal.orphans(limit=9) == []
    assert bench.run(child).status is RunStatus.PENDING


def test_a_child_stays_until_its_parent_is_over(bench: Bench) -> None:
    parent, fence, child = family(bench)
    finished(bench, child)
    bench.pass_time(hours=1)
    old = {"older_than": SECOND, "statuses": (RunStatus.COMPLETED,), "limit": 9}
    assert bench.journal.prune(**old) == 0
    bench.journal.finish(Finish(fence=fence, status=RunStatus.COMPLETED, result="1"))
    bench.pass_time(hours=1)
    assert bench.journal.prune(**old) == 2
    assert bench.journal.look(parent) is None


# --- what follows a failure


def test_a_step_with_an_undo_has_a_row_before_it_executes(bench: Bench) -> None:
    id, fence = bench.held()
    begun = bench.journal.commit(Begin(fence=fence, entry=entry("a", undo="u")))
    assert isinstance(begun, Committed)
    [row] = bench.steps(id)
    assert (row.status, row.undo, row.attempt, row.seq) == (StepStatus.PENDING, "u", 0, None)
    bench.record(fence, "a", undo="u")
    [row] = bench.steps(id)
    assert (row.status, row.undo, row.seq) == (StepStatus.COMPLETED, "u", 1)


def test_a_failing_run_keeps_its_error_and_has_no_deadline(bench: Bench) -> None:
    id, fence = bench.held()
    bench.alter(id, deadline=START + 9 * SECOND, blocked="x", deaths=4)
    assert bench.journal.fail(Fail(fence=fence, error=LATE)) == Failing()
    run = bench.run(id)
    assert (run.blocked, run.deaths) == ("", 0), "what follows has its own chances"
    assert run.seq == 0, "no outcome"
    assert (run.status, run.error, run.deadline) == (RunStatus.RUNNING, LATE, None)
    assert (run.lease_until, run.due_at) == (bench.time + LEASE, bench.time + LEASE)
    view = bench.journal.look(id)
    assert view is not None
    assert view.failing
    done = Finish(fence=fence, status=RunStatus.FAILED)
    assert bench.journal.finish(done) == Finished()
    assert bench.run(id).error == LATE


def test_a_paused_or_fenced_run_does_not_begin_to_fail(bench: Bench) -> None:
    id, fence = bench.held()
    with pytest.raises(Fenced):
        bench.journal.fail(Fail(fence=replace(fence, epoch=fence.epoch + 1), error=LATE))
    bench.alter(id, status=RunStatus.PAUSED)
    assert bench.journal.fail(Fail(fence=fence, error=LATE)) == StaysPaused()
    assert (bench.run(id).error, bench.run(id).lease_until) == (None, None)


# --- cancelling


def undoable(bench: Bench, *, held: bool) -> tuple[uuid.UUID, Fence]:
    id, fence = bench.held()
    bench.record(fence, "a", undo="u")
    if not held:
        suspend = Suspend(fence=fence, seen=0, due=None, waits=("event:x",))
        assert isinstance(bench.journal.suspend(suspend), Suspended)
    return id, fence


def test_a_cancelled_run_that_nobody_holds_is_due_at_once(bench: Bench) -> None:
    id, _ = undoable(bench, held=False)
    before = bench.run(id)
    bench.pass_time(seconds=1)
    assert bench.journal.cancel(Cancel(id=id)) == Cancelled(owed=True)
    run = bench.run(id)
    assert run == replace(
        before, status=RunStatus.CANCELLING, signals=1, waits=(), due_at=bench.time,
        wake_n=before.wake_n + 1, owed_at=bench.time,
    )  # fmt: skip
    assert bench.journal.cancel(Cancel(id=id)) == Cancelled(owed=True)
    assert bench.run(id) == run, "a second cancel changes nothing"


def test_a_holder_goes_on_holding_and_records_what_executes(bench: Bench) -> None:
    id, fence = undoable(bench, held=True)
    before = bench.run(id)
    assert bench.journal.cancel(Cancel(id=id)) == Cancelled()
    run = bench.run(id)
    assert run == replace(before, status=RunStatus.CANCELLING, signals=1)
    bench.alter(id, status=RunStatus.RUNNING, owed_at=bench.time)
    assert bench.journal.cancel(Cancel(id=id)) == Cancelled(owed=True), "somebody owed one"
    answer = bench.record(fence, "b", undo="u")
    assert answer.status is RunStatus.CANCELLING
    for begins in (
        Begin(fence=fence, entry=entry("c", undo="u")),
        Atomic(fence=fence, entry=outcome("c", Kind.ATOMIC), work=lambda: "1"),
        Fire(fence=fence, entry=sleep("c", START)),
        Invoke(fence=fence, entry=WAIT, child=child_of(id), conflict=CONFLICT),
        Collect(fence=fence, entry=WAIT),
    ):
        with pytest.raises(Stopped):
            bench.journal.commit(begins)
    assert [step.key for step in bench.steps(id)] == ["a#1", "b#1"]


@pytest.mark.parametrize("end", ["finish", "fail", "suspend"])
def test_a_holder_is_told_at_the_end_of_its_delivery(bench: Bench, end: str) -> None:
    id, fence = undoable(bench, held=True)
    bench.journal.cancel(Cancel(id=id))
    told = SignalsMoved(seen=1, cancelling=True)
    if end == "finish":
        finish = Finish(fence=fence, status=RunStatus.COMPLETED, result="1")
        assert bench.journal.finish(finish) == told
    elif end == "fail":
        assert bench.journal.fail(Fail(fence=fence, error=LATE)) == told
    else:
        assert bench.journal.suspend(Suspend(fence=fence, seen=0, due=SECOND)) == told
    assert bench.run(id).status is RunStatus.CANCELLING
    suspend = Suspend(fence=fence, seen=1, due=0 * SECOND)
    assert bench.journal.suspend(suspend) == Suspended(owed=True)
    run = bench.run(id)
    assert (run.status, run.due_at, run.lease_until) == (RunStatus.CANCELLING, bench.time, None)
    fence = claimed(bench, id)
    assert bench.run(id).status is RunStatus.CANCELLING
    bench.record(fence, "undo a", kind=Kind.UNDO)
    cancelled = Finish(fence=fence, status=RunStatus.CANCELLED)
    assert bench.journal.finish(cancelled) == Finished()
    assert bench.run(id).status is RunStatus.CANCELLED
    assert bench.journal.cancel(Cancel(id=id)) == Over(status=RunStatus.CANCELLED)


def test_without_compensation_it_ends_at_once_even_if_it_is_cancelling(bench: Bench) -> None:
    id, fence = undoable(bench, held=True)
    bench.journal.cancel(Cancel(id=id))
    assert bench.journal.cancel(Cancel(id=id, compensate=False)) == Cancelled()
    run = bench.run(id)
    assert (run.status, run.due_at, run.owed_at) == (RunStatus.CANCELLED, None, None)
    with pytest.raises(Fenced):
        bench.record(fence, "b")


@pytest.mark.parametrize("held", [True, False])
def test_what_hindered_the_body_does_not_hinder_its_undoing(bench: Bench, *, held: bool) -> None:
    id, _ = undoable(bench, held=held)
    bench.alter(id, deadline=START, blocked="expected a", blocked_n=3, deaths=4)
    bench.journal.cancel(Cancel(id=id))
    run = bench.run(id)
    assert (run.status, run.deadline) == (RunStatus.CANCELLING, None)
    assert (run.blocked, run.blocked_n, run.deaths) == ("", 0, 0)


def test_undos_of_an_earlier_pass_do_not_count(bench: Bench) -> None:
    id, _ = undoable(bench, held=True)
    bench.alter(id, generation=1)
    assert bench.journal.cancel(Cancel(id=id)) == Cancelled()
    assert bench.run(id).status is RunStatus.CANCELLED


def test_undos_that_were_superseded_do_not_count(bench: Bench) -> None:
    id, _ = undoable(bench, held=True)
    bench.supersede(id)
    assert bench.journal.cancel(Cancel(id=id)) == Cancelled()
    assert bench.run(id).status is RunStatus.CANCELLED


def test_a_failed_run_is_retried_unless_it_was_undone(bench: Bench) -> None:
    id, fence = bench.held()
    bench.record(fence, "f", kind=Kind.ON_FAILURE)
    bench.journal.finish(Finish(fence=fence, status=RunStatus.FAILED, error=LATE))
    assert bench.journal.retry(Retry(id=id)) == Retried()
    fence = claimed(bench, id)
    bench.record(fence, "undo a", kind=Kind.UNDO)
    bench.journal.finish(Finish(fence=fence, status=RunStatus.FAILED, error=LATE))
    before = bench.everything(id)
    assert bench.journal.retry(Retry(id=id)) == Compensated()
    assert bench.everything(id) == before
