"""Callbacks in users' tests: answered by the kit, or by Django's own client."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction
from django.test import AsyncClient, Client, TestCase, override_settings

from django_hookflow import workflow
from django_hookflow.exceptions import EventTimeout
from django_hookflow.models import WorkflowRun
from django_hookflow.testing import Hookflow, HookflowMixin, HookflowTestError

sent: list[Any] = []


@workflow(workflow_id="tests.kit.approval")
def approval(ctx: Any) -> Any:
    cb = ctx.step.callback("approve", expires=timedelta(days=2))
    ctx.step.run("mail", sent.append, cb.url)
    try:
        return ctx.step.wait_for_callback(cb, **ctx.data)
    except EventTimeout:
        return "nobody"


@workflow(workflow_id="tests.kit.approval_async")
async def approval_async(ctx: Any) -> Any:
    cb = await ctx.step.callback("approve", expires=timedelta(days=2))
    sent.append(cb)
    return await ctx.step.wait_for_callback(cb)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    sent.clear()
    for name in ("QSTASH_TOKEN", "DJANGO_HOOKFLOW_DOMAIN", "DJANGO_QSTASH_DOMAIN"):
        monkeypatch.delenv(name, raising=False)
    with override_settings(QSTASH_TOKEN="", DJANGO_HOOKFLOW_DOMAIN=""):
        yield


def test_a_callback_is_answered_by_its_url(hookflow: Hookflow) -> None:
    run = hookflow.trigger(approval)
    hookflow.drain()
    assert sent[0].startswith("http://testserver/hookflow/callback/")
    hookflow.answer(sent[0], {"approved": True})
    run.refresh_from_db()
    assert run.status == "suspended", "nobody drives the run but the test"
    hookflow.drain()
    run.refresh_from_db()
    assert (run.status, run.result) == ("completed", {"approved": True})


def test_an_answer_is_what_json_makes_of_it(hookflow: Hookflow) -> None:
    run = hookflow.trigger(approval)
    hookflow.drain()
    for wrong in (object(), {1, 2}, float("nan")):
        with pytest.raises((TypeError, ValueError)):
            hookflow.answer(sent[0], wrong)
    hookflow.answer(sent[0], ("a", 1))
    hookflow.drain()
    run.refresh_from_db()
    assert run.result == ["a", 1]


def test_a_callback_itself_can_be_answered(hookflow: Hookflow) -> None:
    run = hookflow.trigger(approval_async)
    hookflow.drain()
    hookflow.answer(sent[0])
    hookflow.drain()
    run.refresh_from_db()
    assert (run.status, run.result) == ("completed", None)


def test_what_the_view_would_refuse_is_an_error(hookflow: Hookflow) -> None:
    hookflow.trigger(approval)
    hookflow.drain()
    with pytest.raises(HookflowTestError, match="403"):
        hookflow.answer(sent[0][:-3] + "/", 1)
    hookflow.answer(sent[0], 1)
    with pytest.raises(HookflowTestError, match="409: answered already"):
        hookflow.answer(sent[0], 2)
    hookflow.drain()
    with pytest.raises(HookflowTestError, match="409"):
        hookflow.answer(sent[0], 3)


def test_nobody_answers_and_virtual_time_decides(hookflow: Hookflow) -> None:
    began = hookflow.now
    run = hookflow.run(approval)
    assert run.result == "nobody"
    assert timedelta(days=2) <= hookflow.now - began < timedelta(days=2, seconds=5)
    run = hookflow.run(approval, {"timeout": 60})
    assert run.result == "nobody"


def test_a_url_expires_by_virtual_time(hookflow: Hookflow) -> None:
    @workflow(workflow_id="tests.kit.forgetful")
    def forgetful(ctx: Any) -> None:
        sent.append(ctx.step.callback("approve", expires=3600).url)
        ctx.step.sleep("nap", timedelta(days=1))

    hookflow.trigger(forgetful)
    hookflow.advance(hours=2)
    url = sent[0]
    with pytest.raises(HookflowTestError, match="410: expired"):
        hookflow.answer(url, 1)
    assert Client().post(urlsplit(url).path, 1, content_type="application/json").status_code == 410


def test_django_s_client_posts_to_the_url(hookflow: Hookflow) -> None:
    run = hookflow.trigger(approval)
    hookflow.drain()
    response = Client().post(sent[0], {"approved": True}, content_type="application/json")
    assert response.status_code == 202
    hookflow.drain()
    run.refresh_from_db()
    assert run.result == {"approved": True}


def test_an_answer_inside_the_test_s_own_transaction(hookflow: Hookflow) -> None:
    run = hookflow.trigger(approval)
    hookflow.drain()
    with transaction.atomic():
        hookflow.answer(sent[0], 1)
        with pytest.raises(HookflowTestError, match="409"):
            hookflow.answer(sent[0], 2)
    hookflow.drain()
    run.refresh_from_db()
    assert run.result == 1


def test_an_event_inside_the_test_s_own_transaction(hookflow: Hookflow) -> None:
    @workflow(workflow_id="tests.kit.waits")
    def waits(ctx: Any) -> Any:
        return ctx.step.wait_for_event("paid", "paid")

    run = hookflow.trigger(waits)
    hookflow.drain()
    with transaction.atomic():
        run.send_event("paid", 5)
    hookflow.drain()
    run.refresh_from_db()
    assert run.result == 5


def test_in_async_code_the_twin_is_asked_for(hookflow: Hookflow) -> None:
    with pytest.raises(HookflowTestError, match="entered"):
        Hookflow().answer("x")


async def test_the_twin_answers_in_async_tests(hookflow: Hookflow) -> None:
    run = await hookflow.atrigger(approval)
    await hookflow.adrain()
    await hookflow.aanswer(sent[0], "yes")
    await hookflow.adrain()
    await sync_to_async(run.refresh_from_db)()
    assert run.result == "yes"


class Approval(HookflowMixin, TestCase):
    def test_with_unittest(self) -> None:
        run = self.hookflow.trigger(approval)
        self.hookflow.drain()
        self.hookflow.answer(sent[0], "yes")
        self.hookflow.drain()
        assert WorkflowRun.objects.get(pk=run.pk).result == "yes"

    async def test_with_the_async_client(self) -> None:
        run = await self.hookflow.atrigger(approval)
        await self.hookflow.adrain()
        path = urlsplit(sent[0]).path
        answer = await AsyncClient().post(path, "yes", content_type="application/json")
        assert answer.status_code == 400, "the client sends a str as it is"
        answer = await AsyncClient().post(path, '"yes"', content_type="application/json")
        assert answer.status_code == 202
        await self.hookflow.adrain()
        assert (await WorkflowRun.objects.aget(pk=run.pk)).result == "yes"
