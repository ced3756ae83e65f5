"""How users write workflows, as mypy sees it: checked by ``tests/test_public_api.py``."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.test import TestCase
from typing_extensions import assert_type

from django_hookflow import (
    Callback,
    CallResponse,
    RetryPolicy,
    Start,
    SyncWorkflowContext,
    WorkflowContext,
    current_step,
    workflow,
)
from django_hookflow.exceptions import StepFailed
from django_hookflow.models import WorkflowRun
from django_hookflow.testing import Hookflow, HookflowMixin


def price(order: str, *, cents: bool = False) -> int:
    return 100 if cents else 1


async def ship(order: str) -> dict[str, str]:
    key = current_step().idempotency_key
    return {"order": order, "key": key}


@workflow
def process(ctx: SyncWorkflowContext[dict[str, str]]) -> str:
    assert_type(ctx.step.run("price", price, "a", cents=True), int)
    assert_type(ctx.step.run("ship", ship, ctx.data["id"]), dict[str, str])
    assert_type(ctx.step.atomic("book", price, "a"), int)
    assert_type(ctx.step.call("get", "https://example.com"), CallResponse)
    ctx.step.sleep("nap", timedelta(days=1))
    cb = ctx.step.callback("approve", expires=timedelta(days=2), confirm="Sure?")
    assert_type(cb, Callback)
    assert_type(ctx.step.run("price", price, cb.url), int)
    assert_type(cb.expires_at, datetime)
    ctx.step.wait_for_callback(cb, timeout=60)
    return "done"


@workflow(workflow_id="typed", retry=RetryPolicy(max_attempts=2))
async def aprocess(ctx: WorkflowContext[Any]) -> str:
    try:
        assert_type(await ctx.step.options(timeout=5).run("price", price, "a"), int)
    except StepFailed as error:
        assert_type(error.is_a(ValueError), bool)
    assert_type(await ctx.step.run("ship", ship, "a"), dict[str, str])
    cb = await ctx.step.callback("approve")
    await ctx.step.wait_for_callback(cb)
    await ctx.step.wait_for_callback("approve")  # type: ignore[arg-type]  # a Callback is asked for
    await ctx.step.run("price", price, 5)  # type: ignore[call-overload]  # a str is asked for
    return "done"


async def start() -> None:
    assert_type(process.trigger(data={"id": "1"}, delay=5), str)
    assert_type(await aprocess.atrigger(run_id="x"), str)


async def start_many() -> None:
    assert_type(process.trigger_many([{"id": "1"}, Start({"id": "2"}, run_id="b")]), list[str])
    assert_type(await aprocess.atrigger_many({"id": str(n)} for n in range(3)), list[str])


def driven(hookflow: Hookflow) -> None:
    assert_type(hookflow.run(process, data={"id": "1"}, run_id="x"), WorkflowRun)
    assert_type(hookflow.trigger(aprocess, delay=timedelta(hours=1)), WorkflowRun)
    assert_type(hookflow.advance(days=7, seconds=0.5), int)
    assert_type(hookflow.drain(), int)
    assert_type(hookflow.now, datetime)
    assert_type(hookflow.errors, list[BaseException])
    assert_type(hookflow.answer("https://example.com/hookflow/callback/x/", {"ok": True}), None)
    hookflow.crash_after("price")
    hookflow.crash_before_record("price#2")
    hookflow.duplicate_deliveries()
    hookflow.lose_next_message()
    hookflow.run(price)  # type: ignore[arg-type]  # a workflow is asked for


class Tests(HookflowMixin, TestCase):
    async def test_it(self) -> None:
        assert_type(await self.hookflow.arun(process), WorkflowRun)
        assert_type(await self.hookflow.atrigger(process), WorkflowRun)
        assert_type(await self.hookflow.aadvance(minutes=5), int)
        assert_type(await self.hookflow.adrain(), int)
