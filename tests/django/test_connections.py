"""Connections: given back while a step waits, kept while it reads, gone afterwards."""

import asyncio
import threading
import time
import uuid
from contextlib import contextmanager
from datetime import timedelta
from typing import ClassVar

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.db import connections, transaction
from django.test import AsyncClient, Client, override_settings

from django_hookflow import RetryPolicy, workflow
from django_hookflow.conf import options
from django_hookflow.engine.leases import Lease, LeaseKeeper
from django_hookflow.exceptions import ConfigurationError
from django_hookflow.runtime import runtime
from django_hookflow.transports.memory import MemoryTransport
from tests.app.models import Effect

from .harness import apost, drain, hookflow_settings, messages, row, wake

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture(autouse=True)
def project(alias):
    with hookflow_settings(alias):
        messages()
        yield
        messages()


@async_to_sync
async def deliver(body):
    return await apost(AsyncClient(), body)


async def read_slowly():
    seen = 0
    rows = Effect.objects.using(options.database).order_by("pk")
    async for _ in rows.aiterator(chunk_size=10):
        seen += 1
        if seen % 10 == 0:
            await asyncio.sleep(0.05)
    return seen


@workflow(workflow_id="tests.connections.reads", retry=ONCE)
async def reads(ctx):
    return await ctx.step.run("iterate", read_slowly)


def test_a_step_that_reads_slowly_keeps_its_connection(alias):
    rows = [Effect(run_id="x", step=str(n)) for n in range(100)]
    Effect.objects.using(alias).bulk_create(rows)
    run_id = reads.trigger()
    deliver(wake(run_id, alias=alias))
    run = row(run_id, alias)
    assert (run.status, run.result) == ("completed", 100), run.error


async def wait_and_look():
    await asyncio.sleep(0.3)
    return await sync_to_async(lambda: connections[options.database].connection is None)()


@workflow(workflow_id="tests.connections.waits", retry=ONCE)
async def waits(ctx):
    await ctx.step.run("used before", lambda: Effect.objects.using(options.database).count())
    return await ctx.step.run("wait", wait_and_look)


def test_a_step_that_waits_for_something_else_holds_no_connection(alias):
    run_id = waits.trigger()
    deliver(wake(run_id, alias=alias))
    assert row(run_id, alias).result is True


# --- what is given back


def connected():
    """Whether the workflow's own thread holds a connection, asked from async code."""
    return sync_to_async(lambda: connections[options.database].connection is not None)()


async def look_meanwhile():
    await asyncio.sleep(0.3)
    return await connected()


LOOKED = threading.Event()


async def look_beside():
    try:
        return await look_meanwhile()
    finally:
        LOOKED.set()


@workflow(workflow_id="tests.connections.beside", retry=ONCE)
async def beside(ctx):
    found, *_ = await asyncio.gather(
        ctx.step.run("look", look_beside),
        ctx.step.run("left", LOOKED.wait, 30),
        ctx.step.run("right", LOOKED.wait, 30),
    )
    return found


def test_def_steps_on_the_pool_leave_no_connection_behind_on_the_workflows_thread(alias):
    LOOKED.clear()
    run_id = beside.trigger()
    deliver(wake(run_id, alias=alias))
    assert row(run_id, alias).result is False


class SlowTransport(MemoryTransport):
    """A message service that takes its time, and looks around meanwhile."""

    found: ClassVar[list[bool]] = []

    async def apublish(self, *messages):
        self.found.append(await look_meanwhile())
        await super().apublish(*messages)


@workflow(workflow_id="tests.connections.naps", retry=ONCE)
async def naps(ctx):
    await ctx.step.sleep("nap", 60)


def test_no_connection_is_held_while_a_wake_up_is_published(alias):
    SlowTransport.found.clear()
    run_id = naps.trigger()
    with override_settings(DJANGO_HOOKFLOW_TRANSPORT=f"{__name__}.SlowTransport"):
        deliver(wake(run_id, alias=alias))
    assert SlowTransport.found == [False]
    assert row(run_id, alias).owed_at is None


async def trigger_meanwhile():
    await connected()
    first = await sync_to_async(lambda: connections[options.database].connection)()
    await naps.atrigger()
    return first is await sync_to_async(lambda: connections[options.database].connection)()


def test_a_callers_own_connection_is_left_alone_while_its_run_is_published(alias):
    Effect.objects.using(alias).count()
    with override_settings(DJANGO_HOOKFLOW_TRANSPORT=f"{__name__}.SlowTransport"):
        assert async_to_sync(trigger_meanwhile)() is True


def test_the_lease_keeper_holds_no_connection_between_two_beats():
    calls = []

    class Journal:
        def beat(self, transition):
            calls.append("beat")
            return []

        def close_thread(self):
            calls.append("close")

    keeper = LeaseKeeper(Journal(), lambda: timedelta(seconds=0.15))
    lease = Lease(uuid.uuid4(), 1)
    keeper.hold(lease)
    end = time.monotonic() + 30
    while len(calls) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    assert calls[:4] == ["beat", "close", "beat", "close"]
    keeper.drop(lease)


# --- several databases


class Replicas:
    """A router that sends everything of ours elsewhere; the engine must not ask it."""

    def __init__(self, elsewhere):
        self.elsewhere = elsewhere
        self.asked = []

    def db_for_read(self, model, **hints):
        if model._meta.app_label != "django_hookflow":
            return None
        self.asked.append(model.__name__)
        return self.elsewhere

    db_for_write = db_for_read

    def allow_relation(self, left, right, **hints):
        return True


@pytest.fixture
def other(alias):
    """An alias that is not the journal's."""
    return next(name for name in settings.DATABASES if name != alias)


def broken():
    raise ValueError("no")


@workflow(workflow_id="tests.connections.both", retry=ONCE)
async def both(ctx):
    await ctx.step.run("read", lambda: Effect.objects.using(options.database).count())
    await ctx.step.atomic("write", lambda: Effect.objects.using(options.database).create().pk)
    if ctx.data.get("fails"):
        await ctx.step.run("broken", broken)
    await ctx.step.sleep("nap", 0.01)
    return "done"


@pytest.mark.skipif(len(settings.DATABASES) < 2, reason="needs two databases")
def test_no_row_of_a_run_is_read_from_a_replica_or_written_by_a_router(alias, other):
    router = Replicas(other)
    with override_settings(DATABASE_ROUTERS=[router]):
        run_id, failing = both.trigger(), both.trigger({"fails": True})
        both.trigger_many([{}, {}])
        drain(Client())
        run, failed = row(run_id, alias), row(failing, alias)
        assert (run.status, failed.status) == ("completed", "failed"), run.error
        assert run.get_result() == "done"
        failed.retry()
        failed.cancel()
        runtime.wakes.sweep()
    assert router.asked == []


@pytest.mark.skipif(len(settings.DATABASES) < 2, reason="needs two databases")
@pytest.mark.other_databases
def test_a_transaction_on_another_alias_neither_holds_a_run_back_nor_takes_it_along(alias, other):
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=other):
        run_id = naps.trigger()
        assert len(messages()) == 1
        raise ZeroDivisionError
    assert row(run_id, alias).status == "pending"


def test_atomic_requests_on_every_alias_do_not_wrap_a_delivery(alias):
    run_id = both.trigger()
    with all_aliases(ATOMIC_REQUESTS=True):
        deliver(wake(run_id, alias=alias))
    assert row(run_id, alias).steps.count() == 3


@contextmanager
def all_aliases(**changes):
    before = {connection: dict(connection.settings_dict) for connection in connections.all()}
    for connection in before:
        connection.settings_dict.update(changes)
    try:
        yield
    finally:
        for connection, settings_dict in before.items():
            connection.settings_dict.update(settings_dict)


# --- autocommit


@contextmanager
def manual(alias):
    connections[alias].set_autocommit(False)
    try:
        yield
    finally:
        connections[alias].rollback()
        connections[alias].set_autocommit(True)


def test_without_autocommit_nothing_is_started_that_would_never_be_committed(alias):
    with manual(alias), pytest.raises(ConfigurationError, match="not in autocommit mode"):
        naps.trigger(run_id="never")
    assert not naps.runs.using(alias).exists()
    assert messages() == []


def test_with_autocommit_off_in_the_settings_a_delivery_executes_nothing(alias):
    run_id = both.trigger()
    body = wake(run_id, alias=alias)
    connections[alias].close()
    with all_aliases(AUTOCOMMIT=False), pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
        deliver(body)
    connections[alias].close()
    run = row(run_id, alias)
    assert (run.status, run.epoch) == ("pending", 0)
