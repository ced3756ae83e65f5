"""What is sent to QStash, and that a publish ends in time whatever QStash does."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest
from asgiref.sync import async_to_sync
from qstash import AsyncQStash, QStash
from qstash.asyncio.message import AsyncMessageApi
from qstash.message import MessageApi

from django_hookflow.exceptions import TransportError
from django_hookflow.transports.base import Message
from django_hookflow.transports.clients import AsyncHttp, Endpoint, Http, ssl_context
from django_hookflow.transports.memory import MemoryTransport
from django_hookflow.transports.qstash import PublishConfig, QStashTransport
from tests.transports.broker import Answer, Broker, serving

TOKEN = "token-that-nobody-may-see"
MESSAGE = Message(body='{"v":1,"run":"x","w":1}', delay=90, deduplication_id="abc-1-2")

Publish = Callable[[QStashTransport, Message], None]
PublishAll = Callable[..., None]


def publish_sync(transport: QStashTransport, message: Message) -> None:
    transport.publish(message)


def publish_async(transport: QStashTransport, message: Message) -> None:
    asyncio.run(transport.apublish(message))


@pytest.fixture
def broker() -> Iterator[Broker]:
    with serving() as broker:
        yield broker


@pytest.fixture(params=[publish_sync, publish_async])
def publish(request: pytest.FixtureRequest) -> Publish:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=["sync", "async"])
def publish_all(request: pytest.FixtureRequest) -> PublishAll:
    if request.param == "sync":
        return QStashTransport.publish
    return lambda transport, *messages: asyncio.run(transport.apublish(*messages))


@pytest.fixture
def make() -> Iterator[Callable[..., QStashTransport]]:
    made = []

    def make(url: str, **changes: Any) -> QStashTransport:
        options = {
            "token": TOKEN,
            "base_url": url,
            "destination": "https://app.example/hookflow/",
            "retries": 3,
            "timeout": 30.0,
            **changes,
        }
        made.append(QStashTransport(lambda: PublishConfig(**options)))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


def test_a_message_goes_out_with_everything_that_is_asked_of_qstash(
    broker: Broker, make: Callable[..., QStashTransport], publish: Publish
) -> None:
    publish(make(broker.url + "/"), MESSAGE)
    (request,) = broker.requests
    assert request.method == "POST"
    assert request.path == "/v2/publish/https://app.example/hookflow/"
    assert request.body == MESSAGE.body.encode()
    sent = {
        k: v for k, v in request.headers.items() if k.startswith(("upstash", "auth", "content-t"))
    }
    assert sent == {
        "authorization": f"Bearer {TOKEN}",
        "content-type": "application/json",
        "upstash-delay": "90s",
        "upstash-deduplication-id": "abc-1-2",
        "upstash-retries": "3",
        "upstash-retry-delay": "min(300000, 5000*pow(2, retried))",
        "upstash-timeout": "900s",
    }


def test_several_messages_go_out_in_one_request(
    broker: Broker, make: Callable[..., QStashTransport], publish_all: PublishAll
) -> None:
    broker.default = Answer(200, [{"messageId": "msg_1"}, {"messageId": "msg_2"}])
    other = Message(body='{"v":1,"run":"y","w":1}', delay=0, deduplication_id="def-1-2")
    publish_all(make(broker.url), MESSAGE, other)
    (request,) = broker.requests
    assert (request.method, request.path) == ("POST", "/v2/batch")
    first, second = json.loads(request.body)
    assert first == {
        "destination": "https://app.example/hookflow/",
        "body": MESSAGE.body,
        "headers": {
            "Content-Type": "application/json",
            "Upstash-Deduplication-Id": "abc-1-2",
            "Upstash-Delay": "90s",
            "Upstash-Retries": "3",
            "Upstash-Retry-Delay": "min(300000, 5000*pow(2, retried))",
            "Upstash-Timeout": "900s",
        },
        "queue": None,
    }
    assert (second["body"], second["headers"]["Upstash-Deduplication-Id"]) == (
        other.body,
        "def-1-2",
    )


def test_a_batch_of_which_one_was_refused_was_not_accepted(
    broker: Broker, make: Callable[..., QStashTransport], publish_all: PublishAll
) -> None:
    broker.default = Answer(200, [{"messageId": "msg_1"}, {"error": "quota exceeded"}])
    with pytest.raises(TransportError):
        publish_all(make(broker.url), MESSAGE, MESSAGE)


def test_a_batch_is_repeated_without_options_too(
    broker: Broker, make: Callable[..., QStashTransport], publish_all: PublishAll
) -> None:
    broker.answers = [Answer(400, {"error": "invalid retry delay"})]
    broker.default = Answer(200, [{"messageId": "msg_1"}, {"messageId": "msg_2"}])
    publish_all(make(broker.url), MESSAGE, MESSAGE)
    assert "Upstash-Retry-Delay" not in json.loads(broker.requests[1].body)[0]["headers"]


def test_a_duplicate_is_success(
    broker: Broker, make: Callable[..., QStashTransport], publish: Publish
) -> None:
    broker.default = Answer(202, {"messageId": "msg_0", "deduplicated": True})
    publish(make(broker.url), MESSAGE)


def test_an_unexpected_refusal_is_repeated_once_without_options(
    broker: Broker,
    make: Callable[..., QStashTransport],
    publish: Publish,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker.answers = [Answer(400, {"error": "invalid retry delay"})]
    publish(make(broker.url), MESSAGE)
    first, second = broker.requests
    assert "upstash-retry-delay" in first.headers
    assert {name for name in second.headers if name.startswith("upstash")} == {
        "upstash-delay",
        "upstash-deduplication-id",
    }
    assert "invalid retry delay" in caplog.text
    broker.default = Answer(404, {"error": "no such thing"})
    with pytest.raises(TransportError, match=r"404.*no such thing"):
        publish(make(broker.url), MESSAGE)
    assert len(broker.requests) == 4


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_an_error_in_the_log_that_does_not_show_it(
    broker: Broker,
    make: Callable[..., QStashTransport],
    publish: Publish,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker.default = Answer(status, {"error": f"bad token {TOKEN}"})
    with pytest.raises(TransportError, match=rf"{status}.*QSTASH_TOKEN"):
        publish(make(broker.url), MESSAGE)
    assert len(broker.requests) == 1
    assert [record.levelno for record in caplog.records if "hookflow" in record.name] == [
        logging.ERROR
    ]
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"RateLimit-Reset": "{in_100}", "RateLimit-Limit": "1000"}, 100),
        ({"Burst-RateLimit-Reset": "{in_100}"}, 100),
        (
            {
                "RateLimit-Limit": "1000",
                "RateLimit-Remaining": "5",
                "RateLimit-Reset": "{in_9000}",
                "Burst-RateLimit-Reset": "{in_100}",
            },
            100,
        ),
        ({"RateLimit-Reset": "1"}, 0),
        ({"Burst-RateLimit-Reset": "soon", "Retry-After": "7"}, 7),
        ({"RateLimit-Reset": "nan"}, None),
        ({}, None),
    ],
)
def test_a_rate_limit_tells_when_to_come_back(
    broker: Broker,
    make: Callable[..., QStashTransport],
    publish: Publish,
    headers: dict[str, str],
    expected: float | None,
) -> None:
    now = int(time.time())
    moments = {"in_100": now + 100, "in_9000": now + 9000}
    headers = {name: value.format(**moments) for name, value in headers.items()}
    broker.default = Answer(429, {"error": "slow down"}, headers)
    with pytest.raises(TransportError, match="429") as caught:
        publish(make(broker.url), MESSAGE)
    assert len(broker.requests) == 1
    assert caught.value.retry_after == (
        expected if expected is None else pytest.approx(expected, abs=5)
    )


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500, b"oops"),
        Answer(200, b"<html>log in to the hotel's network</html>"),
        Answer(200, {"ok": True}),
        Answer(200, b"null"),
        Answer(302, b"", {"Location": "https://elsewhere.example/"}),
    ],
)
def test_what_is_no_acceptance_is_a_transport_error(
    broker: Broker, make: Callable[..., QStashTransport], publish: Publish, answer: Answer
) -> None:
    broker.default = answer
    with pytest.raises(TransportError) as caught:
        publish(make(broker.url), MESSAGE)
    assert TOKEN not in str(caught.value)


def test_a_dead_broker_is_told_at_once(
    make: Callable[..., QStashTransport], publish: Publish
) -> None:
    with socket.socket() as taken:  # nobody else gets the port, on which nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(TransportError, match="cannot be reached"):
            publish(make(f"http://127.0.0.1:{port}"), MESSAGE)
        assert time.monotonic() - started < 10


def test_a_slow_broker_is_left_at_the_deadline(
    broker: Broker, make: Callable[..., QStashTransport], publish: Publish
) -> None:
    broker.default = Answer(delay=30)
    started = time.monotonic()
    with pytest.raises(TransportError, match=r"within 0\.3 s"):
        publish(make(broker.url, timeout=0.3), MESSAGE)
    assert time.monotonic() - started < 10


def test_the_deadline_covers_the_repeated_message_too(
    broker: Broker, make: Callable[..., QStashTransport], publish: Publish
) -> None:
    broker.default = Answer(400, {"error": "no"}, delay=0.3)
    with pytest.raises(TransportError, match=r"within 0\.5 s"):
        publish(make(broker.url, timeout=0.5), MESSAGE)


def test_a_broker_that_drips_its_answer_is_left_at_the_deadline(
    make: Callable[..., QStashTransport], publish: Publish
) -> None:
    stop = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):  # the client leaves
            while not stop.wait(0.05):
                connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,), daemon=True)
        thread.start()
        started = time.monotonic()
        with pytest.raises(TransportError):
            publish(make(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=0.4), MESSAGE)
        assert time.monotonic() - started < 10
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    "changes",
    [{"token": "töken-secret"}, {"token": "secret\nline"}, {"url": "ftp://x.example"}],
)
def test_what_cannot_be_sent_is_a_transport_error_that_shows_no_token(
    broker: Broker,
    make: Callable[..., QStashTransport],
    publish: Publish,
    changes: dict[str, str],
) -> None:
    with pytest.raises(TransportError) as caught:
        publish(make(**{"url": broker.url, **changes}), MESSAGE)
    assert "secret" not in str(caught.value)
    assert "secret" not in str(caught.value.__cause__)
    assert broker.requests == []


def test_a_lost_connection_is_tried_once_more(
    broker: Broker, make: Callable[..., QStashTransport]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up_then_answer() -> None:
            server.accept()[0].close()
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                body = b'{"messageId":"m"}'
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
                connection.sendall(head + body)

        thread = threading.Thread(target=hang_up_then_answer, daemon=True)
        thread.start()
        make(f"http://127.0.0.1:{server.getsockname()[1]}").publish(MESSAGE)
        thread.join()


def test_sync_publishes_share_a_connection_and_threads_share_the_client(
    broker: Broker, make: Callable[..., QStashTransport]
) -> None:
    transport = make(broker.url)
    for _ in range(5):
        transport.publish(MESSAGE)
    assert broker.connections == 1
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(transport.publish, [MESSAGE] * 40))
    assert len(broker.requests) == 45
    assert broker.connections <= 9


def test_a_loop_keeps_its_connection_and_a_second_loop_gets_its_own(
    broker: Broker, make: Callable[..., QStashTransport]
) -> None:
    transport = make(broker.url)

    async def three() -> None:
        for _ in range(3):
            await transport.apublish(MESSAGE)

    asyncio.run(three())
    assert broker.connections == 1
    asyncio.run(three())
    async_to_sync(three)()
    assert broker.connections == 3


@pytest.mark.filterwarnings("error")
def test_ended_loops_leave_nothing_behind(
    broker: Broker, make: Callable[..., QStashTransport]
) -> None:
    transport = make(broker.url)
    loops = []

    async def once() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await transport.apublish(MESSAGE)

    for _ in range(3):
        asyncio.run(once())
        async_to_sync(once)()
    gc.collect()
    assert [loop() for loop in loops] == [None] * 6


def test_a_changed_setting_is_seen_by_the_next_publish(broker: Broker) -> None:
    config = {"base_url": broker.url, "token": "one", "retries": 1, "timeout": 30.0}
    transport = QStashTransport(lambda: PublishConfig(destination="https://a.example/", **config))
    transport.publish(MESSAGE)
    config["token"] = "two"
    transport.publish(MESSAGE)
    transport.close()
    assert [r.headers["authorization"] for r in broker.requests] == ["Bearer one", "Bearer two"]


def test_the_local_server_is_not_reached_through_a_proxy(
    broker: Broker,
    make: Callable[..., QStashTransport],
    publish: Publish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    publish(make(broker.url), MESSAGE)
    assert len(broker.requests) == 1


def test_another_server_is_reached_through_the_proxy_of_the_environment(
    broker: Broker,
    make: Callable[..., QStashTransport],
    publish: Publish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", broker.url)
    publish(make("http://qstash.example"), MESSAGE)
    assert broker.requests[0].path.startswith("http://qstash.example/v2/publish/")


def test_the_seam_of_the_installed_sdk_is_what_we_fill(broker: Broker) -> None:
    """The same API objects send the same requests through the SDK's client and ours."""
    ours = Http(Endpoint(token=TOKEN, base_url=broker.url, timeout=30))
    theirs = QStash(TOKEN, base_url=broker.url, retry=False)
    assert isinstance(theirs.message, MessageApi)
    for api in (theirs.message, MessageApi(ours)):
        api.publish(url="https://a.example/x?y=z", body="b", delay="1s", timeout=3)
    theirs.http._client.close()
    ours.close()

    async def both() -> None:
        ours = AsyncHttp(Endpoint(token=TOKEN, base_url=broker.url, timeout=30))
        theirs = AsyncQStash(TOKEN, base_url=broker.url, retry=False)
        assert isinstance(theirs.message, AsyncMessageApi)
        for api in (theirs.message, AsyncMessageApi(ours)):
            await api.publish(url="https://a.example/x?y=z", body="b", delay="1s", timeout=3)
        await theirs.http._client.aclose()
        await ours.aclose()

    asyncio.run(both())
    assert len(broker.requests) == 4
    assert all(request == broker.requests[0] for request in broker.requests)


def test_one_ssl_context_serves_every_client() -> None:
    assert ssl_context() is ssl_context()
    endpoint = Endpoint(token=TOKEN, base_url="https://qstash.example", timeout=1)
    assert endpoint.client_options()["verify"] is ssl_context()
    assert TOKEN not in repr(endpoint)
    started = time.thread_time()  # a busy machine keeps us waiting, and counts it as no work
    for _ in range(10):
        httpx.Client(**endpoint.client_options()).close()
    assert (time.thread_time() - started) / 10 < 0.015


def test_the_memory_transport_records_and_fails_on_demand() -> None:
    transport = MemoryTransport()
    transport.fail_next(2, retry_after=9)
    with pytest.raises(TransportError) as caught:
        transport.publish(MESSAGE)
    assert caught.value.retry_after == 9
    with pytest.raises(TransportError):
        asyncio.run(transport.apublish(MESSAGE))
    transport.publish(MESSAGE)
    asyncio.run(transport.apublish(MESSAGE))
    assert transport.take() == [MESSAGE, MESSAGE]
    assert transport.take() == []
