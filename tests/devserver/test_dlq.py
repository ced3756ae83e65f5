"""Dead letters through the official SDK, sync and async, and as raw JSON."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import qstash
from qstash.errors import QStashError

from django_hookflow.devserver.config import Config
from django_hookflow.devserver.events import State
from django_hookflow.devserver.server import DevServer
from tests.devserver.conftest import Answer, Destination, sdk_of

FINAL = {"Upstash-NonRetryable-Error": "true"}


@pytest.fixture
def give_up(server: DevServer, client: qstash.QStash, destination: Destination):
    """Publish messages that nobody takes, one after the other; their message ids."""

    def give_up(*paths: str, answer: Answer | None = None, **options: Any) -> list[str]:
        destination.plan = lambda arrival: answer or Answer(status=500, body=b"bad")
        ids = []
        for path in paths:
            before = len(server.dead_letters())
            url = f"{destination.url}/{path}"
            ids.append(client.message.publish(**{"url": url, "retries": 0} | options).message_id)
            server.wait_for(lambda before=before: len(server.dead_letters()) > before)
        return ids

    return give_up


def test_used_up_retries_make_a_dead_letter(server, client, destination, caplog):
    caplog.set_level(logging.INFO, logger="django_hookflow.devserver")
    destination.plan = lambda arrival: Answer(status=503, headers={"X-Why": "no"}, body=b"not now")
    before = int(time.time() * 1000)
    sent = client.message.publish(
        url=f"{destination.url}/x", body="b\xf6dy", content_type="text/plain", method="PUT",
        headers={"x-a": "1"}, retries=2, retry_delay="1000", label="lab",
    )  # fmt: skip
    server.wait_for(server.dead_letters)
    assert len(destination.arrivals) == 3
    listed = client.dlq.list()
    assert listed.cursor is None
    (letter,) = listed.messages
    assert client.dlq.get(letter.dlq_id) == letter
    assert letter.message_id == sent.message_id
    assert (letter.url, letter.method) == (f"{destination.url}/x", "PUT")
    assert (letter.body, letter.body_base64) == ("b\xf6dy", None)
    assert letter.headers == {"Content-Type": ["text/plain"], "X-A": ["1"]}
    assert (letter.max_retries, letter.retry_delay_expression) == (2, "1000")
    assert (letter.label, letter.caller_ip) == ("lab", "127.0.0.1")
    assert letter.not_before == letter.created_at >= before
    assert (letter.response_status, letter.response_body) == (503, "not now")
    assert (letter.response_body_base64, letter.flow_control) == (None, None)
    assert letter.response_headers["X-Why"] == ["no"]
    milliseconds, _, number = letter.dlq_id.partition("-")
    assert before <= int(milliseconds) <= time.time() * 1000
    assert number == "0"
    assert [event.state for event in server.events()][-3:] == [
        *(State.ACTIVE, State.ERROR, State.FAILED)
    ]
    told = [record.getMessage() for record in caplog.records if "dead letter" in record.msg]
    assert told == [
        f"{sent.message_id} is a dead letter now, after attempt 3: "
        f"GET /v2/dlq/{letter.dlq_id} shows it"
    ]


def test_a_final_answer_makes_a_dead_letter_at_once(server, client, destination):
    answers = {
        "/final": Answer(status=489, headers=FINAL, body=b"\xff"),
        "/status": Answer(status=489),
        "/header": Answer(status=500, headers=FINAL),
    }
    destination.plan = lambda arrival: answers[arrival.path]
    for path in answers:
        client.message.publish(url=destination.url + path, retries=1, retry_delay="1")
    server.wait_for(lambda: len(server.dead_letters()) == 3)
    assert [destination.count(path) for path in answers] == [1, 2, 2]
    found = {letter.url.rpartition("/")[2]: letter for letter in client.dlq.list().messages}
    assert found["final"].response_status == 489
    assert (found["final"].response_body, found["final"].response_body_base64) == (None, "/w==")


def test_a_destination_that_does_not_answer(server, client, destination):
    destination.plan = lambda arrival: Answer(pause=1.0)
    client.message.publish(url=destination.url, retries=0, timeout="0.05s", body=b"\xff")
    server.wait_for(server.dead_letters)
    (letter,) = client.dlq.list().messages
    # The SDK needs a number, also where there was no answer.
    assert (letter.response_status, letter.response_body) == (0, "")
    assert letter.body_base64 == "/w=="


def test_what_was_delivered_or_cancelled_is_no_dead_letter(destination):
    destination.answer_in_turn(Answer(status=500), Answer())
    with DevServer(virtual_time=True) as server, sdk_of(server) as client:
        client.message.publish(url=destination.url, retry_delay="1")
        server.advance(1)
        assert server.events()[-1].state is State.DELIVERED
        destination.plan = lambda arrival: Answer(status=500)
        message = client.message.publish(url=destination.url, retries=1, retry_delay="100000")
        server.advance()
        assert server.events()[-1].state is State.RETRY
        client.message.cancel(message.message_id)
        server.advance(200)
        assert server.events()[-1].state is State.CANCELED
        assert client.dlq.list().messages == []


def test_delete_one(client, http, give_up):
    give_up("a", "b")
    first, second = client.dlq.list().messages
    client.dlq.delete(first.dlq_id)
    assert client.dlq.list().messages == [second]
    for call in (client.dlq.get, client.dlq.delete):
        with pytest.raises(QStashError, match="404"):
            call(first.dlq_id)
    assert http.delete(f"/v2/dlq/{second.dlq_id}").status_code == 200


def test_delete_many(client, http, give_up):
    give_up("a", "b", "c")
    first, second, third = (letter.dlq_id for letter in client.dlq.list().messages)
    assert client.dlq.delete_many([first, "1-1", "no id"]) == 1
    assert client.dlq.delete_many([first]) == 0
    assert client.dlq.delete_many([]) == 0
    answer = http.delete("/v2/dlq", params={"dlqIds": f"{second},{third}"})
    assert answer.json() == {"deleted": 2}
    assert client.dlq.list().messages == []


def test_delete_by_filter_in_portions(server, http, give_up):
    give_up("a", "b", "c", label="x")
    give_up("d", label="y")
    answer = http.delete("/v2/dlq", params={"label": "x", "count": "2"}).json()
    assert answer["deleted"] == 2
    answer = http.delete("/v2/dlq", params={"label": "x", "cursor": answer["cursor"]}).json()
    assert answer == {"deleted": 1}
    assert [letter.message.spec.labels for letter in server.dead_letters()] == [("y",)]


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", b""),
        ("?lable=x", b""),
        ("?label=", b""),
        ("?count=1", b""),
        ("?label=x&cursor=later", b""),
        ("?label=x&count=-1", b""),
        ("", b"{}"),
        ("", b"[]"),
        ("", b"nonsense"),
        ("", b'{"dlqIds": "1-1"}'),
        ("", b'{"dlqIds": [1]}'),
    ],
)
def test_what_does_not_say_which_deletes_nothing(server, http, give_up, query, body):
    give_up("a", label="x")
    answer = http.request("DELETE", f"/v2/dlq{query}", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert len(server.dead_letters()) == 1


def test_filters_of_the_sdk(client, destination, give_up):
    give_up("a", label="x", retries=0)
    (other,) = give_up("b", label="y", answer=Answer(status=404))
    now = int(time.time() * 1000)

    def paths(**conditions) -> list[str]:
        found = client.dlq.list(filter=conditions).messages
        return [letter.url.rpartition("/")[2] for letter in found]

    assert paths() == ["a", "b"]
    assert paths(message_id=other) == ["b"]
    assert paths(url=f"{destination.url}/a") == ["a"]
    assert paths(label="y") == ["b"]
    assert paths(response_status=404) == ["b"]
    assert paths(response_status=404, label="x") == []
    assert paths(caller_ip="127.0.0.1") == ["a", "b"]
    assert paths(caller_ip="10.0.0.1") == []
    assert paths(url_group="g") == paths(queue="q") == paths(schedule_id="s") == []
    assert paths(from_time=0, to_time=now + 1000) == ["a", "b"]
    assert paths(from_time=now + 1000) == paths(to_time=1) == []


def test_pages(client, http, give_up):
    give_up("a", "b", "c")
    first = client.dlq.list(count=2)
    assert [letter.url[-1] for letter in first.messages] == ["a", "b"]
    second = client.dlq.list(count=2, cursor=first.cursor)
    assert [letter.url[-1] for letter in second.messages] == ["c"]
    assert second.cursor is None
    newest = http.get("/v2/dlq/?order=latestFirst&count=1").json()
    assert [letter["url"][-1] for letter in newest["messages"]] == ["c"]
    for query in ("count=x", "order=random", "cursor=1", "cursor=1-x", "fromDate=now"):
        assert http.get(f"/v2/dlq?{query}").status_code == 400


def test_no_more_than_a_hundred_in_a_page(destination):
    destination.plan = lambda arrival: Answer(status=500)
    # A few at a time: each is a thread of the destination.
    with DevServer(config=Config(concurrency=4)) as server, sdk_of(server) as client:
        client.message.batch([{"url": destination.url, "retries": 0} for _ in range(101)])
        server.wait_for(lambda: len(server.dead_letters()) == 101)
        page = client.dlq.list(count=1000)
        assert len(page.messages) == 100
        assert len(client.dlq.list(cursor=page.cursor).messages) == 1
        everything = [letter.id for letter in server.dead_letters()]
        assert client.dlq.delete_many(everything) == 101


def run_async(server: DevServer, work: Callable[[qstash.AsyncQStash], Awaitable[None]]) -> None:
    async def run() -> None:
        sdk = qstash.AsyncQStash(server.token, base_url=server.url, retry=False)
        try:
            await work(sdk)
        finally:
            await sdk.http._client.aclose()

    asyncio.run(run())


def test_the_async_client(server, give_up):
    ids = give_up("a", "b", "c", "d")

    async def work(sdk: qstash.AsyncQStash) -> None:
        page = await sdk.dlq.list(count=3)
        assert [letter.message_id for letter in page.messages] == ids[:3]
        (last,) = (await sdk.dlq.list(cursor=page.cursor, filter={"response_status": 500})).messages
        assert (await sdk.dlq.get(last.dlq_id)).response_body == "bad"
        await sdk.dlq.delete(last.dlq_id)
        assert await sdk.dlq.delete_many([letter.dlq_id for letter in page.messages]) == 3
        with pytest.raises(QStashError, match="404"):
            await sdk.dlq.get(last.dlq_id)
        assert (await sdk.dlq.list()).messages == []

    run_async(server, work)


def test_without_the_token_no_dead_letter_is_shown_or_deleted(idle_server):
    with httpx.Client(base_url=idle_server.url, trust_env=False) as stranger:
        for method, path in [("GET", "/v2/dlq"), ("GET", "/v2/dlq/1-0"), ("DELETE", "/v2/dlq/1-0"),
                             ("DELETE", "/v2/dlq?label=x")]:  # fmt: skip
            assert stranger.request(method, path).status_code == 401
