"""A callback's URL: each answer of the view, over the real journal on every database."""

import base64
import json
import os
import re
import threading
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import django
import pytest
from asgiref.sync import async_to_sync
from django.core.signing import Signer
from django.db import OperationalError, connections, transaction
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone as django_timezone

from django_hookflow import tickets, workflow
from django_hookflow.core.callbacks import Ticket
from django_hookflow.core.entries import Entry, ErrorRecord, Kind, StepStatus
from django_hookflow.core.transitions import (
    CALLBACK,
    Claim,
    Fence,
    Receive,
    SendEvent,
    Signalled,
)
from django_hookflow.exceptions import EventTimeout
from django_hookflow.models import WorkflowEvent
from django_hookflow.runtime import runtime

from .harness import hookflow_settings, messages, post, row

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

#: Races of two answers on each database.
RACES = int(os.environ.get("HOOKFLOW_TEST_RACES", "60"))
FORM = "application/x-www-form-urlencoded"

mailed: list[str] = []


@workflow(workflow_id="tests.callbacks.asks")
def asks(ctx):
    cb = ctx.step.callback("approve", **ctx.data)
    ctx.step.run("mail", mailed.append, cb.url)
    try:
        got = ctx.step.wait_for_callback(cb)
    except EventTimeout:
        got = "nobody"
    ctx.step.wait_for_event("hold", "hold")
    return got


@workflow(workflow_id="tests.callbacks.asks_later")
async def asks_later(ctx):
    cb = await ctx.step.callback("approve", **ctx.data)
    await ctx.step.run("mail", mailed.append, cb.url)
    await ctx.step.wait_for_event("hold", "hold")
    return await ctx.step.wait_for_callback(cb)


@pytest.fixture(autouse=True)
def project(alias):
    with hookflow_settings(alias):
        messages()
        mailed.clear()
        yield
        messages()


@pytest.fixture(params=["wsgi", "asgi"])
def send(request):
    """A request to a callback's URL, through either of Django's handlers."""

    def over_wsgi(url, data=b'"yes"', content_type="application/json", method="POST", **more):
        client = Client(enforce_csrf_checks=True)
        return client.generic(method, urlsplit(url).path, data, content_type, **more)

    async def over_asgi(url, data=b'"yes"', content_type="application/json", method="POST"):
        client = AsyncClient(enforce_csrf_checks=True)
        return await client.generic(method, urlsplit(url).path, data, content_type)

    return over_wsgi if request.param == "wsgi" else async_to_sync(over_asgi)


def deliver_now():
    """Deliver what is to be delivered now; the messages of expiries stay away."""
    for _ in range(10):
        due = [m for m in messages() if m.delay < 60]
        if not due:
            return
        for message in due:
            assert post(Client(), message.body.encode()).status_code == 200
    raise AssertionError("messages without end")


def started(flow=asks, **data):
    """A run that has given its URL away and waits."""
    run_id = flow.trigger(data)
    deliver_now()
    return run_id, mailed[-1]


def everything(alias, run_id):
    """All that a request could have changed."""
    run = row(run_id, alias)
    facts = {f.attname: getattr(run, f.attname) for f in run._meta.concrete_fields}
    return facts, list(run.steps.values()), list(run.events.values())


def finish(run_id, alias):
    row(run_id, alias).send_event("hold")
    deliver_now()
    return row(run_id, alias)


def status_of(response):
    return response.status_code, response.json()["status"]


# --- 202


@pytest.mark.parametrize(
    "body",
    [b'{"ok": true}', b"null", b"[1, 2.5]", '"é訂"'.encode(), b'"\\u0000"', b'"\\ud800"'],
    ids=range(6),
)
def test_a_post_of_json_answers_the_run(send, alias, body):
    run_id, url = started()
    assert url.startswith("https://app.example/hookflow/callback/")
    response = send(url, body)
    assert status_of(response) == (202, "accepted")
    assert response["Cache-Control"] == "no-store"
    deliver_now()
    run = finish(run_id, alias)
    assert (run.status, run.result) == ("completed", json.loads(body))
    wait = run.steps.get(kind="callback")
    assert (wait.key, wait.event, wait.status) == ("approve#1", "approve#1", "completed")


def test_an_answer_wakes_only_a_run_that_waits_for_it(send, alias):
    run_id, url = started(asks_later)
    assert send(url, b'"early"').status_code == 202
    assert messages() == []
    run = finish(run_id, alias)
    assert (run.status, run.result) == ("completed", "early")
    _, url = started(asks)
    assert send(url, b'"in time"').status_code == 202
    assert len(messages()) == 1


def test_what_looks_like_a_stored_type_stays_what_was_sent(send, alias):
    run_id, url = started()
    body = {"$": "uuid", "v": "7d6b2f1e-0000-4000-8000-000000000000"}
    assert send(url, json.dumps(body).encode()).status_code == 202
    deliver_now()
    assert finish(run_id, alias).result == body


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/ld+json"])
def test_json_by_any_of_its_names(send, content_type, alias):
    _, url = started()
    assert send(url, b"1", content_type).status_code == 202


# --- 403


def forgeries(url):
    token = urlsplit(url).path.rstrip("/").rpartition("/")[2]
    body, _, signature = token.partition(".")
    facts = json.loads(_decoded(body))
    return {
        "garbage": "x",
        "dots": "a.b.c",
        "unsigned": body,
        "other signature": f"{body}.{signature[::-1]}",
        "cut": token[:-1],
        "longer": token + "A",
        "other salt": Signer(salt="other", sep=".").sign_object(facts, serializer=tickets._Compact),
        "other key": Signer(key="k", salt=tickets.SALT, sep=".").sign_object(facts),
        "other question": f"{_encoded([*facts[:3], 'approve#2', facts[4]])}.{signature}",
        "later": f"{_encoded([*facts[:4], facts[4] + 1])}.{signature}",
        "not ascii": "é",
        "fullwidth": body.replace("W", "\uff37") + "." + signature,
        "newer": Signer(salt=tickets.SALT, sep=".").sign_object([2, *facts[1:]]),
        "compressed garbage": ".eJ",
        "huge": "A" * 4000,
    }


def _decoded(body):
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))


def _encoded(facts):
    text = json.dumps(facts, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def test_a_token_that_we_did_not_sign_is_refused_without_a_query(send, alias):
    run_id, url = started()
    before = everything(alias, run_id)
    for name, token in forgeries(url).items():
        for method in ("POST", "GET"):
            with CaptureQueriesContext(connections[alias]) as queries:
                response = send(f"/hookflow/callback/{token}/", method=method)
            assert (name, *status_of(response)) == (name, 403, "no such URL")
            assert len(queries) == 0
    assert everything(alias, run_id) == before


def test_a_rotated_secret_key_keeps_the_urls_that_are_out_there(send, alias, settings):
    run_id, url = started()
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the-next-key-of-the-tests"
    assert send(url).status_code == 202
    settings.SECRET_KEY_FALLBACKS = []
    assert send(url).status_code == 403
    deliver_now()
    assert finish(run_id, alias).result == "yes"


# --- 405, HEAD and GET


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_without_a_confirmation_page_only_post(send, alias, method):
    run_id, url = started()
    before = everything(alias, run_id)
    response = send(url, b"", method=method)
    assert (response.status_code, response["Allow"]) == (405, "POST")
    assert everything(alias, run_id) == before


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_to_look_at_the_confirmation_page_does_nothing(send, alias, method):
    run_id, url = started(confirm="Approve order 42?")
    before = everything(alias, run_id)
    with CaptureQueriesContext(connections[alias]) as queries:
        for query in ("", "?confirm=yes"):
            response = send(url + query, b"", FORM, method=method)
            assert response.status_code == 200
    assert len(queries) == 0
    assert everything(alias, run_id) == before
    assert messages() == []
    assert send(url, b"", method="PUT")["Allow"] == "GET, HEAD, POST"


# --- 409


def test_the_second_post_is_told_and_changes_nothing(send, alias):
    run_id, url = started()
    assert send(url, b'"first"').status_code == 202
    before = everything(alias, run_id)
    for body in (b'"second"', b'"first"'):
        assert send(url, body).status_code == 409
        assert everything(alias, run_id) == before
    deliver_now()
    before = everything(alias, run_id)
    assert status_of(send(url, b'"third"')) == (409, "answered already, or not asked any more")
    assert everything(alias, run_id) == before
    assert finish(run_id, alias).result == "first"


def test_an_answer_after_the_timeout_is_told_and_changes_nothing(send, alias):
    run_id, url = started(expires=3600)
    past = django_timezone.now() - timedelta(seconds=1)
    run = row(run_id, alias)
    run.steps.filter(status="pending").update(wake_at=past)
    type(run).objects.using(alias).filter(pk=run.pk).update(due_at=past)
    runtime.wakes.sweep()
    type(run).objects.using(alias).filter(pk=run.pk).update(due_at=past - timedelta(minutes=5))
    runtime.wakes.sweep()
    deliver_now()
    assert row(run_id, alias).steps.get(kind="callback").status == "failed"
    before = everything(alias, run_id)
    assert send(url).status_code == 409
    assert everything(alias, run_id) == before
    assert finish(run_id, alias).result == "nobody"


def test_an_answer_to_a_run_that_is_over_or_gone(send, alias):
    run_id, url = started()
    row(run_id, alias).cancel()
    before = everything(alias, run_id)
    assert send(url).status_code == 409
    assert everything(alias, run_id) == before
    row(run_id, alias).delete()
    assert send(url).status_code == 409
    assert not WorkflowEvent.objects.using(alias).exists()


def test_an_answer_to_another_pass_is_refused(alias, send):
    run_id, url = started()
    token = urlsplit(url).path.rstrip("/").rpartition("/")[2]
    run = row(run_id, alias)
    type(run).objects.using(alias).filter(pk=run.pk).update(generation=1)
    assert send(url).status_code == 409
    ticket = tickets.read(token)
    facts = {"run": ticket.run, "key": ticket.key, "expires_at": ticket.expires_at}
    later = Ticket(generation=1, **facts)
    assert later.name != ticket.name
    assert send(f"/hookflow/callback/{tickets.write(later)}/").status_code == 202


def in_two_threads(body):
    barrier, answers = threading.Barrier(2), [None, None]

    def run(number):
        try:
            barrier.wait(30)
            answers[number] = body(number)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def races(won):
    """Numbers of races, and how long each of the two waits first, now this one and now that one.

    ``won`` counts the winners. One that a busy machine lets win every time comes much too late in
    the end; only if it wins then, too, was it no race.
    """
    for number in range(RACES):
        late = 0.0005 * (number % 7)
        yield number, (late, 0) if number % 2 == 0 else (0, late)
    for number in range(RACES, RACES + 20):
        if len(won) == 1:
            yield number, (0.25, 0) if 0 in won else (0, 0.25)


def test_of_two_posts_at_once_one_is_accepted_and_one_is_told(alias):
    winners = Counter()
    for _, waits in races(winners):
        run_id, url = started()

        def act(thread, url=url, waits=waits):
            time.sleep(waits[thread])
            path = urlsplit(url).path
            answer = Client().post(path, thread, content_type="application/json")
            return answer.status_code

        statuses = in_two_threads(act)
        assert sorted(statuses) == [202, 409]
        winners[statuses.index(202)] += 1
        messages()
        [event] = row(run_id, alias).events.all()
        assert (event.payload, event.source) == (statuses.index(202), CALLBACK)
    assert len(winners) == 2, winners


def test_an_answer_and_the_timeout_at_once_have_one_outcome(alias):
    """Accepted is what the run receives, and refused is what it timed out on."""
    winners = Counter()
    for _, waits in races(winners):
        run_id = asks_later.trigger({})
        run = row(run_id, alias)
        lease = timedelta(seconds=60)
        claimed = runtime.journal.claim(Claim(id=run.pk, wake=1, lease=lease))
        wait = Receive(
            fence=Fence(id=run.pk, epoch=claimed.run.epoch, lease=lease),
            entry=Entry(
                key="approve#1", step_id="approve", occurrence=1, kind=Kind.CALLBACK,
                event="approve#1", ready_at=run.created_at - timedelta(seconds=1),
            ),
            timeout_error=ErrorRecord(type="EventTimeout", message="late", raises="EventTimeout"),
            source=CALLBACK,
        )  # fmt: skip
        url = runtime.callback_url(ticket(run=run.pk, expires_at=run.created_at + lease * 60))

        def act(thread, url=url, wait=wait, waits=waits):
            time.sleep(waits[thread])
            if thread:
                return runtime.journal.commit(wait).entry.status
            path = urlsplit(url).path
            return Client().post(path, 1, content_type="application/json").status_code

        answered, ended = in_two_threads(act)
        assert (answered, ended) in {(202, StepStatus.COMPLETED), (409, StepStatus.FAILED)}
        received = run.events.filter(consumed_by__isnull=False).count()
        assert (received, run.events.count()) == ((1, 1) if answered == 202 else (0, 0))
        winners[(202, 409).index(answered)] += 1
        run.cancel()  # or the sweeper's share finds it when its lease is over
    assert len(winners) == 2, winners


# --- 410


def test_an_expired_url_is_gone_without_a_query(send, alias, monkeypatch):
    run_id, url = started(expires=60)
    late = django_timezone.now() + timedelta(seconds=62)
    monkeypatch.setattr("django.utils.timezone.now", lambda: late)
    monkeypatch.setattr(type(runtime), "now", lambda self: late)
    before = everything(alias, run_id)
    with CaptureQueriesContext(connections[alias]) as queries:
        assert status_of(send(url)) == (410, "expired")
    assert len(queries) == 0
    assert everything(alias, run_id) == before


# --- 400, 413, 415


@pytest.mark.parametrize(
    "body",
    [
        b" ", b"{", b"yes", b"NaN", b"[Infinity]", b"\xff\xfe1\x00", b'"\xed\xa0\x80"',
        b"[" * 100_000, b"1" * 5000, b'{"a": 1} x',
    ],
    ids=range(10),
)  # fmt: skip
def test_what_is_not_json_is_refused(send, alias, body):
    run_id, url = started()
    before = everything(alias, run_id)
    assert status_of(send(url, body)) == (400, "not JSON")
    assert everything(alias, run_id) == before
    assert send(url).status_code == 202, "a refused body has not used the URL up"


def test_an_answer_that_is_too_large_is_refused(send, alias, settings):
    run_id, url = started()
    before = everything(alias, run_id)
    settings.DJANGO_HOOKFLOW_MAX_VALUE_BYTES = 100
    fits = json.dumps("x" * 98).encode()
    assert send(url, json.dumps("x" * 99).encode()).status_code == 413
    # Within the limit as it is sent, above it as it would be stored.
    assert send(url, json.dumps("é" * 40, ensure_ascii=False).encode()).status_code == 413
    assert everything(alias, run_id) == before
    assert send(url, fits).status_code == 202
    _, url = started()
    path = urlsplit(url).path
    claimed = Client().generic("POST", path, fits, "application/json", CONTENT_LENGTH="101")
    assert claimed.status_code == 413


@pytest.mark.parametrize("content_type", ["text/plain", FORM, "multipart/form-data", ""])
def test_another_content_type_is_refused(send, alias, content_type):
    run_id, url = started()
    before = everything(alias, run_id)
    assert send(url, b'"yes"', content_type).status_code == 415
    assert everything(alias, run_id) == before


# --- 503, and who may come


def test_without_the_database_it_is_to_be_tried_again(send, alias, monkeypatch):
    _, url = started()

    def away(*args, **more):
        raise OperationalError("server closed the connection unexpectedly")

    with monkeypatch.context() as broken:
        for name in ("ensure_connection", "cursor"):
            broken.setattr(type(connections[alias]), name, away)
        response = send(url)
    assert (response.status_code, response["Retry-After"]) == (503, "5")
    assert send(url).status_code == 202


def test_neither_login_nor_csrf_nor_a_transaction_stands_in_the_way(send, alias, settings):
    if django.VERSION >= (5, 1):  # it came with 5.1; earlier ones have nothing to refuse us
        settings.MIDDLEWARE = [
            *settings.MIDDLEWARE,
            "django.contrib.auth.middleware.LoginRequiredMiddleware",
        ]
    connections[alias].settings_dict["ATOMIC_REQUESTS"] = True
    try:
        _, url = started()
        assert send(url).status_code == 202
    finally:
        connections[alias].settings_dict["ATOMIC_REQUESTS"] = False
    assert len(messages()) == 1


def test_a_transaction_around_the_view_is_told_apart_too(alias):
    """As a project's own middleware may open one."""
    run_id, url = started()
    path = urlsplit(url).path
    with transaction.atomic(using=alias):
        assert Client().post(path, 1, content_type="application/json").status_code == 202
        assert Client().post(path, 2, content_type="application/json").status_code == 409
    deliver_now()
    runtime.wakes.sweep()
    deliver_now()
    assert finish(run_id, alias).result == 1


def test_whoever_s_commit_was_lost_is_not_told_that_another_answered(alias):
    """The connection breaks behind the COMMIT: the repeat finds its own answer."""
    run_id, _ = started()
    event = SendEvent(
        id=row(run_id, alias).pk, name="approve#1", payload="1", dedup_id="approve#1",
        source=CALLBACK, generation=0,
    )  # fmt: skip
    broken = []
    connection = connections[alias]
    commit = connection._commit

    def lost():
        commit()
        if not broken:
            broken.append(True)
            connection.errors_occurred = True
            gone = {"postgresql": "server closed the connection", "mysql": (2013, "Lost")}
            told = gone.get(connection.vendor, "disk I/O error")
            raise OperationalError(*(told if isinstance(told, tuple) else [told]))

    if connection.vendor == "sqlite":
        pytest.skip("no connection to lose")
    connection._commit = lost
    try:
        answer = runtime.journal.send_event(event)
    finally:
        del connection._commit
    assert broken
    assert answer == Signalled(owed=True, stored=True)
    assert runtime.journal.send_event(event).stored is False


# --- the confirmation page


QUESTION = 'Approve order 42 <b>&"quotes"\'? äöü 訂'


def test_the_page_asks_and_is_whole_in_itself(send, alias):
    _, url = started(confirm=QUESTION)
    response = send(url, b"", method="GET")
    html = response.content.decode()
    escaped = "Approve order 42 &lt;b&gt;&amp;&quot;quotes&quot;&#x27;? äöü 訂"
    assert f"<h1>{escaped}</h1>" in html
    assert f"<title>{escaped}</title>" in html
    assert html.count("<button") == html.count("<form") == 1
    assert 'method="post"' in html
    assert not re.search(r"<script|src=|href=|url\(|https?:", html)
    assert response["Content-Type"] == "text/html; charset=utf-8"
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] == "no-referrer"
    assert response["Cache-Control"] == "no-store"
    assert response["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert not response.cookies


def test_the_button_answers(send, alias):
    run_id, url = started(confirm=QUESTION)
    response = send(url, b"confirm=yes", FORM)
    assert response.status_code == 202
    assert "Thank you" in response.content.decode()
    again = send(url, b"confirm=yes", FORM)
    assert again.status_code == 409
    assert "answered already" in again.content.decode()
    deliver_now()
    assert finish(run_id, alias).result == {"confirmed": True}


@pytest.mark.parametrize("body", [b"&", b"a=1", b"confirm=", b"\xff"])
def test_another_form_answers_nothing(send, alias, body):
    run_id, url = started(confirm=QUESTION)
    before = everything(alias, run_id)
    assert send(url, body, FORM).status_code == 400
    assert everything(alias, run_id) == before


def test_json_is_taken_beside_the_page(send, alias):
    run_id, url = started(confirm=QUESTION)
    assert status_of(send(url, b'"by machine"')) == (202, "accepted")
    deliver_now()
    assert finish(run_id, alias).result == "by machine"


def test_a_person_is_told_of_an_expired_link(send, alias, monkeypatch):
    _, url = started(confirm=QUESTION, expires=60)
    late = django_timezone.now() + timedelta(seconds=62)
    monkeypatch.setattr(type(runtime), "now", lambda self: late)
    for method, body in (("GET", b""), ("POST", b"confirm=yes")):
        response = send(url, body, FORM, method=method)
        assert response.status_code == 410
        assert "This link has expired" in response.content.decode()


# --- tokens


def ticket(**facts):
    usual = {
        "run": UUID("01900000-0000-7000-8000-0000000000ab"),
        "generation": 0,
        "key": "approve#1",
        "expires_at": datetime(2026, 12, 24, 18, tzinfo=timezone.utc),
    }
    return Ticket(**{**usual, **facts})


@pytest.mark.parametrize(
    "facts",
    [
        {}, {"confirm": "Sure?"}, {"confirm": "訂" * 200, "key": "é🙂" * 100 + "#99"},
        {"generation": 7}, {"expires_at": datetime(3026, 1, 1, tzinfo=timezone.utc)},
        {"run": uuid4()}, {"key": "a/b.c:d#1"},
    ],
    ids=range(7),
)  # fmt: skip
def test_a_ticket_comes_back_as_it_was(facts, alias):
    written = tickets.write(ticket(**facts))
    assert tickets.read(written) == ticket(**facts)
    assert tickets.write(ticket(**facts)) == written
    assert re.fullmatch(r"[\w.-]+", written, re.ASCII)
    assert len(written) < 2000


def test_a_usual_url_is_short(alias):
    assert len(tickets.write(ticket())) < 140


def test_the_token_of_a_ticket_stays_what_it_is(alias):
    """URLs in people's mail outlive a deploy: neither form nor salt may change unnoticed."""
    assert tickets.write(ticket(confirm="Sure?")) == TOKEN


TOKEN = (
    "WzEsIkFaQUFBQUFBY0FDQUFBQUFBQUFBcXciLDAsImFwcHJvdmUjMSIsMTc5ODEzNTIwMCwiU3VyZT8iXQ"
    ".aN3eNj7bAUoJRJj2C8ekOfjVNYVMh-4WfgCaXCoesjg"
)


def test_a_wait_costs_one_message_for_the_day_when_nothing_can_come_any_more(alias):
    run_id = asks.trigger({})
    deliver = messages()
    assert len(deliver) == 1
    post(Client(), deliver[0].body.encode())
    [expiry] = messages()
    assert timedelta(days=6, hours=23).total_seconds() < expiry.delay <= 7 * 86_400
    assert row(run_id, alias).status == "suspended"
