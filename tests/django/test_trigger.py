"""Starting runs: with the caller's transaction, idempotently, and when QStash is down."""

import asyncio
import math
import time
from datetime import datetime, timedelta, timezone

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections, transaction
from django.test import Client, override_settings

from django_hookflow import wakes, workflow
from django_hookflow.engine.place import Body, place
from django_hookflow.exceptions import (
    ConfigurationError,
    RunConflict,
    SerializationError,
    WorkflowDefinitionError,
)
from django_hookflow.runtime import runtime
from tests.app.models import Effect

from .harness import drain, hookflow_settings, messages, row

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


@workflow(workflow_id="tests.trigger.flow")
def flow(ctx):
    return ctx.data


@workflow(workflow_id="tests.trigger.other")
async def other(ctx):
    return ctx.data


@pytest.fixture(autouse=True)
def project(alias):
    with hookflow_settings(alias):
        messages()
        yield
        messages()


@pytest.fixture(params=["trigger", "atrigger"])
def trigger(request):
    def call(target, *args, **kwargs):
        method = getattr(target, request.param)
        return (method if request.param == "trigger" else async_to_sync(method))(*args, **kwargs)

    return call


def count(alias):
    return apps.get_model("django_hookflow", "WorkflowRun").objects.using(alias).count()


class Undo(Exception):
    """Rolls a block back."""


def test_a_run_starts_at_once_outside_a_transaction(trigger, alias):
    run_id = trigger(flow, {"n": 1})
    assert len(messages()) == 1
    assert row(run_id, alias).status == "pending"
    assert row(run_id, alias).data == {"n": 1}


def test_nothing_given_is_an_empty_dict(trigger, alias):
    run_id = trigger(flow)
    drain(Client())
    assert row(run_id, alias).result == {}


def test_a_rolled_back_trigger_leaves_no_row_and_no_message(trigger, alias):
    with pytest.raises(Undo), transaction.atomic(using=alias):
        trigger(flow)
        raise Undo
    assert (count(alias), messages()) == (0, [])


def test_a_rolled_back_savepoint_leaves_no_row_and_no_message(trigger, alias):
    with transaction.atomic(using=alias):
        kept = trigger(flow, run_id="kept")
        with pytest.raises(Undo), transaction.atomic(using=alias):
            trigger(flow, run_id="undone")
            raise Undo
        assert messages() == []  # nothing leaves before the commit
    assert count(alias) == 1
    [message] = messages()
    assert str(row(kept, alias).id) in message.body


def test_the_same_run_again_starts_nothing(trigger, alias):
    assert trigger(flow, {"n": 1}, run_id="order-1") == "order-1"
    assert trigger(flow, {"n": 1}, run_id="order-1") == "order-1"
    assert trigger(flow, {"n": 1, "of": 2}, run_id="order-2") == "order-2"
    assert trigger(flow, {"of": 2, "n": 1}, run_id="order-2") == "order-2"
    assert (count(alias), len(messages())) == (2, 2)
    drain(Client())
    assert trigger(flow, {"n": 1}, run_id="order-1") == "order-1"
    assert messages() == []


@pytest.mark.parametrize("change", ["workflow", "data"])
def test_another_run_of_that_name_is_a_conflict_and_breaks_no_transaction(trigger, alias, change):
    trigger(flow, {"n": 1}, run_id="order-1")
    with transaction.atomic(using=alias):
        Effect.objects.using(alias).create(run_id="before", step="x")
        with pytest.raises(RunConflict, match="order-1"):
            trigger(
                other if change == "workflow" else flow,
                {"n": 1 if change == "workflow" else 2},
                run_id="order-1",
            )
        Effect.objects.using(alias).create(run_id="after", step="x")
    assert Effect.objects.using(alias).count() == 2
    assert count(alias) == 1


def test_data_that_cannot_be_stored_names_the_path_and_writes_nothing(trigger, alias):
    with pytest.raises(SerializationError, match=r"items.*1.*price"):
        trigger(flow, {"items": [{"price": 1}, {"price": object()}]})
    with pytest.raises(SerializationError, match="MAX_VALUE_BYTES"):
        trigger(flow, "x" * (2 << 20))
    assert (count(alias), messages()) == (0, [])


@pytest.mark.parametrize("missing", ["QSTASH_TOKEN", "DJANGO_HOOKFLOW_DOMAIN"])
def test_a_missing_setting_is_told_before_anything_is_written(
    trigger, alias, settings, missing, monkeypatch
):
    monkeypatch.delenv(missing, raising=False)
    setattr(settings, missing, None)
    with pytest.raises(ConfigurationError, match=missing):
        trigger(flow)
    assert (count(alias), messages()) == (0, [])


BAD = [
    ({"run_id": ""}, ValueError, "1 to 128"),
    ({"run_id": "x" * 129}, ValueError, "1 to 128"),
    ({"run_id": "white space"}, ValueError, "letters, digits"),
    ({"run_id": "ünï"}, ValueError, "letters, digits"),
    ({"run_id": "line\n"}, ValueError, "letters, digits"),
    ({"run_id": 5}, TypeError, "run_id is a str"),
    ({"delay": -1}, ValueError, "delay"),
    ({"delay": timedelta(-1)}, ValueError, "negative"),
    ({"delay": "5"}, TypeError, "delay"),
    ({"delay": True}, TypeError, "delay"),
    ({"not_before": datetime(2030, 1, 1)}, ValueError, "aware"),
    ({"not_before": "2030"}, TypeError, "aware"),
    ({"delay": 1, "not_before": datetime(2030, 1, 1, tzinfo=timezone.utc)}, ValueError, "both"),
]


@pytest.mark.parametrize(("wrong", "error", "words"), BAD)
def test_bad_arguments_are_refused(trigger, alias, wrong, error, words):
    with pytest.raises(error, match=words):
        trigger(flow, **wrong)
    assert (count(alias), messages()) == (0, [])


@pytest.mark.parametrize("good", ["a", "x" * 128, "Order:7_a-b.c@d/e"])
def test_good_run_ids(trigger, good):
    assert trigger(flow, run_id=good) == good


def test_run_ids_are_compared_exactly(trigger, alias):
    trigger(flow, run_id="Order")
    trigger(flow, run_id="order")
    assert count(alias) == 2


def test_a_delayed_start_is_delayed(trigger, alias):
    trigger(flow, delay=timedelta(hours=1))
    trigger(flow, not_before=datetime.now(timezone.utc) + timedelta(hours=2))
    first, second = messages()
    assert 3590 <= first.delay <= 3600
    assert 7190 <= second.delay <= 7200


def test_when_qstash_is_down_the_run_is_stored_and_owed(trigger, alias):
    runtime.transport.fail_next(1)
    run_id = trigger(flow)
    assert row(run_id, alias).owed_at is not None
    assert messages() == []


def test_a_process_looks_after_the_runs_of_others_every_now_and_then(trigger, alias, monkeypatch):
    runtime.transport.fail_next(1)
    left = trigger(flow)
    row(left, alias).__class__.objects.using(alias).filter(run_id=left).update(
        owed_at=datetime.now(timezone.utc) - timedelta(minutes=5)
    )
    trigger(flow)
    assert row(left, alias).owed_at is not None  # it is not our turn
    monkeypatch.setattr(wakes._turn, "_last", -math.inf)
    trigger(flow)
    assert row(left, alias).owed_at is None
    assert len(messages()) == 3
    assert not wakes._turn.take()


def test_a_dead_qstash_holds_the_caller_no_longer_than_the_publish_timeout(trigger, alias):
    hosted = "django_hookflow.transports.qstash.QStashTransport"
    down = {"DJANGO_HOOKFLOW_PUBLISH_TIMEOUT": 0.5, "QSTASH_URL": "http://127.0.0.1:9"}
    with override_settings(DJANGO_HOOKFLOW_TRANSPORT=hosted, **down):
        began = time.monotonic()
        run_id = trigger(flow)
        assert time.monotonic() - began < 10
    assert row(run_id, alias).status == "pending"


async def from_async_code():
    flow.trigger()


def test_trigger_in_async_code_names_its_awaitable_twin(alias):
    with pytest.raises(SynchronousOnlyOperation, match=r"await workflow\.atrigger"):
        asyncio.run(from_async_code())
    assert count(alias) == 0


def test_in_a_body_a_trigger_is_refused(trigger, alias):
    token = place.set(Body(run_id="r"))
    try:
        with pytest.raises(WorkflowDefinitionError, match=r"ctx\.step\.run"):
            trigger(flow)
    finally:
        place.reset(token)
    assert count(alias) == 0


def test_missing_tables_say_migrate(trigger, alias):
    run = apps.get_model("django_hookflow", "WorkflowRun")
    with connections[alias].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {run._meta.db_table} RENAME TO hidden")
    try:
        with pytest.raises(ConfigurationError, match=r"manage\.py migrate"):
            trigger(flow)
    finally:
        with connections[alias].cursor() as cursor:
            cursor.execute(f"ALTER TABLE hidden RENAME TO {run._meta.db_table}")


def test_workflow_runs_are_its_own(alias):
    flow.trigger(run_id="mine")
    other.trigger(run_id="theirs")
    assert [run.run_id for run in flow.runs.using(alias)] == ["mine"]
