"""SIGNAL, EVENT, publishing, the sweeper and marks, the same for every journal."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from django_hookflow.core.entries import RunStatus
from django_hookflow.core.transitions import (
    Over,
    Rearm,
    Release,
    Signal,
    Signalled,
    Suspend,
)
from tests.journals.bench import LEASE, SECOND, START, Bench

pytestmark = pytest.mark.django_db(databases="__all__")

MINUTE = timedelta(minutes=1)
OVER = [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED]


def test_event_wakes_the_run_that_waits_for_it(bench: Bench) -> None:
    id = bench.suspended("event:paid")
    bench.pass_time(seconds=1)
    assert bench.send(id, '{"n":1}') == Signalled(owed=True)
    run = bench.run(id)
    assert (run.signals, run.wake_n, run.owed_at, run.due_at) == (1, 2, bench.time, bench.time)
    (mail,) = bench.mail(id)
    assert (mail.name, mail.payload, mail.consumed_by, mail.seen) == (
        "paid",
        '{"n":1}',
        None,
        True,
    )


@pytest.mark.parametrize(
    ("waits", "name"),
    [
        ((), "paid"),
        (("event:paid",), "Paid"),
        (("event:paid",), "pai"),
        (("event:paid",), "paid2"),
        (("event:a%d",), "aXd"),
        (("event:a_d",), "aXd"),
        (("step:paid",), "paid"),
        (("event:a", "event:b"), "a\nevent:b"),
        (("event:a\nevent:b",), "a"),
    ],
)
def test_event_wakes_nobody_who_does_not_wait_for_exactly_it(
    bench: Bench, waits: tuple[str, ...], name: str
) -> None:
    id = bench.suspended(*waits)
    assert bench.send(id, "1", name) == Signalled(owed=False)
    run = bench.run(id)
    assert (run.signals, run.wake_n, run.owed_at, run.due_at) == (1, 1, None, None)


@pytest.mark.parametrize("name", ["a%d", "a_d", "a\\d", "a\nb", "a\\nb", "é ", "x" * 200])
def test_event_of_any_name_wakes(bench: Bench, name: str) -> None:
    id = bench.suspended("event:other", f"event:{name}", "step:x")
    assert bench.send(id, "1", name) == Signalled(owed=True)


@pytest.mark.parametrize("passed", [timedelta(seconds=30), LEASE])
def test_signal_during_a_lease_only_moves_the_mailbox(bench: Bench, passed: timedelta) -> None:
    id, _ = bench.held()
    bench.alter(id, waits=("event:paid",))
    bench.time = START + passed
    assert bench.send(id, "1") == Signalled(owed=False)
    run = bench.run(id)
    assert (run.signals, run.wake_n, run.due_at) == (1, 1, START + LEASE)


def test_signal_of_a_run_that_is_due_already_owes_no_second_wake(bench: Bench) -> None:
    id = bench.suspended("event:paid", due=SECOND)
    bench.time = START + SECOND
    assert bench.send(id, "1") == Signalled(owed=False)
    assert (bench.run(id).signals, bench.run(id).wake_n) == (1, 2)


def test_signal_wakes_before_the_timeout(bench: Bench) -> None:
    id = bench.suspended("event:paid", due=SECOND)
    bench.time = START + SECOND - timedelta(microseconds=1)
    assert bench.send(id, "1") == Signalled(owed=True)
    assert (bench.run(id).wake_n, bench.run(id).due_at) == (3, bench.time)


def test_paused_run_takes_the_event_and_sleeps_on(bench: Bench) -> None:
    id = bench.suspended("event:paid")
    bench.alter(id, status=RunStatus.PAUSED)
    assert bench.send(id, "1") == Signalled(owed=False)
    run = bench.run(id)
    assert (run.signals, run.wake_n, run.due_at, run.status) == (1, 1, None, RunStatus.PAUSED)
    assert [m.payload for m in bench.mail(id)] == ["1"]


@pytest.mark.parametrize("status", OVER)
def test_finished_run_takes_no_event(bench: Bench, status: RunStatus) -> None:
    id = bench.start()
    bench.alter(id, status=status)
    before = bench.everything(id)
    assert bench.send(id, "1") == Over(status=status)
    assert bench.journal.signal(Signal(id=id, wait="event:paid")) == Signalled(owed=False)
    assert bench.everything(id) == before


def test_unknown_run_takes_no_event(bench: Bench) -> None:
    assert bench.send(uuid.uuid4(), "1") == Over(status=None)
    signalled = bench.journal.signal(Signal(id=uuid.uuid4(), wait="event:x"))
    assert signalled == Signalled(owed=False)


def test_event_with_the_same_dedup_id_counts_once(bench: Bench) -> None:
    id, other = bench.suspended("event:paid"), bench.suspended("event:paid")
    assert bench.send(id, "1", dedup_id="k") == Signalled(owed=True)
    before = bench.everything(id)
    assert bench.send(id, "2", dedup_id="k") == Signalled(owed=False, stored=False)
    assert bench.everything(id) == before
    assert bench.send(id, "3", dedup_id="K") == Signalled(owed=True)
    assert bench.send(other, "4", dedup_id="k") == Signalled(owed=True)
    assert [(m.payload, m.dedup_id) for m in bench.mail(id)] == [("1", "k"), ("3", "K")]


def test_events_without_dedup_id_all_count(bench: Bench) -> None:
    id = bench.suspended("event:paid")
    for _ in range(3):
        bench.send(id, "1")
    assert len(bench.mail(id)) == 3
    # Due by the first: the later ones owe no wake of their own.
    assert (bench.run(id).signals, bench.run(id).wake_n) == (3, 2)


# --- publishing


def test_wake_is_owed_until_its_number_is_published(bench: Bench) -> None:
    id = bench.start(delay=MINUTE)
    bench.pass_time(seconds=20)
    owed = bench.journal.owed(id)
    assert (owed.run, owed.number, owed.owed_at) == (id, 1, START)
    assert owed.delay == timedelta(seconds=40)
    bench.journal.published(id, 1)
    assert bench.journal.owed(id) is None
    assert bench.run(id).wake_n == 1


def test_overdue_wake_has_no_negative_delay(bench: Bench) -> None:
    id = bench.start()
    bench.pass_time(seconds=20)
    assert bench.journal.owed(id).delay == timedelta(0)


def test_owed_wake_of_a_run_without_a_time_is_for_now(bench: Bench) -> None:
    id = bench.start()
    bench.alter(id, due_at=None)
    assert bench.journal.owed(id).delay == timedelta(0)


def test_published_with_a_stale_number_changes_nothing(bench: Bench) -> None:
    id = bench.start(delay=MINUTE)
    assert bench.journal.rearm(Rearm(id=id, wake=1))
    before = bench.everything(id)
    for stale in (0, 1, 3):
        bench.journal.published(id, stale)
    bench.journal.published(uuid.uuid4(), 2)
    assert bench.everything(id) == before
    assert bench.journal.owed(uuid.uuid4()) is None


def test_rearm_is_won_once(bench: Bench) -> None:
    id = bench.start(delay=MINUTE)
    bench.journal.published(id, 1)
    bench.pass_time(seconds=5)
    assert bench.journal.rearm(Rearm(id=id, wake=1)) is True
    assert bench.journal.rearm(Rearm(id=id, wake=1)) is False
    run = bench.run(id)
    assert (run.wake_n, run.owed_at, run.due_at) == (2, bench.time, START + MINUTE)


def test_rearm_of_what_needs_none(bench: Bench) -> None:
    leased, waiting, paused = bench.held()[0], bench.suspended("event:x"), bench.start()
    bench.alter(paused, status=RunStatus.PAUSED)
    for id in (leased, waiting, paused, uuid.uuid4()):
        assert bench.journal.rearm(Rearm(id=id, wake=1)) is False
    assert bench.run(leased).wake_n == bench.run(waiting).wake_n == 1


def test_rearm_of_a_run_that_came_due_meanwhile_still_wakes(bench: Bench) -> None:
    id = bench.start(delay=MINUTE)
    bench.pass_time(minutes=2)
    assert bench.journal.rearm(Rearm(id=id, wake=1)) is True
    assert bench.journal.owed(id).delay == timedelta(0)


def test_find_owed_oldest_first(bench: Bench) -> None:
    ids = []
    for _ in range(3):
        ids.append(bench.start())
        bench.pass_time(seconds=1)
    done = bench.start()
    bench.journal.published(done, 1)
    bench.time = START + timedelta(seconds=16)
    find = bench.journal.find_owed
    assert list(find(older_than=timedelta(seconds=15), limit=9)) == ids[:1]
    bench.pass_time(seconds=30)
    assert list(find(older_than=timedelta(seconds=15), limit=9)) == ids
    assert list(find(older_than=timedelta(seconds=15), limit=2)) == ids[:2]


# --- the sweeper


def nudge(bench: Bench, limit: int = 9) -> list[uuid.UUID]:
    return list(bench.journal.nudge(overdue=timedelta(seconds=30), limit=limit))


def test_nudge_of_overdue_runs(bench: Bench) -> None:
    lost, waiting = bench.start(), bench.suspended("event:x")
    dead, _ = bench.held()
    bench.pass_time(seconds=1)
    later, owing = bench.start(), bench.start(run_id="owing")
    for id in (lost, later):
        bench.journal.published(id, 1)
    bench.time = START + timedelta(seconds=30)
    assert nudge(bench) == []
    bench.pass_time(microseconds=1)
    assert nudge(bench) == [lost]
    run = bench.run(lost)
    assert (run.wake_n, run.owed_at, run.nudges, run.nudged_at) == (2, bench.time, 1, bench.time)
    assert run.due_at == START  # moving it would delay the very wake that is being sent
    bench.pass_time(days=1)
    assert nudge(bench) == [later, dead]
    assert bench.run(owing).wake_n == bench.run(waiting).wake_n == 1


def test_nudges_back_off_up_to_an_hour(bench: Bench) -> None:
    id = bench.start()
    bench.journal.published(id, 1)
    bench.pass_time(hours=2)
    for number, wait in enumerate([0, 60, 120, 240, 480, 960, 1920, 3600, 3600], start=1):
        bench.pass_time(seconds=wait)
        if wait:
            assert nudge(bench) == [], wait
            bench.pass_time(microseconds=1)
        assert nudge(bench) == [id], wait
        assert bench.run(id).nudges == number
        assert nudge(bench) == []  # owed: find_owed's business
        bench.journal.published(id, number + 1)


def test_runs_that_back_off_hide_no_others(bench: Bench) -> None:
    old = [bench.start() for _ in range(3)]
    bench.pass_time(seconds=1)
    new = bench.start()
    for id in (*old, new):
        bench.journal.published(id, 1)
    bench.pass_time(hours=1)
    assert set(nudge(bench, limit=3)) == set(old)
    for id in old:
        bench.journal.published(id, 2)
    assert nudge(bench, limit=3) == [new]


@pytest.mark.parametrize("status", [RunStatus.PAUSED, *OVER])
def test_only_active_runs_are_nudged(bench: Bench, status: RunStatus) -> None:
    id = bench.start()
    bench.alter(id, status=status, owed_at=None)
    bench.pass_time(hours=1)
    assert nudge(bench) == []


def test_commit_starts_the_nudges_anew(bench: Bench) -> None:
    id, fence = bench.held()
    bench.alter(id, nudges=6)
    bench.journal.suspend(Suspend(fence=fence, seen=0, due=SECOND))
    assert bench.run(id).nudges == 0


def test_unseen_events_are_signalled(bench: Bench) -> None:
    lost, other, over = (bench.suspended("event:paid") for _ in range(3))
    for id, name in ((lost, "paid"), (other, "unknown"), (over, "paid")):
        bench.add_unseen_event(id, name)
        bench.alter(id, signals=0, wake_n=1, owed_at=None, due_at=None)
    bench.alter(over, status=RunStatus.COMPLETED)
    assert list(bench.journal.signal_unseen(limit=9)) == [lost]
    assert (bench.run(lost).signals, bench.run(lost).wake_n) == (1, 2)
    assert (bench.run(other).signals, bench.run(other).wake_n) == (1, 1)
    assert bench.run(over).signals == 0
    assert [[m.seen for m in bench.mail(id)] for id in (lost, other, over)] == [
        [True],
        [True],
        [False],
    ]
    assert list(bench.journal.signal_unseen(limit=9)) == []
    assert bench.run(lost).signals == 1


def test_unseen_events_of_a_paused_run_stay_unseen(bench: Bench) -> None:
    id = bench.suspended("event:paid")
    bench.add_unseen_event(id, "paid")
    bench.alter(id, status=RunStatus.PAUSED)
    assert list(bench.journal.signal_unseen(limit=9)) == []
    assert [m.seen for m in bench.mail(id)] == [False]


def test_release_leaves_the_owed_wake_alone(bench: Bench) -> None:
    id, fence = bench.held()
    bench.alter(id, owed_at=START)
    bench.journal.release(Release(fence=fence))
    assert (bench.run(id).wake_n, bench.run(id).owed_at) == (1, START)


@pytest.mark.parametrize("status", OVER)
def test_no_reason_is_noted_for_a_run_that_is_over(bench: Bench, status: RunStatus) -> None:
    id = bench.start()
    bench.alter(id, status=status)
    bench.journal.note_blocked(id, "workflow w is not registered")
    assert bench.run(id).blocked == ""


def test_note_blocked_writes_only_the_reason(bench: Bench) -> None:
    id = bench.start()
    before = bench.run(id)
    bench.journal.note_blocked(id, "workflow w is not registered")
    assert bench.run(id) == replace(before, blocked="workflow w is not registered")
    bench.journal.note_blocked(uuid.uuid4(), "x")


def test_marks(bench: Bench) -> None:
    assert bench.journal.marked_at("sweep") is None
    bench.journal.mark("sweep")
    bench.pass_time(seconds=5)
    assert bench.journal.marked_at("sweep") == START
    bench.journal.mark("sweep")
    bench.journal.mark("other")
    assert bench.journal.marked_at("sweep") == bench.time


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_outside_a_transaction_actions_are_called_at_once(bench: Bench) -> None:
    calls = []
    bench.journal.on_commit(lambda: calls.append(1))
    assert calls == [1]
    assert bench.journal.in_transaction() is False
