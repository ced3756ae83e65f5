"""PAUSE and RESUME, the same for every journal."""

from dataclasses import replace
from datetime import timedelta

import pytest

from django_hookflow.core.entries import Kind, RunStatus
from django_hookflow.core.transitions import (
    Beat,
    Begin,
    Cancel,
    Cancelled,
    Claim,
    Committed,
    Fence,
    NotClaimed,
    Pause,
    Paused,
    Receive,
    Resume,
    Resumed,
    Signalled,
    StaysPaused,
    Stopped,
    Suspend,
    Unchanged,
)
from tests.journals.bench import LEASE, SECOND, START, Bench, entry, sleep
from tests.journals.test_children_and_undo import child_of, invoke
from tests.journals.test_commit import LATE

pytestmark = pytest.mark.django_db(databases="__all__")

OTHERS = [RunStatus.CANCELLING, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED]


def test_a_paused_run_is_still_and_nothing_else_of_it_changes(bench: Bench) -> None:
    id = bench.suspended("event:paid", due=timedelta(hours=1))
    before = bench.run(id)
    assert bench.journal.pause(Pause(id=id)) == Paused()
    still = replace(before, status=RunStatus.PAUSED, due_at=None, owed_at=None)
    assert bench.run(id) == still
    bench.pass_time(days=1)
    assert isinstance(bench.journal.claim(Claim(id=id, wake=2, lease=LEASE)), NotClaimed)
    assert list(bench.journal.find_due(limit=9)) == []
    assert list(bench.journal.nudge(overdue=SECOND, limit=9)) == []
    assert bench.run(id) == still


@pytest.mark.parametrize("status", [*OTHERS, RunStatus.PAUSED])
def test_only_what_goes_on_is_paused(bench: Bench, status: RunStatus) -> None:
    id = bench.suspended("event:x")
    bench.alter(id, status=status)
    before = bench.everything(id)
    assert bench.journal.pause(Pause(id=id)) == Unchanged(status=status)
    assert bench.everything(id) == before


@pytest.mark.parametrize("status", [*OTHERS, RunStatus.RUNNING, RunStatus.SUSPENDED])
def test_only_what_is_paused_is_resumed(bench: Bench, status: RunStatus) -> None:
    id = bench.suspended("event:x")
    bench.alter(id, status=status)
    before = bench.everything(id)
    assert bench.journal.resume(Resume(id=id)) == Unchanged(status=status)
    assert bench.everything(id) == before


def test_an_unknown_run_is_neither_paused_nor_resumed(bench: Bench) -> None:
    nobody = bench.start()
    bench.journal.cancel(Cancel(id=nobody))
    bench.pass_time(days=1)
    bench.journal.prune(older_than=SECOND, statuses=OTHERS, limit=9)
    assert bench.journal.pause(Pause(id=nobody)) == Unchanged(status=None)
    assert bench.journal.resume(Resume(id=nobody)) == Unchanged(status=None)


def test_a_resumed_run_is_due_now_and_owes_a_wake(bench: Bench) -> None:
    id = bench.suspended("event:paid", due=timedelta(hours=1))
    bench.journal.pause(Pause(id=id))
    bench.pass_time(seconds=9)
    before = bench.run(id)
    assert bench.journal.resume(Resume(id=id)) == Resumed()
    assert bench.run(id) == replace(
        before,
        status=RunStatus.SUSPENDED,
        due_at=bench.time,
        owed_at=bench.time,
        wake_n=before.wake_n + 1,
        signals=before.signals + 1,
    )
    bench.claim(id, wake=3)


def test_a_holder_goes_on_holding_a_run_that_is_paused_and_resumed(bench: Bench) -> None:
    id, fence = bench.held()
    bench.pass_time(seconds=5)
    assert bench.journal.pause(Pause(id=id)) == Paused()
    committed = bench.record(fence, "a")
    assert committed.status is RunStatus.PAUSED
    assert bench.run(id).due_at is None
    assert list(bench.journal.beat(Beat(held={id: fence.epoch}, lease=LEASE))) == []
    assert bench.run(id).due_at is None
    assert bench.journal.resume(Resume(id=id)) == Resumed()
    run = bench.run(id)
    assert (run.status, run.due_at) == (RunStatus.RUNNING, run.lease_until)
    assert run.lease_until == bench.time + LEASE
    assert bench.record(fence, "b").status is RunStatus.RUNNING


def test_a_holder_that_leaves_after_the_resume_is_told_to_look_again(bench: Bench) -> None:
    id, fence = bench.held()
    bench.journal.pause(Pause(id=id))
    bench.journal.resume(Resume(id=id))
    answer = bench.journal.suspend(Suspend(fence=fence, seen=0, due=None))
    assert answer.seen == 1
    assert bench.run(id).lease_until is not None


def test_a_dead_holders_run_that_is_resumed_is_due_now(bench: Bench) -> None:
    id, _ = bench.held()
    bench.journal.pause(Pause(id=id))
    bench.pass_time(seconds=61)
    bench.journal.resume(Resume(id=id))
    assert (bench.run(id).status, bench.run(id).due_at) == (RunStatus.SUSPENDED, bench.time)
    claimed = bench.claim(id, wake=2)
    assert claimed.found_dead
    assert claimed.run.deaths == 1


def test_nothing_more_begins_and_what_executes_is_recorded(bench: Bench) -> None:
    """Neither a step with something to undo, which is written down before, nor a child."""
    id, fence = bench.held()
    assert bench.journal.pause(Pause(id=id)) == Paused()
    before = bench.everything(id)
    with pytest.raises(Stopped):
        bench.journal.commit(Begin(fence=fence, entry=entry("a", undo="u")))
    child = child_of(id)
    with pytest.raises(Stopped):
        invoke(bench, fence, child)
    assert bench.everything(id) == before
    assert bench.journal.look(child.id) is None
    bench.record(fence, "executes")
    assert bench.run(id).seq == 1
    assert bench.journal.resume(Resume(id=id)) == Resumed()
    assert isinstance(
        bench.journal.commit(Begin(fence=fence, entry=entry("a", undo="u"))), Committed
    )


def test_events_come_and_timers_go_on_meanwhile(bench: Bench) -> None:
    id, fence = bench.held()
    bench.journal.pause(Pause(id=id))
    rows = (sleep("late", START + 9 * SECOND, 0), sleep("soon", START + 3 * SECOND, 1))
    wait = entry("w", Kind.EVENT, event="paid", requested_seq=2)
    suspend = Suspend(fence=fence, seen=0, due=SECOND, waits=("event:paid",), pending=(*rows, wait))
    assert bench.journal.suspend(suspend) == StaysPaused()
    assert bench.run(id).waits == ("event:paid",)
    assert bench.send(id, "1") == Signalled(owed=False)
    assert bench.run(id).signals == 1
    bench.pass_time(seconds=60)
    bench.journal.resume(Resume(id=id))
    claimed = bench.claim(id, wake=2)
    seqs = {e.key: e.seq for e in claimed.entries}
    assert seqs == {"soon#1": 1, "late#1": 2, "w#1": None}
    fence = replace(fence, epoch=claimed.run.epoch)
    got = bench.journal.commit(Receive(fence=fence, entry=wait, timeout_error=LATE))
    assert got.entry.value == "1"


def test_a_start_that_is_to_come_is_not_brought_forward(bench: Bench) -> None:
    id = bench.start(delay=timedelta(days=3))
    due = bench.run(id).due_at
    bench.journal.pause(Pause(id=id))
    assert bench.journal.owed(id) is None
    assert isinstance(bench.journal.claim(Claim(id=id, wake=1, lease=LEASE)), NotClaimed)
    bench.pass_time(days=1)
    bench.journal.resume(Resume(id=id))
    assert bench.run(id).due_at == due
    assert bench.journal.owed(id).delay == timedelta(days=2)
    bench.journal.pause(Pause(id=id))
    bench.pass_time(days=5)
    bench.journal.resume(Resume(id=id))
    assert bench.run(id).due_at == bench.time


@pytest.mark.parametrize("late", [timedelta(0), SECOND])
def test_a_start_that_has_come_is_due_at_the_resume(bench: Bench, late: timedelta) -> None:
    id = bench.start()
    bench.time += late
    before = bench.run(id)
    bench.journal.pause(Pause(id=id))
    still = replace(before, status=RunStatus.PAUSED, due_at=None, owed_at=None)
    assert bench.run(id) == still
    bench.pass_time(seconds=9)
    bench.journal.resume(Resume(id=id))
    assert bench.run(id).due_at == bench.time


def test_a_paused_run_whose_holder_goes_on_is_undone_at_the_end_of_its_lease(
    bench: Bench,
) -> None:
    """If the holder does not look before: a run that is active is never unguarded."""
    id, fence = bench.held()
    bench.record(fence, "a", undo="u")
    bench.journal.pause(Pause(id=id))
    assert bench.journal.cancel(Cancel(id=id)) == Cancelled()
    run = bench.run(id)
    assert (run.status, run.lease_until) == (RunStatus.CANCELLING, START + LEASE)
    assert run.due_at == run.lease_until


def test_a_paused_run_is_cancelled_at_once(bench: Bench) -> None:
    id = bench.suspended("event:x")
    bench.journal.pause(Pause(id=id))
    assert bench.journal.cancel(Cancel(id=id)) == Cancelled()
    assert bench.journal.resume(Resume(id=id)) == Unchanged(status=RunStatus.CANCELLED)


def test_pause_and_resume_change_no_epoch(bench: Bench) -> None:
    id, fence = bench.held()
    for _ in range(3):
        bench.journal.pause(Pause(id=id))
        bench.journal.resume(Resume(id=id))
    assert bench.run(id).epoch == fence.epoch
    assert bench.record(Fence(id=id, epoch=fence.epoch, lease=LEASE), "a").entry.seq == 1
