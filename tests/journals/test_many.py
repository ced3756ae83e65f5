"""Many runs in one transition: started, owed and published, the same for every journal."""

import uuid

import pytest

from django_hookflow.core.transitions import Conflict, Trigger, Triggered
from tests.journals.bench import Bench, Crash

pytestmark = pytest.mark.django_db(databases="__all__")


def of(run_id: str = "", data: str = "[1]") -> Trigger:
    id = uuid.uuid4()
    return Trigger(id=id, run_id=run_id or str(id), workflow_id="w", version="", seed=7, data=data)


def test_all_are_created_in_order(bench: Bench) -> None:
    many = [of(), of("order-1"), of()]
    answers = bench.journal.trigger_many(many)
    assert answers == [Triggered(id=each.id, created=True) for each in many]
    assert [bench.journal.look(each.id).owed_at for each in many] == [bench.time] * 3


def test_more_than_one_batch(bench: Bench) -> None:
    many = [of(f"order-{n}") for n in range(1100)]
    assert all(answer.created for answer in bench.journal.trigger_many(many))
    again = bench.journal.trigger_many([of(f"order-{n}") for n in range(1100)])
    assert again == [Triggered(id=each.id, created=False) for each in many]


def test_one_conflict_and_none_is_written(bench: Bench) -> None:
    bench.start("order-1")
    many = [of(), of("order-1"), of("order-2")]
    assert Conflict(workflow_id="w") in bench.journal.trigger_many(many)
    assert [bench.journal.look(each.id) for each in many] == [None] * 3


def test_names_differ_by_case(bench: Bench) -> None:
    bench.journal.trigger_many([of("Order"), of("order")])
    answers = bench.journal.trigger_many([of("ORDER"), of("order")])
    assert [answer.created for answer in answers] == [True, False]


def test_none_at_all(bench: Bench) -> None:
    assert bench.journal.trigger_many([]) == []
    assert bench.journal.owed_many([]) == []
    bench.journal.published_many({})


@pytest.mark.parametrize("point", ["trigger:before", "trigger:inside"])
def test_a_crash_before_the_commit_leaves_none(bench: Bench, point: str) -> None:
    many = [of(), of("order-1")]
    bench.crash_at = point
    with pytest.raises(Crash):
        bench.journal.trigger_many(many)
    assert [bench.journal.look(each.id) for each in many] == [None, None]


def test_what_many_runs_owe_is_read_and_noted_at_once(bench: Bench) -> None:
    ids = [bench.start() for _ in range(3)]
    bench.journal.published(ids[1], 1)
    owed = bench.journal.owed_many([*ids, uuid.uuid4()])
    assert {(each.run, each.number) for each in owed} == {(ids[0], 1), (ids[2], 1)}
    bench.journal.published_many({ids[0]: 1, ids[2]: 7})  # 7 was never its number
    assert [each.run for each in bench.journal.owed_many(ids)] == [ids[2]]
