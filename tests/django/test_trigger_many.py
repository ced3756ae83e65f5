"""Starting many runs at once: all or none, in batches, woken together."""

from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_hookflow import Start, workflow
from django_hookflow.core.messages import parse_message
from django_hookflow.exceptions import RunConflict, SerializationError
from django_hookflow.runtime import runtime

from .harness import drain, hookflow_settings, messages, row

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


@workflow(workflow_id="tests.many.double")
async def double(ctx):
    return ctx.data["n"] * 2


@pytest.fixture(autouse=True)
def project(alias):
    with hookflow_settings(alias):
        messages()
        yield
        messages()


@pytest.fixture(params=["plain", "awaited"])
def many(request):
    if request.param == "plain":
        return double.trigger_many
    return async_to_sync(double.atrigger_many)


def count(alias: str) -> int:
    return double.runs.using(alias).count()


def test_every_item_becomes_a_run_and_is_woken(many, alias):
    ids = many([{"n": n} for n in range(7)])
    assert len(messages()) == 7
    assert [row(id, alias).data for id in ids] == [{"n": n} for n in range(7)]


def test_the_runs_go_to_their_ends(many, alias):
    ids = many({"n": n} for n in range(3))
    assert drain(Client()) == 3
    assert [row(id, alias).get_result() for id in ids] == [0, 2, 4]


def test_an_item_may_say_more_than_its_data(many, alias):
    [named, late] = many([Start({"n": 1}, run_id="order-1"), Start({"n": 2}, delay=60)])
    assert named == "order-1"
    assert row(late, alias).due_at - row(late, alias).created_at == timedelta(seconds=60)
    assert sorted(message.delay for message in messages()) == [0, 60]


def test_a_run_that_is_there_already_is_not_started_again(many, alias):
    many([Start({"n": 1}, run_id="a")])
    messages()
    again = many([Start({"n": 1}, run_id="a"), Start({"n": 2}, run_id="b")])
    assert again == ["a", "b"]
    assert [parse_message(m.body.encode()).run for m in messages()] == [row("b", alias).id]


def test_the_same_run_twice_in_one_call_is_one_run(many, alias):
    assert many([Start({"n": 1}, run_id="a"), Start({"n": 1}, run_id="a")]) == ["a", "a"]
    assert count(alias) == 1
    other_order = [Start({"n": 1, "m": 2}, run_id="c"), Start({"m": 2, "n": 1}, run_id="c")]
    assert many(other_order) == ["c", "c"]
    assert count(alias) == 2
    with pytest.raises(RunConflict, match=r"'b' is asked for twice"):
        many([Start({"n": 1}, run_id="b"), Start({"n": 2}, run_id="b")])
    assert count(alias) == 2


def test_one_conflict_and_nothing_is_written(many, alias):
    many([Start({"n": 1}, run_id="taken")])
    messages()
    with pytest.raises(RunConflict, match="'taken' exists already"):
        many([Start({"n": 7}), Start({"n": 2}, run_id="taken"), Start({"n": 3}, run_id="free")])
    assert count(alias) == 1
    assert messages() == []


def test_a_conflict_does_not_break_the_callers_transaction(many, alias):
    many([Start({"n": 1}, run_id="taken")])
    with transaction.atomic(using=alias):
        with pytest.raises(RunConflict):
            many([Start({"n": 5}, run_id="mine"), Start({"n": 2}, run_id="taken")])
        many([Start({"n": 3}, run_id="after")])
    assert sorted(double.runs.using(alias).values_list("run_id", flat=True)) == ["after", "taken"]


WRONG: list[tuple[Any, type[Exception], str]] = [
    ([{"n": 1}, {"n": object()}], SerializationError, r"items\[1\]: .*n"),
    ([{"n": 1}, Start({}, run_id="no spaces")], ValueError, r"items\[1\]: run_id"),
    ([Start({}, delay=-1)], ValueError, r"items\[0\]: delay"),
    ([Start({}, delay="1")], TypeError, r"items\[0\]: delay"),
    ([Start({}, run_id=7)], TypeError, r"items\[0\]: run_id"),
    ({"n": 1}, TypeError, "list of data"),
    ("data", TypeError, "list of data"),
    (Start({}), TypeError, "list of data"),
    (None, TypeError, "list of data"),
    (7, TypeError, "list of data"),
]


@pytest.mark.parametrize(("items", "error", "text"), WRONG)
def test_a_wrong_item_is_named_and_nothing_is_written(many, alias, items, error, text):
    with pytest.raises(error, match=text):
        many(items)
    assert count(alias) == 0
    assert messages() == []


def test_no_items_are_no_runs(many, alias):
    assert many([]) == []


def test_a_rolled_back_block_leaves_no_run_and_no_message(many, alias):
    class Undo(Exception):
        pass

    with pytest.raises(Undo), transaction.atomic(using=alias):
        many([{"n": 1}, {"n": 2}])
        raise Undo
    assert (count(alias), messages()) == (0, [])


def test_inside_a_transaction_the_messages_follow_its_commit(many, alias):
    with transaction.atomic(using=alias):
        many([{"n": 1}, {"n": 2}])
        assert messages() == []
    assert len(messages()) == 2


def test_what_cannot_be_sent_stays_owed(many, alias):
    runtime.transport.fail_next()
    ids = many([{"n": n} for n in range(150)])
    assert messages() == []  # one refusal, and the service is not asked a second time
    assert all(run.owed_at for run in double.runs.using(alias))
    assert len(ids) == 150


def test_rows_and_notes_are_written_in_batches(alias):
    with CaptureQueriesContext(connections[alias]) as few:
        double.trigger_many([{"n": n} for n in range(2)])
    with CaptureQueriesContext(connections[alias]) as more:
        double.trigger_many([{"n": n} for n in range(90)])
    # SQLite takes so many values in one INSERT, and no more.
    assert len(more) - len(few) <= 90 // 20
