"""COMMIT in all its kinds, the same for every journal."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from django_hookflow.core.entries import ErrorRecord, Kind, RunStatus, StepStatus
from django_hookflow.core.transitions import (
    Atomic,
    Attempted,
    Beat,
    Cancel,
    Committed,
    Fence,
    Fenced,
    Finish,
    Fire,
    NotYet,
    Receive,
    Record,
    Suspend,
)
from tests.journals.bench import LEASE, SECOND, START, Bench, entry, outcome, sleep

pytestmark = pytest.mark.django_db(databases="__all__")

ERROR = ErrorRecord(
    type="app.OutOfStock",
    message="none left",
    step="a",
    raises="StepFailed",
    classes=("app.OutOfStock", "builtins.Exception"),
    response={"status_code": 409, "data": [1, None]},
)
LATE = ErrorRecord(type="EventTimeout", message="too late", raises="EventTimeout")


def commits(fence: Fence) -> dict[str, Any]:
    """One of each kind that writes."""
    return {
        "record": Record(fence=fence, entry=outcome("a")),
        "attempted": Attempted(fence=fence, entry=entry("a", attempt=1), retry_in=SECOND),
        "atomic": Atomic(fence=fence, entry=outcome("a", Kind.ATOMIC), work=lambda: "1"),
        "fire": Fire(fence=fence, entry=sleep("a", START - SECOND)),
        "receive": Receive(
            fence=fence,
            entry=entry("a", Kind.EVENT, event="paid", ready_at=START),
            timeout_error=LATE,
        ),
    }


KINDS = list(commits(None))  # type: ignore[arg-type]


def test_outcomes_are_numbered_in_the_order_of_their_commits(bench: Bench) -> None:
    id, fence = bench.held()
    assert [bench.record(fence, step).entry.seq for step in "cab"] == [1, 2, 3]
    assert bench.run(id).seq == 3
    assert {e.key: e.seq for e in bench.steps(id)} == {"c#1": 1, "a#1": 2, "b#1": 3}


def test_record_writes_the_whole_entry(bench: Bench) -> None:
    id, fence = bench.held()
    bench.pass_time(seconds=2)
    full = entry(
        "a" * 200,
        Kind.CALL,
        occurrence=12,
        call="app.charge",
        args_sha="f" * 64,
        status=StepStatus.FAILED,
        requested_seq=4,
        series=2,
        attempt=3,
        error=ERROR,
        undo='{"fn":"app.refund"}',
        started_at=START + SECOND,
    )
    committed = bench.journal.commit(Record(fence=fence, entry=full))
    written = replace(full, seq=1, finished_at=bench.time)
    assert committed == Committed(entry=written, now=bench.time, status=RunStatus.RUNNING)
    assert bench.steps(id) == (written,)


def test_started_at_is_now_unless_given(bench: Bench) -> None:
    id, fence = bench.held()
    bench.pass_time(seconds=2)
    assert bench.record(fence, "a").entry.started_at == bench.time
    assert bench.steps(id)[0].started_at == bench.time


@pytest.mark.parametrize("kind", KINDS)
def test_every_commit_renews_the_lease(bench: Bench, kind: str) -> None:
    id, fence = bench.held()
    bench.alter(id, nudges=4, blocked="x", blocked_n=3, deaths=2)
    bench.pass_time(seconds=50)
    bench.journal.commit(commits(fence)[kind])
    run = bench.run(id)
    assert run.lease_until == run.due_at == bench.time + LEASE
    assert (run.nudges, run.blocked, run.blocked_n) == (0, "", 0)
    # A failed attempt that will be retried is no outcome: deaths are counted on.
    assert (run.deaths, run.seq) == ((2, 0) if kind == "attempted" else (0, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_late_holder_that_nobody_replaced_may_commit(bench: Bench, kind: str) -> None:
    id, fence = bench.held()
    bench.pass_time(days=1)
    assert isinstance(bench.journal.commit(commits(fence)[kind]), Committed)
    assert bench.run(id).lease_until == bench.time + LEASE


@pytest.mark.parametrize("kind", KINDS)
def test_paused_run_still_records_what_is_executing(bench: Bench, kind: str) -> None:
    id, fence = bench.held()
    bench.alter(id, status=RunStatus.PAUSED, due_at=None)
    committed = bench.journal.commit(commits(fence)[kind])
    assert committed.status is RunStatus.PAUSED
    run = bench.run(id)
    assert (run.status, run.due_at) == (RunStatus.PAUSED, None)
    assert run.lease_until == START + LEASE
    assert len(bench.steps(id)) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "lost", ["replaced", "released", "cancelled", "finished", "no lease", "over"]
)
def test_fenced_commit_writes_nothing(bench: Bench, kind: str, lost: str) -> None:
    id, fence = bench.held()
    bench.record(fence, "before")
    if lost == "replaced":
        bench.pass_time(seconds=61)
        bench.claim(id)
    elif lost == "released":
        bench.journal.suspend(Suspend(fence=fence, seen=0, due=SECOND))
    elif lost == "cancelled":
        bench.journal.cancel(Cancel(id=id))
    elif lost == "finished":
        bench.journal.finish(Finish(fence=fence, status=RunStatus.COMPLETED, result="1"))
    elif lost == "over":
        bench.alter(id, status=RunStatus.FAILED)
    else:
        bench.alter(id, lease_until=None)
    before = bench.everything(id)
    with pytest.raises(Fenced):
        bench.journal.commit(commits(fence)[kind])
    assert bench.everything(id) == before


def test_outcome_is_written_once_even_under_a_good_fence(bench: Bench) -> None:
    """The unique key is the second barrier."""
    id, fence = bench.held()
    bench.record(fence, "a", value="1")
    before = bench.everything(id)
    with pytest.raises(Fenced, match="another holder recorded this step"):
        bench.record(fence, "a", value="2")
    assert bench.everything(id) == before
    assert bench.record(fence, "a", series=1).entry.seq == 2


# --- attempts


def test_attempts_share_one_row_and_the_outcome_ends_it(bench: Bench) -> None:
    id, fence = bench.held()
    for attempt in (1, 2):
        bench.pass_time(seconds=10)
        failed = entry("a", attempt=attempt, error=ERROR, ready_at=START, started_at=bench.time)
        delay = timedelta(seconds=attempt)
        committed = bench.journal.commit(Attempted(fence=fence, entry=failed, retry_in=delay))
        written = replace(failed, ready_at=bench.time + delay)
        assert committed.entry == written
        assert bench.steps(id) == (written,)
        assert bench.run(id).seq == 0
    bench.pass_time(seconds=10)
    done = bench.record(fence, "a", attempt=3, started_at=bench.time).entry
    assert (done.seq, done.attempt, done.error, done.finished_at) == (1, 3, None, bench.time)
    assert bench.steps(id) == (done,)


def test_an_attempt_is_no_outcome_whatever_its_entry_says(bench: Bench) -> None:
    id, fence = bench.held()
    ended = outcome("a", seq=7, finished_at=START)
    row = bench.journal.commit(Attempted(fence=fence, entry=ended, retry_in=SECOND)).entry
    assert (row.status, row.seq, row.finished_at) == (StepStatus.PENDING, None, None)
    assert bench.steps(id) == (row,)
    assert bench.run(id).seq == 0


def test_attempt_after_an_outcome_is_fenced(bench: Bench) -> None:
    id, fence = bench.held()
    bench.record(fence, "a")
    before = bench.everything(id)
    with pytest.raises(Fenced):
        bench.journal.commit(Attempted(fence=fence, entry=entry("a", attempt=1), retry_in=SECOND))
    assert bench.everything(id) == before


# --- atomic


def test_atomic_runs_its_work_once_and_records_its_value(bench: Bench) -> None:
    id, fence = bench.held()
    calls = []

    def work() -> str:
        calls.append(bench.steps(id))
        return '"done"'

    step = entry("a", Kind.ATOMIC, attempt=1)
    committed = bench.journal.commit(Atomic(fence=fence, entry=step, work=work))
    assert calls == [()]
    assert committed.entry.value == '"done"'
    assert committed.entry.status is StepStatus.COMPLETED
    assert bench.steps(id) == (committed.entry,)


class Mine(Exception):
    pass


def test_what_work_raises_is_raised_unchanged_and_nothing_is_written(bench: Bench) -> None:
    id, fence = bench.held()
    before = bench.everything(id)
    error = Mine("x")

    def work() -> str:
        raise error

    with pytest.raises(Mine) as raised:
        bench.journal.commit(Atomic(fence=fence, entry=outcome("a", Kind.ATOMIC), work=work))
    assert raised.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    assert bench.everything(id) == before


# --- timers


def test_fire_waits_for_its_time_to_the_microsecond(bench: Bench) -> None:
    id, fence = bench.held()
    before = bench.everything(id)
    ready = START + timedelta(seconds=3)
    fire = Fire(fence=fence, entry=sleep("nap", ready, started_at=START))
    bench.time = ready - timedelta(microseconds=1)
    assert bench.journal.commit(fire) == NotYet(now=bench.time)
    assert bench.everything(id) == before
    bench.time = ready
    fired = bench.journal.commit(fire).entry
    assert (fired.status, fired.seq, fired.ready_at) == (StepStatus.COMPLETED, 1, ready)
    assert (fired.started_at, fired.finished_at, fired.attempt) == (START, ready, 0)
    assert bench.steps(id) == (fired,)


def test_fire_of_a_recorded_sleep_keeps_the_times_of_its_row(bench: Bench) -> None:
    """A later delivery neither moves the time nor when it was asked for."""
    id, fence = bench.held()
    ready = START + timedelta(seconds=30)
    bench.journal.suspend(Suspend(fence=fence, seen=0, due=ready, pending=(sleep("nap", ready),)))
    bench.time = ready - SECOND
    fence = replace(fence, epoch=bench.claim(id).run.epoch)
    moved = sleep("nap", bench.time - SECOND, started_at=bench.time)
    assert isinstance(bench.journal.commit(Fire(fence=fence, entry=moved)), NotYet)
    bench.time = ready
    fired = bench.journal.commit(Fire(fence=fence, entry=moved)).entry
    assert (fired.ready_at, fired.started_at, fired.finished_at) == (ready, START, ready)
    assert bench.steps(id) == (fired,)


# --- events


def receive(fence: Fence, step: str, name: str = "paid", ready_at: Any = None) -> Receive:
    wait = entry(step, Kind.EVENT, event=name, ready_at=ready_at)
    return Receive(fence=fence, entry=wait, timeout_error=LATE)


def test_events_are_received_in_order_each_once(bench: Bench) -> None:
    id, fence = bench.held()
    for number in (1, 2):
        bench.send(id, str(number))
        bench.send(id, f'"other {number}"', "Paid")
    first = bench.journal.commit(receive(fence, "x")).entry
    second = bench.journal.commit(receive(fence, "y")).entry
    assert (first.value, first.seq, second.value, second.seq) == ("1", 1, "2", 2)
    assert first.status is StepStatus.COMPLETED
    before = bench.everything(id)
    answer = bench.journal.commit(receive(fence, "z"))
    assert answer == NotYet(now=START)
    assert answer.moved is False
    assert bench.everything(id) == before
    assert [(m.payload, m.consumed_by) for m in bench.mail(id)] == [
        ("1", "x#1"),
        ('"other 1"', None),
        ("2", "y#1"),
        ('"other 2"', None),
    ]


def test_an_event_that_is_received_has_been_seen(bench: Bench) -> None:
    id, fence = bench.held()
    bench.add_unseen_event(id, "paid")
    bench.journal.commit(receive(fence, "x"))
    assert [(m.consumed_by, m.seen) for m in bench.mail(id)] == [("x#1", True)]


def test_none_is_received_before_the_function_was_told_of_the_last_outcome(bench: Bench) -> None:
    """Told of it, it may wait for this event no more."""
    id, fence = bench.held()
    bench.send(id, "1")
    bench.journal.commit(Fire(fence=fence, entry=sleep("nap", START)))
    before = bench.everything(id)
    untold = replace(receive(fence, "x"), after=0)
    assert bench.journal.commit(untold) == NotYet(now=START, moved=True)
    assert bench.everything(id) == before
    assert bench.journal.commit(replace(untold, after=1)).entry.value == "1"


def test_events_of_another_run_are_not_received(bench: Bench) -> None:
    (_, fence), other = bench.held(), bench.start()
    bench.send(other, "1")
    assert isinstance(bench.journal.commit(receive(fence, "x")), NotYet)


def test_timeout_is_recorded_when_its_time_has_come(bench: Bench) -> None:
    id, fence = bench.held()
    ready = START + timedelta(seconds=5)
    bench.time = ready - timedelta(microseconds=1)
    assert bench.journal.commit(receive(fence, "x", ready_at=ready)) == NotYet(now=bench.time)
    bench.time = ready
    late = bench.journal.commit(receive(fence, "x", ready_at=ready)).entry
    assert (late.status, late.error, late.value, late.seq) == (StepStatus.FAILED, LATE, None, 1)
    assert bench.steps(id) == (late,)


def test_event_beats_a_timeout_that_has_come(bench: Bench) -> None:
    id, fence = bench.held()
    bench.send(id, "1")
    bench.pass_time(hours=1)
    got = bench.journal.commit(receive(fence, "x", ready_at=START + SECOND)).entry
    assert (got.status, got.value) == (StepStatus.COMPLETED, "1")


def test_event_after_the_timeout_stays_in_the_mailbox(bench: Bench) -> None:
    id, fence = bench.held()
    bench.journal.commit(receive(fence, "x", ready_at=START))
    bench.send(id, "1")
    assert [m.consumed_by for m in bench.mail(id)] == [None]
    assert bench.journal.commit(receive(fence, "y")).entry.value == "1"


# --- the keeper


def test_beat_renews_only_what_is_still_held(bench: Bench) -> None:
    (mine, fence), (paused, second) = bench.held(), bench.held()
    (replaced, third), (over, fourth), (free, fifth) = bench.held(), bench.held(), bench.held()
    bench.alter(paused, status=RunStatus.PAUSED, due_at=None)
    bench.alter(replaced, epoch=9)
    bench.alter(over, status=RunStatus.CANCELLED)
    bench.alter(free, lease_until=None)
    bench.pass_time(seconds=70)
    held = {f.id: f.epoch for f in (fence, second, third, fourth, fifth)}
    assert set(bench.journal.beat(Beat(held=held, lease=LEASE))) == {replaced, over, free}
    until = bench.time + LEASE
    assert (bench.run(mine).lease_until, bench.run(mine).due_at) == (until, until)
    assert (bench.run(paused).lease_until, bench.run(paused).due_at) == (until, None)
    assert bench.run(replaced).lease_until == START + LEASE
    assert bench.run(free).lease_until is None
    assert bench.journal.beat(Beat(held={mine: fence.epoch}, lease=LEASE)) == []
    assert bench.journal.beat(Beat()) == []
