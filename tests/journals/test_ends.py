"""SUSPEND, RELEASE and FINISH, the same for every journal."""

from dataclasses import replace
from datetime import timedelta

import pytest

from django_hookflow.core.entries import ErrorRecord, RunStatus
from django_hookflow.core.transitions import (
    Cancel,
    Fence,
    Fenced,
    Finish,
    Finished,
    Release,
    Signal,
    SignalsMoved,
    StaysPaused,
    Suspend,
    Suspended,
)
from tests.journals.bench import LEASE, SECOND, START, Bench, sleep

pytestmark = pytest.mark.django_db(databases="__all__")

OVER = [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED]


def test_suspend_until_a_time_owes_a_wake(bench: Bench) -> None:
    id, fence = bench.held()
    bench.alter(id, nudges=3)
    bench.pass_time(seconds=1)
    at = START + timedelta(hours=1)
    assert bench.journal.suspend(Suspend(fence=fence, seen=0, due=at)) == Suspended(owed=True)
    run = bench.run(id)
    assert (run.status, run.lease_until, run.due_at) == (RunStatus.SUSPENDED, None, at)
    assert (run.wake_n, run.owed_at, run.nudges, run.epoch) == (2, bench.time, 0, 1)
    owed = bench.journal.owed(id)
    assert (owed.number, owed.owed_at, owed.delay) == (2, bench.time, at - bench.time)


def test_suspend_for_a_delay_counts_from_the_journals_now(bench: Bench) -> None:
    id, fence = bench.held()
    bench.pass_time(seconds=9)
    bench.journal.suspend(Suspend(fence=fence, seen=0, due=timedelta(seconds=5)))
    assert bench.run(id).due_at == bench.time + timedelta(seconds=5)


def test_wait_without_timeout_owes_nothing(bench: Bench) -> None:
    id, fence = bench.held()
    suspend = Suspend(fence=fence, seen=0, due=None, waits=("event:paid", "step:x#1"))
    assert bench.journal.suspend(suspend) == Suspended(owed=False)
    run = bench.run(id)
    assert (run.due_at, run.wake_n, run.owed_at) == (None, 1, None)
    assert run.waits == ("event:paid", "step:x#1")
    assert bench.journal.owed(id) is None


@pytest.mark.parametrize("due", [None, timedelta(days=9), START + timedelta(days=9)])
def test_deadline_is_the_latest_look(bench: Bench, due: object) -> None:
    id, fence = bench.held()
    deadline = START + timedelta(days=1)
    bench.alter(id, deadline=deadline)
    assert bench.journal.suspend(Suspend(fence=fence, seen=0, due=due)) == Suspended(owed=True)
    run = bench.run(id)
    assert (run.due_at, run.wake_n, run.owed_at) == (deadline, 2, START)


def test_deadline_does_not_move_an_earlier_look(bench: Bench) -> None:
    id, fence = bench.held()
    bench.alter(id, deadline=START + timedelta(days=1))
    bench.journal.suspend(Suspend(fence=fence, seen=0, due=SECOND))
    assert bench.run(id).due_at == START + SECOND


def test_cancelling_run_stays_cancelling(bench: Bench) -> None:
    for end in (Suspend(fence=None, seen=0, due=SECOND), Release(fence=None)):
        id, fence = bench.held()
        bench.alter(id, status=RunStatus.CANCELLING)
        apply = bench.journal.suspend if isinstance(end, Suspend) else bench.journal.release
        apply(replace(end, fence=fence))
        assert (bench.run(id).status, bench.run(id).lease_until) == (RunStatus.CANCELLING, None)


def test_pending_rows_are_written_once(bench: Bench) -> None:
    id, fence = bench.held()
    first = sleep("a", START + SECOND, 1)
    bench.journal.suspend(Suspend(fence=fence, seen=0, due=SECOND, pending=(first,)))
    bench.pass_time(milliseconds=500)
    written = replace(first, started_at=START)
    assert bench.steps(id) == (written,)
    fence = replace(fence, epoch=bench.claim(id).run.epoch)
    later = sleep("a", START + timedelta(days=1), 1)
    other = sleep("b", START + SECOND, 2)
    bench.journal.suspend(Suspend(fence=fence, seen=0, due=SECOND, pending=(later, other)))
    assert bench.steps(id) == (written, replace(other, started_at=bench.time))


def test_a_pending_row_keeps_the_time_at_which_it_was_asked_for(bench: Bench) -> None:
    id, fence = bench.held()
    asked = sleep("a", START + SECOND, started_at=START - SECOND)
    bench.journal.suspend(Suspend(fence=fence, seen=0, due=SECOND, pending=(asked,)))
    assert bench.steps(id) == (asked,)


def test_signal_since_seen_refuses_the_suspension(bench: Bench) -> None:
    id, fence = bench.held()
    bench.send(id, "1")
    before = bench.everything(id)
    suspend = Suspend(fence=fence, seen=0, due=None, pending=(sleep("a", START),))
    assert bench.journal.suspend(suspend) == SignalsMoved(seen=1)
    assert bench.everything(id) == before
    assert bench.journal.suspend(replace(suspend, seen=1)) == Suspended(owed=False)


def test_blocked_is_counted_until_something_else_happens(bench: Bench) -> None:
    id = bench.start()
    for times in (1, 2, 3):
        fence = Fence(id=id, epoch=bench.claim(id).run.epoch, lease=LEASE)
        assert bench.run(id).blocked_n == times - 1  # a claim does not end it
        bench.journal.suspend(Suspend(fence=fence, seen=0, due=SECOND, blocked="expected a"))
        assert (bench.run(id).blocked, bench.run(id).blocked_n) == ("expected a", times)
    fence = replace(fence, epoch=bench.claim(id).run.epoch)
    assert bench.journal.look(id).blocked_n == 3
    bench.journal.suspend(Suspend(fence=fence, seen=0, due=SECOND))
    assert (bench.run(id).blocked, bench.run(id).blocked_n) == ("", 0)


def ends(fence: Fence) -> dict[str, object]:
    return {
        "suspend": Suspend(fence=fence, seen=0, due=SECOND, pending=(sleep("a", START),)),
        "release": Release(fence=fence),
        "finish": Finish(fence=fence, status=RunStatus.COMPLETED, result="1"),
    }


@pytest.mark.parametrize("end", ["suspend", "release", "finish"])
@pytest.mark.parametrize("lost", ["replaced", "cancelled", "no lease", "paused without lease"])
def test_lost_fence_ends_nothing(bench: Bench, end: str, lost: str) -> None:
    id, fence = bench.held()
    if lost == "replaced":
        bench.pass_time(seconds=61)
        bench.claim(id)
    elif lost == "cancelled":
        bench.journal.cancel(Cancel(id=id))
    else:
        bench.alter(id, lease_until=None)
        if lost != "no lease":
            bench.alter(id, status=RunStatus.PAUSED)
    before = bench.everything(id)
    with pytest.raises(Fenced):
        getattr(bench.journal, end)(ends(fence)[end])
    assert bench.everything(id) == before


@pytest.mark.parametrize("end", ["suspend", "release", "finish"])
def test_paused_run_gives_its_lease_back_and_stays_paused(bench: Bench, end: str) -> None:
    id, fence = bench.held()
    bench.alter(id, status=RunStatus.PAUSED, due_at=None, signals=5)
    before = bench.run(id)
    answer = getattr(bench.journal, end)(ends(fence)[end])
    assert answer == (None if end == "release" else StaysPaused())
    assert bench.run(id) == replace(before, lease_until=None)
    # Timers go on meanwhile, so a sleep that was asked for is kept.
    kept = [e.ready_at for e in bench.steps(id)]
    assert kept == ([START] if end == "suspend" else [])


def test_release_is_due_now_and_owes_nothing(bench: Bench) -> None:
    id, fence = bench.held()
    bench.pass_time(seconds=3)
    bench.journal.release(Release(fence=fence))
    run = bench.run(id)
    assert (run.status, run.lease_until, run.due_at) == (RunStatus.SUSPENDED, None, bench.time)
    assert (run.wake_n, run.owed_at, run.epoch) == (1, None, 1)


def test_finish_completed(bench: Bench) -> None:
    id, fence = bench.held()
    bench.alter(id, owed_at=START, blocked="x", blocked_n=1)
    bench.pass_time(seconds=3)
    finish = Finish(fence=fence, status=RunStatus.COMPLETED, result='{"ok":true}')
    assert bench.journal.finish(finish) == Finished()
    run = bench.run(id)
    assert (run.status, run.result, run.error) == (RunStatus.COMPLETED, '{"ok":true}', None)
    assert (run.lease_until, run.due_at, run.owed_at) == (None, None, None)
    assert (run.finished_at, run.blocked, run.blocked_n) == (bench.time, "", 0)


def test_finish_failed(bench: Bench) -> None:
    id, fence = bench.held()
    error = ErrorRecord(type="ValueError", message="no", step="a", classes=("builtins.ValueError",))
    bench.journal.finish(Finish(fence=fence, status=RunStatus.FAILED, error=error))
    assert (bench.run(id).status, bench.run(id).error) == (RunStatus.FAILED, error)
    assert bench.run(id).result is None
    assert bench.journal.look(id).failing is True


def test_an_ended_run_waits_for_nothing(bench: Bench) -> None:
    id = bench.suspended("event:paid", due=SECOND)
    bench.pass_time(seconds=5)
    fence = Fence(id=id, epoch=bench.claim(id, wake=2).run.epoch, lease=LEASE)
    bench.journal.finish(Finish(fence=fence, status=RunStatus.COMPLETED, result="1"))
    assert bench.run(id).waits == ()


def test_a_failing_run_that_is_ended_keeps_its_error(bench: Bench) -> None:
    id, fence = bench.held()
    error = ErrorRecord(type="ValueError", message="no", step="a")
    bench.alter(id, error=error)
    bench.journal.finish(Finish(fence=fence, status=RunStatus.FAILED))
    assert bench.run(id).error == error


def test_finish_twice_is_fenced(bench: Bench) -> None:
    id, fence = bench.held()
    bench.journal.finish(Finish(fence=fence, status=RunStatus.COMPLETED, result="1"))
    before = bench.everything(id)
    with pytest.raises(Fenced):
        bench.journal.finish(Finish(fence=fence, status=RunStatus.FAILED))
    assert bench.everything(id) == before


# --- a child and its parent


def family(bench: Bench, *waits: str) -> tuple[object, object, Fence]:
    parent = bench.suspended(*waits)
    child, fence = bench.held()
    bench.alter(child, parent=parent)
    return parent, child, fence


def test_end_of_a_child_wakes_the_parent_that_waits_for_it(bench: Bench) -> None:
    parent, _, fence = family(bench, "event:x", "step:child#1")
    bench.pass_time(seconds=1)
    bench.journal.finish(
        Finish(fence=fence, status=RunStatus.COMPLETED, parent=parent, parent_step="child#1")
    )
    run = bench.run(parent)
    assert (run.signals, run.wake_n, run.owed_at, run.due_at) == (1, 2, bench.time, bench.time)


def test_end_of_a_child_does_not_wake_a_parent_that_waits_for_else(bench: Bench) -> None:
    parent, _, fence = family(bench, "event:step:child#1", "step:child#2")
    bench.journal.finish(
        Finish(fence=fence, status=RunStatus.COMPLETED, parent=parent, parent_step="child#1")
    )
    run = bench.run(parent)
    assert (run.signals, run.wake_n, run.owed_at, run.due_at) == (1, 1, None, None)


def test_fenced_child_does_not_signal(bench: Bench) -> None:
    parent, child, fence = family(bench, "step:child#1")
    bench.journal.cancel(Cancel(id=child))
    before = bench.run(parent)
    with pytest.raises(Fenced):
        bench.journal.finish(Finish(fence=fence, status=RunStatus.COMPLETED, parent=parent))
    assert bench.run(parent) == before


def test_paused_child_does_not_signal(bench: Bench) -> None:
    parent, child, fence = family(bench, "step:child#1")
    bench.alter(child, status=RunStatus.PAUSED, due_at=None)
    before = bench.run(parent)
    finish = Finish(fence=fence, status=RunStatus.COMPLETED, parent=parent)
    assert bench.journal.finish(finish) == StaysPaused()
    assert bench.run(parent) == before


@pytest.mark.parametrize("status", OVER)
def test_child_of_a_finished_parent_finishes(bench: Bench, status: RunStatus) -> None:
    parent, child, fence = family(bench, "step:child#1")
    bench.alter(parent, status=status)
    before = bench.run(parent)
    finish = Finish(fence=fence, status=RunStatus.COMPLETED, parent=parent)
    assert bench.journal.finish(finish) == Finished()
    assert bench.run(parent) == before
    assert bench.run(child).status is RunStatus.COMPLETED
    assert not bench.journal.signal(Signal(id=parent, wait="step:child#1")).owed
