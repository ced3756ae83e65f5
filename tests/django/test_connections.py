"""Connections: given back while a step waits, kept while it reads, gone afterwards."""

import asyncio

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections
from django.test import AsyncClient

from django_hookflow import RetryPolicy, workflow
from django_hookflow.conf import options
from tests.app.models import Effect

from .harness import apost, hookflow_settings, messages, row, wake

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
