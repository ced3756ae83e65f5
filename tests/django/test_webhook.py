"""The webhook's answers, over the real journal on every database."""

import base64
import hashlib
import json
import logging
import time
from datetime import timedelta

import django
import jwt
import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ObjectDoesNotExist
from django.db import connections, transaction
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_hookflow import RetryPolicy, workflow
from django_hookflow.conf import options
from tests.app.models import Effect

from .harness import (
    KEY,
    PATH,
    URL,
    apost,
    drain,
    hookflow_settings,
    messages,
    post,
    row,
    signature,
    wake,
)

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


def effect(run_id, step):
    Effect.objects.using(options.database).create(run_id=run_id, step=step)


@workflow(workflow_id="tests.webhook.sync")
def sync_flow(ctx):
    ctx.step.run("one", effect, ctx.run_id, "one")
    ctx.step.atomic("two", effect, ctx.run_id, "two")
    return {"run": ctx.run_id, "data": ctx.data}


@workflow(workflow_id="tests.webhook.async")
async def async_flow(ctx):
    await ctx.step.run("one", effect, ctx.run_id, "one")
    await ctx.step.atomic("two", effect, ctx.run_id, "two")
    return {"run": ctx.run_id, "data": ctx.data}


@pytest.fixture(autouse=True)
def project(alias):
    with hookflow_settings(alias):
        messages()
        yield
        messages()


@pytest.fixture(params=["sync", "async"])
def flow(request):
    return sync_flow if request.param == "sync" else async_flow


@pytest.fixture(params=["wsgi", "asgi"])
def deliver(request):
    if request.param == "wsgi":
        return lambda body, token=None, **more: post(Client(), body, token, **more)

    async def over_asgi(body, token=None, **more):
        return await apost(AsyncClient(), body, token, **more)

    return async_to_sync(over_asgi)


def bodies(run_id):
    found = Effect.objects.using(options.database).filter(run_id=run_id)
    return sorted(found.values_list("step", flat=True))


def test_a_delivery_runs_the_workflow_to_its_end(flow, deliver, alias):
    run_id = flow.trigger({"n": 1}, run_id="order/1")
    response = deliver(wake(run_id, alias=alias))
    assert (response.status_code, response.json()) == (200, {"status": "done"})
    run = row(run_id, alias)
    assert (run.status, run.result) == ("completed", {"run": "order/1", "data": {"n": 1}})
    assert [(s.step_id, s.kind, s.status, s.attempts) for s in run.steps.order_by("seq")] == [
        ("one", "run", "completed", 1),
        ("two", "atomic", "completed", 1),
    ]
    assert deliver(wake(run_id, alias=alias)).json() == {"status": "done"}
    assert bodies(run_id) == ["one", "two"]


def test_the_message_is_small(flow, alias):
    flow.trigger({"n": "x" * 10_000})
    [message] = messages()
    assert len(message.body.encode()) <= 300


def test_a_ping_is_answered_without_the_database(deliver, alias):
    body = b'{"v":1,"ping":"0123456789abcdef"}'
    with CaptureQueriesContext(connections[alias]) as queries:
        response = deliver(body)
    assert (response.status_code, response.json()) == (200, {"status": "pong"})
    assert len(queries) == 0
    assert deliver(body, signature(body + b" ")).status_code == 401


@pytest.mark.parametrize("method", ["get", "put", "delete", "head", "options"])
def test_only_post(method):
    response = getattr(Client(), method)(PATH)
    assert response.status_code == 405
    assert response["Allow"] == "POST"


def tampered(raw, url=URL, **claims):
    now = int(time.time())
    digest = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).decode()
    full = {
        "iss": "Upstash", "sub": url, "iat": now, "nbf": now, "exp": now + 300,
        "jti": "jwt_x", "body": digest, **claims,
    }  # fmt: skip
    return jwt.encode({k: v for k, v in full.items() if v is not None}, KEY, "HS256")


def refused_tokens(body):
    return {
        "none": "",
        "garbage": "a.b.c",
        "other body": signature(body + b" "),
        "other url": signature(body, url=URL + "x"),
        "http url": signature(body, url=URL.replace("https", "http")),
        "other key": signature(body, key="sig_some_other_key_0123456789abcd"),
        "expired": signature(body, now=time.time() - 1000),
        "future": signature(body, now=time.time() + 1000),
        "issuer": tampered(body, iss="Somebody"),
        "no exp": tampered(body, exp=None),
        "no body": tampered(body, body=None),
        "hex body": tampered(body, body=hashlib.sha256(body).hexdigest()),
        "unsigned": jwt.encode({"iss": "Upstash", "sub": URL}, None, "none"),
    }


def test_what_is_not_genuine_is_refused_without_a_query(alias, django_assert_num_queries, deliver):
    run_id = sync_flow.trigger()
    body = wake(run_id, alias=alias)
    for name, token in refused_tokens(body).items():
        with django_assert_num_queries(0, using=alias):
            response = deliver(body, token)
        assert (name, response.status_code, response.content) == (name, 401, b"")
    assert row(run_id, alias).status == "pending"
    assert bodies(run_id) == []


def test_the_sdk_s_algorithm_is_accepted_with_and_without_padding(alias, deliver):
    for strip in (False, True):
        run_id = sync_flow.trigger()
        body = wake(run_id, alias=alias)
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode()
        token = tampered(body, body=digest.rstrip("=") if strip else digest, nbf=0)
        assert deliver(body, token).status_code == 200
        assert row(run_id, alias).status == "completed"


def test_behind_a_proxy_with_another_host(alias):
    run_id = sync_flow.trigger()
    response = post(
        Client(),
        wake(run_id, alias=alias),
        HTTP_HOST="127.0.0.1",
        HTTP_X_FORWARDED_HOST="evil.example",
        HTTP_X_FORWARDED_PROTO="http",
    )
    assert response.status_code == 200
    assert row(run_id, alias).status == "completed"


def test_with_login_required_middleware(alias, settings, deliver):
    if django.VERSION >= (5, 1):  # it came with 5.1; earlier ones have nothing to refuse us
        settings.MIDDLEWARE = [
            *settings.MIDDLEWARE,
            "django.contrib.auth.middleware.LoginRequiredMiddleware",
        ]
    run_id = sync_flow.trigger()
    assert deliver(wake(run_id, alias=alias)).status_code == 200


def test_csrf_is_not_asked_for(alias):
    run_id = sync_flow.trigger()
    client = Client(enforce_csrf_checks=True)
    assert post(client, wake(run_id, alias=alias)).status_code == 200


def test_atomic_requests_do_not_wrap_the_delivery(alias, flow, deliver):
    connections[alias].settings_dict["ATOMIC_REQUESTS"] = True
    try:
        run_id = flow.trigger()
        assert deliver(wake(run_id, alias=alias)).status_code == 200
        assert row(run_id, alias).status == "completed"
    finally:
        connections[alias].settings_dict["ATOMIC_REQUESTS"] = False


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"\xff", b'{"v":1,"run":"x","w":1}'])
def test_a_signed_body_that_is_no_message_is_never_tried_again(body, deliver):
    response = deliver(body)
    assert response.status_code == 489
    assert response["Upstash-NonRetryable-Error"] == "true"


def test_a_newer_message_waits_for_the_deploy(deliver):
    response = deliver(b'{"v":2,"something":"new"}')
    assert (response.status_code, response["Retry-After"]) == (503, "30")


def test_a_large_body_is_refused_before_its_signature(deliver):
    assert deliver(b"x" * 20_000, "whatever").status_code == 413


def test_an_unknown_run_is_told_loudly(deliver, caplog):
    body = b'{"v":1,"run":"01900000-0000-7000-8000-0000000000ab","w":1}'
    response = deliver(body)
    assert response.status_code == 489
    assert any(r.levelno == logging.ERROR and "01900000" in r.getMessage() for r in caplog.records)


def test_a_stale_wake_costs_one_query(alias, django_assert_num_queries):
    run_id = sync_flow.trigger()
    body = wake(run_id, alias=alias)
    post(Client(), body)
    with django_assert_num_queries(1, using=alias):
        assert post(Client(), body).json() == {"status": "done"}


def test_a_sweep_order_sends_what_is_owed(alias, deliver):
    sync_flow.trigger(run_id="owed")
    messages()
    model = type(row("owed", alias))
    model.objects.using(alias).filter(run_id="owed").update(
        owed_at=timezone.now() - timedelta(seconds=16)
    )
    response = deliver(json.dumps({"v": 1, "sweep": 1}).encode())
    assert response.json() == {"status": "sent 1, still owed 0"}
    [message] = messages()
    assert str(row("owed", alias).id) in message.body


def test_errors_out_of_the_body_are_answered_200_and_written(alias, deliver):
    @workflow(workflow_id="tests.webhook.broken")
    def broken(ctx):
        raise LookupError("no such order\nforged line")

    run_id = broken.trigger()
    assert deliver(wake(run_id, alias=alias)).status_code == 200
    run = row(run_id, alias)
    assert run.status == "failed"
    assert run.error == {
        "type": "LookupError", "message": "no such order\nforged line", "step": None,
    }  # fmt: skip


def test_a_step_inside_the_body_s_atomic_block_is_refused_before_it_executes(alias, deliver):
    @workflow(workflow_id="tests.webhook.nested")
    def nested(ctx):
        with transaction.atomic(using=alias):
            ctx.step.run("inside", effect, ctx.run_id, "inside")

    run_id = nested.trigger()
    assert deliver(wake(run_id, alias=alias)).status_code == 200
    run = row(run_id, alias)
    assert run.status == "failed"
    assert "ctx.step.atomic" in run.error["message"]
    assert bodies(run_id) == []


def test_atomic_rolls_back_with_its_record(alias):
    @workflow(workflow_id="tests.webhook.rollback")
    def rolls_back(ctx):
        def writes_then_fails():
            Effect.objects.using(alias).create(run_id=ctx.run_id, step="lost")
            raise ValueError("no")

        steps = ctx.step.options(retry=RetryPolicy(max_attempts=2, initial_delay=0))
        steps.atomic("book", writes_then_fails)

    run_id = rolls_back.trigger()
    post(Client(), wake(run_id, alias=alias))
    assert row(run_id, alias).error["step"] == "book"
    assert not Effect.objects.using(alias).filter(run_id=run_id).exists()


@pytest.mark.other_databases
def test_atomic_refuses_writes_to_another_alias(alias, deliver):
    other = next((name for name in connections if name != alias), None)
    if other is None:
        pytest.skip("needs a second database")

    @workflow(workflow_id="tests.webhook.elsewhere")
    def elsewhere(ctx):
        def writes_elsewhere():
            Effect.objects.using(other).count()  # reading is fine
            Effect.objects.using(alias).create(run_id=ctx.run_id, step="here")
            Effect.objects.using(other).create(run_id=ctx.run_id, step="there")

        ctx.step.atomic("book", writes_elsewhere)

    run_id = elsewhere.trigger()
    deliver(wake(run_id, alias=alias))
    error = row(run_id, alias).error
    assert other in error["message"]
    assert "ctx.step.run" in error["message"]
    for name in (alias, other):
        assert not Effect.objects.using(name).exists()


def test_trigger_from_a_body_is_refused_and_from_a_step_allowed(alias):
    @workflow(workflow_id="tests.webhook.starter")
    def starter(ctx):
        ctx.step.run("start", sync_flow.trigger, run_id="child-1")
        sync_flow.trigger(run_id="child-2")

    run_id = starter.trigger()
    drain(Client())
    assert "ctx.step.run" in row(run_id, alias).error["message"]
    assert row("child-1", alias).status == "completed"
    with pytest.raises(ObjectDoesNotExist):
        row("child-2", alias)
