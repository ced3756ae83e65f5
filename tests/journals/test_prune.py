"""Ended runs are removed with everything that is theirs; the same for every journal."""

import uuid
from datetime import timedelta

import pytest

from django_hookflow.core.entries import TERMINAL, RunStatus
from django_hookflow.core.transitions import Retry, Trigger, Triggered
from django_hookflow.journals.orm import OrmJournal
from tests.journals.bench import Bench, OrmBench

pytestmark = pytest.mark.django_db(databases="__all__")

DAY = timedelta(days=1)


def ended(bench: Bench, status: RunStatus = RunStatus.COMPLETED, **facts):
    id, fence = bench.held()
    bench.record(fence, "a")
    bench.send(id, '"hello"')
    bench.alter(id, status=status, finished_at=bench.time, lease_until=None, due_at=None, **facts)
    return id


def test_what_ended_long_ago_is_removed_with_its_rows(bench: Bench) -> None:
    old = ended(bench)
    bench.pass_time(days=2)
    fresh = ended(bench)
    assert bench.journal.count_ended(older_than=DAY, statuses=TERMINAL) == 1
    assert bench.journal.prune(older_than=DAY, statuses=TERMINAL, limit=10) == 1
    assert (bench.journal.look(old), bench.steps(old), bench.mail(old)) == (None, (), [])
    assert bench.journal.look(fresh) is not None
    assert len(bench.steps(fresh)) == len(bench.mail(fresh)) == 1


def test_what_ended_just_so_long_ago_stays(bench: Bench) -> None:
    ended(bench)
    bench.pass_time(days=1)
    assert bench.journal.count_ended(older_than=DAY, statuses=TERMINAL) == 0
    assert bench.journal.prune(older_than=DAY, statuses=TERMINAL, limit=10) == 0


def test_the_oldest_go_first_and_no_more_than_asked(bench: Bench) -> None:
    first = ended(bench)
    bench.pass_time(hours=1)
    second = ended(bench)
    bench.pass_time(days=2)
    assert bench.journal.prune(older_than=DAY, statuses=TERMINAL, limit=1) == 1
    assert bench.journal.look(first) is None
    assert bench.journal.look(second) is not None


@pytest.mark.parametrize("status", RunStatus)
def test_only_the_asked_statuses_go(bench: Bench, status: RunStatus) -> None:
    id = ended(bench, status)
    bench.pass_time(days=2)
    kept = status is not RunStatus.FAILED
    assert bench.journal.prune(older_than=DAY, statuses=[RunStatus.FAILED], limit=9) == (not kept)
    assert (bench.journal.look(id) is not None) == kept


def test_a_child_outlives_its_parent(bench: Bench) -> None:
    parent = ended(bench)
    child = bench.start()
    bench.alter(child, parent=parent)
    bench.pass_time(days=2)
    assert bench.journal.prune(older_than=DAY, statuses=TERMINAL, limit=10) == 1
    assert bench.run(child).parent is None


def test_nothing_to_remove(bench: Bench) -> None:
    assert bench.journal.prune(older_than=DAY, statuses=TERMINAL, limit=10) == 0


def test_a_run_id_is_free_again_once_its_run_is_removed(bench: Bench) -> None:
    first = bench.start("order-1")
    bench.alter(first, status=RunStatus.FAILED, finished_at=bench.time)
    bench.pass_time(days=2)
    bench.journal.prune(older_than=DAY, statuses=TERMINAL, limit=10)
    assert bench.start("order-1") != first


def test_the_run_ids_of_others_are_taken_still(bench: Bench) -> None:
    ended(bench)
    bench.pass_time(days=2)
    kept = bench.start("order-2")
    assert bench.journal.prune(older_than=DAY, statuses=TERMINAL, limit=10) == 1
    facts = {"workflow_id": "w", "version": "", "seed": 7, "data": '{"n":1}'}
    again = Trigger(id=uuid.uuid4(), run_id="order-2", **facts)
    assert bench.journal.trigger(again) == Triggered(id=kept, created=False)


def test_a_run_that_was_retried_meanwhile_stays(alias: str) -> None:
    """Between the look for old runs and the transaction that removes them."""
    bench = OrmBench(alias)
    id = ended(bench, RunStatus.FAILED)
    bench.pass_time(days=2)
    asked: list[int] = []

    def clock():
        asked.append(1)
        if len(asked) == 2:  # for the look first, then inside the transaction
            bench.journal.retry(Retry(id=id))
        return bench.time

    journal = OrmJournal(alias, clock)
    assert journal.prune(older_than=DAY, statuses=TERMINAL, limit=10) == 0
    assert len(asked) == 2
    assert bench.run(id).status is RunStatus.SUSPENDED


def test_what_is_due_and_nobody_holds_is_found_with_its_wake(bench: Bench) -> None:
    late = bench.suspended(due=timedelta(seconds=1))
    bench.suspended(due=timedelta(hours=1))
    bench.suspended("event:paid")
    bench.pass_time(seconds=30)
    fresh = bench.start()
    bench.held()
    paused = bench.start()
    bench.alter(paused, status=RunStatus.PAUSED)
    assert list(bench.journal.find_due(limit=9)) == [(late, 2), (fresh, 1)]
    assert list(bench.journal.find_due(limit=1)) == [(late, 2)]


def test_a_dead_holders_run_is_due_again(bench: Bench) -> None:
    id, _ = bench.held()
    bench.pass_time(seconds=61)
    assert list(bench.journal.find_due(limit=9)) == [(id, 1)]


def test_a_lease_holds_to_its_last_microsecond(bench: Bench) -> None:
    id, _ = bench.held()
    bench.pass_time(seconds=60)
    assert list(bench.journal.find_due(limit=9)) == []
    bench.pass_time(microseconds=1)
    assert list(bench.journal.find_due(limit=9)) == [(id, 1)]


def test_only_the_asked_workflows_and_versions_are_found(bench: Bench) -> None:
    first = bench.start(workflow_id="a", version="1")
    bench.pass_time(seconds=1)
    second = bench.start(workflow_id="a", version="2")
    bench.pass_time(seconds=1)
    third = bench.start(workflow_id="b", version="1")

    def found(*of: tuple[str, str]) -> list[uuid.UUID]:
        return [id for id, _ in bench.journal.find_due(limit=9, of=of)]

    assert found(("a", "1"), ("b", "1")) == [first, third]
    assert found(("a", "2")) == [second]
    assert found(("b", "2"), ("c", "1")) == []
    assert found() == []
