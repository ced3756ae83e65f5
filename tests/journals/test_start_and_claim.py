"""TRIGGER, look and CLAIM, the same for every journal."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from django_hookflow.core.entries import Kind, RunStatus, StepStatus
from django_hookflow.core.transitions import (
    Cancel,
    Cancelled,
    Claim,
    Conflict,
    Fence,
    Fenced,
    Fire,
    NotClaimed,
    Over,
    Record,
    Suspend,
    Trigger,
    Triggered,
)
from tests.journals.bench import LEASE, SECOND, START, Bench, outcome, sleep

pytestmark = pytest.mark.django_db(databases="__all__")


def trigger_of(id: uuid.UUID, run_id: str, **facts) -> Trigger:
    values = {"workflow_id": "w", "version": "2", "seed": 7, "data": "[1]", **facts}
    return Trigger(id=id, run_id=run_id, **values)


def test_trigger_creates_a_run_that_owes_its_first_wake(bench: Bench) -> None:
    id = bench.start(seed=2**63 - 1, version="2")
    view = bench.journal.look(id)
    assert (view.status, view.epoch, view.seq, view.signals) == (RunStatus.PENDING, 0, 0, 0)
    assert (view.wake_n, view.owed_at, view.due_at) == (1, START, START)
    assert (view.seed, view.version, view.workflow_id) == (2**63 - 1, "2", "w")
    assert (view.data, view.failing, view.parent) == ('{"n":1}', False, None)
    assert (view.lease_until, view.lease_w, view.deadline) == (None, 0, None)
    assert (view.generation, view.deaths, view.blocked, view.blocked_n) == (0, 0, "", 0)
    assert (view.created_at, view.now) == (START, START)


def test_delay_and_not_before_move_the_first_look_and_the_deadline(bench: Bench) -> None:
    later = bench.journal.look(bench.start(delay=timedelta(hours=1), timeout=SECOND))
    assert later.due_at == START + timedelta(hours=1)
    assert later.deadline == START + timedelta(hours=1, seconds=1)
    at = START + timedelta(days=2)
    assert bench.journal.look(bench.start(not_before=at)).due_at == at


def test_same_run_id_again_creates_nothing(bench: Bench) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    assert bench.journal.trigger(trigger_of(first, "order-1")) == Triggered(id=first, created=True)
    bench.pass_time(hours=1)
    again = bench.journal.trigger(trigger_of(second, "order-1", seed=8))
    assert again == Triggered(id=first, created=False)
    assert bench.journal.look(second) is None
    assert bench.run(first).owed_at == START


@pytest.mark.parametrize("other", [{"workflow_id": "v"}, {"data": "[2]"}, {"data": "[1.0]"}])
def test_same_run_id_for_something_else_conflicts(bench: Bench, other: dict[str, str]) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    bench.journal.trigger(trigger_of(first, "order-1"))
    before = bench.everything(first)
    answer = bench.journal.trigger(trigger_of(second, "order-1", **other))
    assert answer == Conflict(workflow_id="w")
    assert bench.journal.look(second) is None
    assert bench.everything(first) == before


def test_same_run_id_with_equal_data_in_another_order_creates_nothing(bench: Bench) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    bench.journal.trigger(trigger_of(first, "order-1", data='{"a":1,"b":[2]}'))
    again = trigger_of(second, "order-1", data='{"b":[2],"a":1}')
    assert bench.journal.trigger(again) == Triggered(id=first, created=False)
    assert bench.journal.trigger_many([again]) == [Triggered(id=first, created=False)]
    other = trigger_of(second, "order-1", data='{"b":[2],"a":"1"}')
    assert bench.journal.trigger(other) == Conflict(workflow_id="w")


def test_run_ids_are_compared_exactly(bench: Bench) -> None:
    bench.journal.trigger(trigger_of(uuid.uuid4(), "Order"))
    other = uuid.uuid4()
    assert bench.journal.trigger(trigger_of(other, "order")) == Triggered(id=other, created=True)


def test_look_at_no_run(bench: Bench) -> None:
    assert bench.journal.look(uuid.uuid4()) is None


def test_claim_takes_the_lease(bench: Bench) -> None:
    id = bench.start()
    bench.pass_time(seconds=5)
    claimed = bench.claim(id, wake=1)
    run = claimed.run
    assert (run.status, run.epoch, run.lease_w, run.deaths) == (RunStatus.RUNNING, 1, 1, 0)
    assert run.lease_until == run.due_at == bench.time + LEASE
    assert (run.now, run.leased) == (bench.time, True)
    assert (claimed.entries, claimed.found_dead) == ((), False)
    assert bench.run(id).started_at == bench.time
    # It still owes the first wake: only its publication ends that.
    assert (run.wake_n, run.owed_at) == (1, START)


def test_started_at_is_the_first_claim(bench: Bench) -> None:
    id = bench.start()
    bench.claim(id)
    bench.pass_time(seconds=61)
    bench.claim(id)
    assert bench.run(id).started_at == START


def test_leased_run_cannot_be_claimed_until_its_lease_is_over(bench: Bench) -> None:
    id = bench.start()
    bench.claim(id)
    before = bench.everything(id)
    bench.time = START + LEASE  # leased = lease_until >= now
    assert bench.journal.claim(Claim(id=id, wake=1, lease=LEASE)) == NotClaimed()
    assert bench.everything(id) == before


def test_dead_holder_is_counted_and_replaced(bench: Bench) -> None:
    id = bench.start()
    bench.claim(id)
    bench.time = START + LEASE + timedelta(microseconds=1)
    claimed = bench.claim(id, wake=9)
    assert (claimed.found_dead, claimed.run.deaths, claimed.run.epoch) == (True, 1, 2)
    assert claimed.run.lease_w == 9
    bench.pass_time(seconds=61)
    assert bench.claim(id).run.deaths == 2


def test_due_is_two_seconds_early_and_no_earlier(bench: Bench) -> None:
    id = bench.start(not_before=START + timedelta(seconds=12))
    bench.time = START + timedelta(seconds=10) - timedelta(microseconds=1)
    assert bench.journal.claim(Claim(id=id, wake=1, lease=LEASE)) == NotClaimed()
    bench.pass_time(microseconds=1)
    assert bench.claim(id).run.epoch == 1


def test_waiting_run_without_due_time_cannot_be_claimed(bench: Bench) -> None:
    id = bench.suspended("event:paid")
    assert bench.run(id).due_at is None
    bench.pass_time(days=400)
    assert bench.journal.claim(Claim(id=id, wake=1, lease=LEASE)) == NotClaimed()


@pytest.mark.parametrize(
    "status", [RunStatus.PAUSED, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED]
)
def test_only_active_runs_are_claimed(bench: Bench, status: RunStatus) -> None:
    id = bench.start()
    bench.alter(id, status=status)
    assert bench.journal.claim(Claim(id=id, wake=1, lease=LEASE)) == NotClaimed()
    assert bench.run(id).epoch == 0


def test_unknown_run_is_not_claimed(bench: Bench) -> None:
    assert bench.journal.claim(Claim(id=uuid.uuid4(), wake=1, lease=LEASE)) == NotClaimed()


def test_claim_reads_the_journal_of_the_generation(bench: Bench) -> None:
    id, fence = bench.held()
    first = bench.record(fence, "a", value='{"x":"\\u00e9"}').entry
    second = bench.record(fence, "b", series=3, undo="mod.fn").entry
    bench.pass_time(seconds=61)
    assert bench.claim(id).entries == (first, second)
    bench.alter(id, generation=1)
    bench.pass_time(seconds=61)
    assert bench.claim(id).entries == ()


def test_superseded_outcomes_are_kept_but_not_read(bench: Bench) -> None:
    id, fence = bench.held()
    old = bench.record(fence, "a", value="1").entry
    bench.supersede(id)
    new = bench.record(fence, "a", value="2", series=1).entry
    bench.pass_time(seconds=61)
    assert bench.claim(id).entries == (new,)
    assert bench.steps(id) == (old, new)


def test_outcomes_superseded_in_an_earlier_generation_start_no_series(bench: Bench) -> None:
    id, fence = bench.held()
    bench.record(fence, "a")
    bench.supersede(id)
    bench.alter(id, generation=1)
    bench.pass_time(seconds=61)
    claimed = bench.claim(id)
    assert (claimed.entries, claimed.series) == ((), {})


def sleeping(bench: Bench) -> uuid.UUID:
    """Four sleeps; by time b and c are due together, a before them, d much later."""
    at = START + timedelta(seconds=10)
    pending = (
        sleep("b", at, 3),
        sleep("c", at, 2),
        sleep("a", at - SECOND, 4),
        sleep("d", at + timedelta(hours=1), 1),
    )
    id, fence = bench.held()
    bench.record(fence, "before")
    bench.journal.suspend(Suspend(fence=fence, seen=0, due=at - SECOND, pending=pending))
    return id


def test_due_sleeps_fire_at_claim_in_order(bench: Bench) -> None:
    id = sleeping(bench)
    bench.pass_time(seconds=30)
    claimed = bench.claim(id)
    assert claimed.run.seq == 4 == bench.run(id).seq
    done = {e.key: e for e in claimed.entries}
    assert {key: e.seq for key, e in done.items()} == {
        "before#1": 1,
        "a#1": 2,
        "c#1": 3,
        "b#1": 4,
        "d#1": None,
    }
    assert done["a#1"].status is StepStatus.COMPLETED
    assert (done["a#1"].started_at, done["a#1"].finished_at) == (START, bench.time)
    assert (done["d#1"].status, done["d#1"].finished_at) == (StepStatus.PENDING, None)
    assert claimed.entries == bench.steps(id)


def test_sleeps_do_not_fire_a_microsecond_early(bench: Bench) -> None:
    id = sleeping(bench)
    bench.time = START + timedelta(seconds=10, microseconds=-1)
    assert bench.claim(id).run.seq == 2  # a, whose time was a second before


def test_sleeps_fire_to_the_microsecond(bench: Bench) -> None:
    id = sleeping(bench)
    bench.time = START + timedelta(seconds=10)
    assert bench.claim(id).run.seq == 4


def test_a_sleep_that_has_fired_is_left_alone(bench: Bench) -> None:
    id, fence = bench.held()
    bench.journal.commit(Fire(fence=fence, entry=sleep("nap", START)))
    bench.journal.suspend(Suspend(fence=fence, seen=0, due=SECOND))
    rows = bench.steps(id)
    bench.pass_time(seconds=5)
    claimed = bench.claim(id, wake=2)
    assert claimed.run.seq == bench.run(id).seq == 1
    assert claimed.entries == rows == bench.steps(id)


def test_cancelling_run_fires_no_sleep(bench: Bench) -> None:
    id = sleeping(bench)
    bench.alter(id, status=RunStatus.CANCELLING)
    bench.pass_time(seconds=30)
    claimed = bench.claim(id)
    assert (claimed.run.status, claimed.run.seq) == (RunStatus.CANCELLING, 1)
    assert [e.status for e in claimed.entries[1:]] == [StepStatus.PENDING] * 4


def test_only_sleeps_fire_at_claim(bench: Bench) -> None:
    id, fence = bench.held()
    wait = replace(sleep("w", START + SECOND), kind=Kind.EVENT, event="paid")
    bench.journal.suspend(Suspend(fence=fence, seen=0, due=SECOND, pending=(wait,)))
    bench.pass_time(seconds=30)
    claimed = bench.claim(id)
    assert (claimed.run.seq, claimed.entries[0].status) == (0, StepStatus.PENDING)
    assert claimed.entries[0].event == "paid"


# --- CANCEL


def test_cancel_ends_at_once_and_fences_the_holder(bench: Bench) -> None:
    id, fence = bench.held()
    bench.pass_time(seconds=1)
    assert bench.journal.cancel(Cancel(id=id)) == Cancelled()
    run = bench.run(id)
    assert (run.status, run.epoch) == (RunStatus.CANCELLED, fence.epoch + 1)
    assert (run.lease_until, run.due_at, run.owed_at) == (None, None, None)
    assert run.finished_at == bench.time

    with pytest.raises(Fenced):
        bench.journal.commit(Record(fence=fence, entry=outcome("a")))
    assert bench.steps(id) == ()


def test_cancel_clears_what_the_run_waited_for(bench: Bench) -> None:
    id, fence = bench.held()
    wait = Suspend(fence=fence, seen=0, due=SECOND, waits=("event:paid",), blocked="expected a")
    bench.journal.suspend(wait)
    bench.journal.cancel(Cancel(id=id))
    run = bench.run(id)
    assert (run.due_at, run.owed_at, run.waits) == (None, None, ())
    assert (run.blocked, run.blocked_n) == ("", 0)


def test_cancel_of_a_paused_run(bench: Bench) -> None:
    id = bench.start()
    bench.alter(id, status=RunStatus.PAUSED)
    assert bench.journal.cancel(Cancel(id=id)) == Cancelled()
    assert bench.run(id).status is RunStatus.CANCELLED


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED])
def test_cancel_of_a_finished_run_changes_nothing(bench: Bench, status: RunStatus) -> None:
    id = bench.start()
    bench.alter(id, status=status)
    before = bench.everything(id)
    assert bench.journal.cancel(Cancel(id=id)) == Over(status=status)
    assert bench.everything(id) == before


def test_cancel_of_no_run(bench: Bench) -> None:
    assert bench.journal.cancel(Cancel(id=uuid.uuid4())) == Over(status=None)


def test_fence_of_an_older_epoch_is_worth_nothing(bench: Bench) -> None:
    id, old = bench.held()
    bench.pass_time(seconds=61)
    new = Fence(id=id, epoch=bench.claim(id).run.epoch, lease=LEASE)

    with pytest.raises(Fenced):
        bench.record(old, "a")
    assert bench.record(new, "a").entry.seq == 1
