"""RETRY, the same for every journal."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from django_hookflow.core.entries import ErrorRecord, Kind, RunStatus, StepStatus
from django_hookflow.core.transitions import (
    Cancel,
    Claim,
    Claimed,
    Collect,
    Fence,
    Finish,
    NotFailed,
    Record,
    Replaced,
    Retried,
    Retry,
    Suspend,
)
from tests.journals.bench import LEASE, Bench, outcome, sleep
from tests.journals.test_children_and_undo import WAIT, family, finished

pytestmark = pytest.mark.django_db(databases="__all__")


def failed(bench: Bench, *uncaught: str, steps: tuple[str, ...] = ("a", "b")):
    """A run that failed after failures of ``steps``."""
    id, fence = bench.held()
    for step_id in steps:
        bench.record(fence, step_id, status=StepStatus.FAILED, value=None, error=error())
    bench.record(fence, "fine")
    finish = Finish(fence=fence, status=RunStatus.FAILED, error=error(uncaught=uncaught))
    bench.journal.finish(finish)
    return id, fence


def error(**facts) -> ErrorRecord:
    return ErrorRecord(type="ValueError", message="no", step="a", **facts)


def test_a_failed_run_is_due_now_under_a_new_epoch_and_wake(bench: Bench) -> None:
    id, _ = failed(bench)
    bench.alter(id, deaths=3)
    before = bench.run(id)
    bench.pass_time(seconds=5)
    assert bench.journal.retry(Retry(id=id)) == Retried()
    assert bench.run(id) == replace(
        before,
        status=RunStatus.SUSPENDED,
        epoch=before.epoch + 1,
        signals=before.signals + 1,  # a child may have ended while the run was over
        deaths=0,
        due_at=bench.time,
        wake_n=before.wake_n + 1,
        owed_at=bench.time,
        error=None,
        finished_at=None,
    )


@pytest.mark.parametrize("end", ["failed", "cancelled", "completed", "going on"])
def test_a_child_that_came_to_nothing_meanwhile_is_not_waited_for(bench: Bench, end: str) -> None:
    parent, fence, child = family(bench)
    bench.journal.finish(Finish(fence=fence, status=RunStatus.FAILED, error=error()))
    if end == "cancelled":
        bench.journal.cancel(Cancel(id=child))
    elif end != "going on":
        facts = {"error": error()} if end == "failed" else {}
        finished(bench, child, status=RunStatus(end), **facts)
    assert bench.journal.retry(Retry(id=parent)) == Retried()
    claimed = bench.claim(parent, wake=bench.run(parent).wake_n)
    if end in ("failed", "cancelled"):
        assert (claimed.entries, claimed.series) == ((), {"c#1": 1})
    else:
        assert [entry.child for entry in claimed.entries] == [child]


def failed_by_its_child(bench: Bench):
    """Parent and child, both failed; the parent by the child."""
    parent, fence, child = family(bench)
    finished(bench, child, status=RunStatus.FAILED, result=None, error=error())
    bench.journal.commit(Collect(fence=fence, entry=WAIT))
    bench.record(fence, "fine")
    finish = Finish(fence=fence, status=RunStatus.FAILED, error=error(uncaught=("c#1",)))
    bench.journal.finish(finish)
    return parent, child


def test_a_child_s_failure_that_the_body_caught_stays(bench: Bench) -> None:
    parent, _ = failed_by_its_child(bench)
    bench.alter(parent, error=error(uncaught=()))
    bench.journal.retry(Retry(id=parent))
    claimed = bench.claim(parent, wake=bench.run(parent).wake_n)
    assert [(entry.key, entry.is_failed) for entry in claimed.entries] == [
        ("c#1", True), ("fine#1", False),
    ]  # fmt: skip


def test_what_waits_for_a_time_goes_on_waiting(bench: Bench) -> None:
    id, fence = bench.held()
    nap = sleep("nap", bench.time + timedelta(hours=1))
    bench.journal.suspend(Suspend(fence=fence, seen=0, due=timedelta(0), pending=(nap,)))
    fence = replace(fence, epoch=bench.claim(id, wake=2).run.epoch)
    bench.journal.finish(Finish(fence=fence, status=RunStatus.FAILED, error=error()))
    bench.journal.retry(Retry(id=id))
    claimed = bench.claim(id, wake=bench.run(id).wake_n)
    assert [(entry.key, entry.is_outcome) for entry in claimed.entries] == [("nap#1", False)]


def test_a_child_whose_parent_knows_no_step_of_it_is_re_opened(bench: Bench) -> None:
    parent, child = failed_by_its_child(bench)
    other, _ = bench.held()
    bench.alter(child, parent=other)
    assert bench.journal.retry(Retry(id=child)) == Retried()
    assert bench.run(parent).status is RunStatus.FAILED


def test_a_child_that_fails_again_is_re_opened_again(bench: Bench) -> None:
    parent, child = failed_by_its_child(bench)
    bench.journal.retry(Retry(id=child))
    bench.journal.retry(Retry(id=parent))
    finished(bench, child, status=RunStatus.FAILED, result=None, error=error())
    assert bench.journal.retry(Retry(id=child)) == Retried()


@pytest.mark.parametrize("ends", [False, True])
def test_a_child_that_was_re_opened_first_is_waited_for_again(bench: Bench, ends: bool) -> None:
    parent, child = failed_by_its_child(bench)
    assert bench.journal.retry(Retry(id=child)) == Retried()
    if ends:
        finished(bench, child)
    assert bench.journal.retry(Retry(id=parent)) == Retried()
    claimed = bench.claim(parent, wake=bench.run(parent).wake_n)
    wait = claimed.entries[-1]
    assert (wait.child, wait.series, wait.is_outcome) == (child, 1, False)
    if not ends:
        finished(bench, child)
    fence = Fence(id=parent, epoch=claimed.run.epoch, lease=LEASE)
    done = bench.journal.commit(Collect(fence=fence, entry=replace(WAIT, series=1))).entry
    assert (done.status, done.value, done.seq) == (StepStatus.COMPLETED, '"r"', 3)


def test_a_child_that_was_re_opened_for_this_is_waited_for_though_it_failed_again(
    bench: Bench,
) -> None:
    parent, child = failed_by_its_child(bench)
    bench.journal.retry(Retry(id=child))
    finished(bench, child, status=RunStatus.FAILED, result=None, error=error())
    assert bench.journal.retry(Retry(id=parent, going_on=(child,))) == Retried()
    claimed = bench.claim(parent, wake=bench.run(parent).wake_n)
    assert [(entry.key, entry.child) for entry in claimed.entries if not entry.is_outcome] == [
        ("c#1", child)
    ]
    fence = Fence(id=parent, epoch=claimed.run.epoch, lease=LEASE)
    done = bench.journal.commit(Collect(fence=fence, entry=replace(WAIT, series=1))).entry
    assert (done.status, done.child) == (StepStatus.FAILED, child)


def test_so_is_one_that_was_at_work_when_its_parent_failed(bench: Bench) -> None:
    parent, fence, child = family(bench)
    bench.journal.finish(Finish(fence=fence, status=RunStatus.FAILED, error=error()))
    finished(bench, child, status=RunStatus.FAILED, result=None, error=error())
    bench.journal.retry(Retry(id=parent, going_on=(child,)))
    claimed = bench.claim(parent, wake=bench.run(parent).wake_n)
    assert [(entry.child, entry.series) for entry in claimed.entries] == [(child, 0)]


def test_in_the_place_of_a_child_that_was_pruned_there_is_another(bench: Bench) -> None:
    parent, fence, child = family(bench)
    finished(bench, child, status=RunStatus.FAILED, result=None, error=error())
    bench.journal.commit(Collect(fence=fence, entry=WAIT))
    bench.pass_time(seconds=9)
    finish = Finish(fence=fence, status=RunStatus.FAILED, error=error(uncaught=("c#1",)))
    bench.journal.finish(finish)
    bench.journal.prune(older_than=timedelta(seconds=5), statuses=(RunStatus.FAILED,), limit=9)
    assert bench.journal.look(child) is None
    bench.journal.retry(Retry(id=parent))
    claimed = bench.claim(parent, wake=bench.run(parent).wake_n)
    assert (claimed.entries, claimed.series) == ((), {"c#1": 1})


def test_a_child_in_whose_place_there_is_another_is_not_re_opened(bench: Bench) -> None:
    parent, child = failed_by_its_child(bench)
    assert bench.journal.retry(Retry(id=parent)) == Retried()
    claimed = bench.claim(parent, wake=bench.run(parent).wake_n)
    assert ([entry.key for entry in claimed.entries], claimed.series) == (["fine#1"], {"c#1": 1})
    before = bench.everything(child)
    assert bench.journal.retry(Retry(id=child)) == Replaced()
    assert bench.everything(child) == before
    bench.alter(child, status=RunStatus.COMPLETED)
    assert bench.journal.retry(Retry(id=child)) == NotFailed(status=RunStatus.COMPLETED)


def test_its_time_begins_anew(bench: Bench) -> None:
    id, _ = failed(bench)
    bench.alter(id, deadline=bench.time)
    bench.journal.retry(Retry(id=id, timeout=timedelta(hours=1)))
    assert bench.run(id).deadline == bench.time + timedelta(hours=1)


def test_what_was_not_caught_is_superseded_and_goes_on_in_the_next_series(bench: Bench) -> None:
    id, _ = failed(bench, "a#1")
    rows = bench.steps(id)
    bench.journal.retry(Retry(id=id))
    assert bench.steps(id) == rows
    claimed = bench.claim(id, wake=2)
    assert [entry.key for entry in claimed.entries] == ["b#1", "fine#1"]
    assert claimed.series == {"a#1": 1}
    fence = Fence(id=id, epoch=claimed.run.epoch, lease=LEASE)
    bench.record(fence, "a", series=1)
    assert [(row.key, row.series, row.seq) for row in bench.steps(id)][-1] == ("a#1", 1, 4)


def test_rows_of_an_earlier_generation_stay_as_they_are(bench: Bench) -> None:
    id, fence = bench.held()
    bench.record(fence, "a", status=StepStatus.FAILED, value=None, error=error())
    bench.alter(id, generation=1)
    finish = Finish(fence=fence, status=RunStatus.FAILED, error=error(uncaught=("a#1",)))
    bench.journal.finish(finish)
    rows = bench.steps(id)
    bench.journal.retry(Retry(id=id))
    assert bench.steps(id) == rows
    bench.alter(id, generation=0)
    claimed = bench.claim(id, wake=2)
    assert ([entry.key for entry in claimed.entries], claimed.series) == (["a#1"], {})


def test_what_an_earlier_generation_undid_is_no_reason_to_refuse(bench: Bench) -> None:
    id, fence = bench.held()
    bench.record(fence, "undo a", kind=Kind.UNDO)
    bench.alter(id, generation=1)
    bench.journal.finish(Finish(fence=fence, status=RunStatus.FAILED, error=error()))
    assert bench.journal.retry(Retry(id=id)) == Retried()


def test_on_failure_is_called_again_if_the_run_fails_again(bench: Bench) -> None:
    id, fence = bench.held()
    bench.record(fence, "on_failure", kind=Kind.ON_FAILURE)
    bench.journal.finish(Finish(fence=fence, status=RunStatus.FAILED, error=error()))
    bench.journal.retry(Retry(id=id))
    claimed = bench.claim(id, wake=2)
    assert (claimed.entries, claimed.series) == ((), {"on_failure#1": 1})


def test_a_completed_row_is_never_superseded(bench: Bench) -> None:
    id, _ = failed(bench, "a#1", "fine#1")
    bench.journal.retry(Retry(id=id))
    assert [entry.key for entry in bench.claim(id, wake=2).entries] == ["b#1", "fine#1"]


def test_keys_are_superseded_exactly(bench: Bench) -> None:
    id, _ = failed(bench, "Charge#1", steps=("charge", "Charge"))
    bench.journal.retry(Retry(id=id))
    claimed = bench.claim(id, wake=2)
    assert [entry.key for entry in claimed.entries] == ["charge#1", "fine#1"]


def test_another_retry_takes_the_series_after(bench: Bench) -> None:
    id, _ = failed(bench, "a#1", steps=("a",))
    bench.journal.retry(Retry(id=id))
    fence = Fence(id=id, epoch=bench.claim(id, wake=2).run.epoch, lease=LEASE)
    again = outcome("a", status=StepStatus.FAILED, value=None, error=error(), series=1)
    bench.journal.commit(Record(fence=fence, entry=again))
    finish = Finish(fence=fence, status=RunStatus.FAILED, error=error(uncaught=("a#1",)))
    bench.journal.finish(finish)
    bench.journal.retry(Retry(id=id))
    claimed = bench.journal.claim(Claim(id=id, wake=3, lease=LEASE))
    assert isinstance(claimed, Claimed)
    assert claimed.series == {"a#1": 2}
    assert [entry.key for entry in claimed.entries] == ["fine#1"]


@pytest.mark.parametrize("status", [s for s in RunStatus if s is not RunStatus.FAILED])
def test_only_a_failed_run_is_retried(bench: Bench, status: RunStatus) -> None:
    id = bench.start()
    bench.alter(id, status=status)
    before = bench.everything(id)
    assert bench.journal.retry(Retry(id=id)) == NotFailed(status=status)
    assert bench.everything(id) == before


def test_no_run_is_retried(bench: Bench) -> None:
    assert bench.journal.retry(Retry(id=uuid.uuid4())) == NotFailed(status=None)
