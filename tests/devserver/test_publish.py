"""Publishing: destinations, options, bodies, deduplication, authorisation."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from urllib.parse import quote, urlsplit

import httpx
import pytest
import qstash
from qstash.errors import QStashError, RateLimitExceededError

from django_hookflow.devserver.config import Config
from django_hookflow.devserver.server import DevServer
from tests.devserver.conftest import Destination, sdk_of


def one_arrival(server: DevServer, destination: Destination):
    server.wait_for(lambda: destination.arrivals)
    return destination.arrivals[0]


def test_message_arrives_signed_and_described(server, client, destination):
    url = f"{destination.url}/hook/a?b=c&d=%20e"
    answer = client.message.publish(
        url=url, body=b'{"a": 1}', content_type="application/json", headers={"X-Mine": "yes"}
    )
    arrival = one_arrival(server, destination)
    assert (arrival.method, arrival.path) == ("POST", "/hook/a?b=c&d=%20e")
    assert arrival.body == b'{"a": 1}'
    headers = arrival.headers
    assert headers["user-agent"] == "Upstash-QStash"
    assert headers["content-type"] == "application/json"
    assert headers["upstash-message-id"] == answer.message_id
    assert headers["upstash-retried"] == "0"
    assert headers["upstash-caller-ip"] == "127.0.0.1"
    assert headers["upstash-region"]
    assert headers["x-mine"] == "yes"
    assert headers["host"] == urlsplit(url).netloc
    assert headers["content-length"] == "8"
    assert "authorization" not in headers
    qstash.Receiver(server.current_key, server.next_key).verify(
        signature=headers["upstash-signature"], body='{"a": 1}', url=url
    )


def test_publish_json_and_async_client(server, destination):
    async def publish() -> str:
        sdk = qstash.AsyncQStash(server.token, base_url=server.url, retry=False)
        answer = await sdk.message.publish_json(url=destination.url, body={"a": [1, "ü"]})
        keys = await sdk.signing_key.get()
        assert (keys.current, keys.next) == (server.current_key, server.next_key)
        await sdk.http._client.aclose()
        return answer.message_id

    message_id = asyncio.run(publish())
    arrival = one_arrival(server, destination)
    assert arrival.headers["upstash-message-id"] == message_id
    assert arrival.headers["content-type"] == "application/json"


def test_answers_on_a_kept_connection_do_not_wait_for_acknowledgements(http):
    took = []
    for _ in range(40):
        started = time.monotonic()
        http.post("/v2/publish/http://h/", content=b"x", headers={"Upstash-Delay": "1h"})
        took.append(time.monotonic() - started)
    # Nagle's algorithm would make it 40 ms each, once the connection is no longer new; all but
    # one may meet a busy machine.
    assert min(took[-15:]) < 0.03


def test_percent_encoded_destination(server, http, destination):
    url = f"{destination.url}/a%20b?x=1&y=%26"
    answer = http.post(f"/v2/publish/{quote(url, safe='')}", content=b"x")
    assert answer.status_code == 200
    assert one_arrival(server, destination).path == "/a%20b?x=1&y=%26"
    assert server.published()[0].url == url


def test_path_is_neither_decoded_nor_tidied(server, destination):
    # A client that sends the request target letter by letter.
    url = f"{destination.url}/a//b/../c%2Fd?u=http://x//y"
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port)
    connection.request(
        "POST", f"/v2/publish/{url}", headers={"Authorization": f"Bearer {server.token}"}
    )
    assert connection.getresponse().status == 200
    connection.close()
    assert server.published()[0].url == url


def test_options_in_the_query_are_not_the_destinations(server, destination):
    target = f"{server.url}/v2/publish/{destination.url}/q"
    query = f"keep=1&upstash-retries=7&Upstash-Label=lab&qstash_token={quote(server.token)}&k%5B"
    answer = httpx.post(f"{target}?{query}", trust_env=False)
    assert answer.status_code == 200, answer.text
    arrival = one_arrival(server, destination)
    assert arrival.path == "/q?keep=1&k%5B"
    assert server.published()[0].labels == ("lab",)


def test_method_also_get_with_body(server, client, destination):
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    for method in methods:
        client.message.publish(url=destination.url, body=method, method=method)
    server.wait_for(lambda: len(destination.arrivals) == len(methods))
    arrived = {(arrival.method, arrival.body.decode()) for arrival in destination.arrivals}
    assert arrived == {(method, method) for method in methods}


def test_binary_and_empty_bodies_arrive_as_they_are(server, client, destination):
    client.message.publish(url=f"{destination.url}/1", body=b"\xff\x00\xfe")
    client.message.publish(url=f"{destination.url}/2")
    server.wait_for(lambda: len(destination.arrivals) == 2)
    bodies = {arrival.path: arrival.body for arrival in destination.arrivals}
    assert bodies == {"/1": b"\xff\x00\xfe", "/2": b""}


def test_connection_and_server_headers_are_not_forwarded(server, http, destination):
    names = [
        *("Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "TE"),
        *("Upgrade", "Accept-Encoding", "User-Agent", "Content-Type", "Upstash-Message-Id"),
        *("Upstash-Retried", "Upstash-Signature", "Upstash-Caller-Ip", "Upstash-Region"),
        *("Upstash-Topic-Name", "Upstash-Schedule-Id"),
    ]
    headers = {f"Upstash-Forward-{name}": "forged" for name in names}
    headers |= {"Upstash-Forward-Authorization": "Bearer theirs", "X-Not-Asked": "no"}
    http.post(f"/v2/publish/{destination.url}", headers=headers, content=b"12")
    arrival = one_arrival(server, destination)
    assert "forged" not in [value for _, value in arrival.raw_headers]
    assert arrival.headers["authorization"] == "Bearer theirs"
    assert "x-not-asked" not in arrival.headers
    assert len([n for n, _ in arrival.raw_headers if n.lower() == "upstash-message-id"]) == 1


def test_header_forward_passes_everything_but_our_token(server, http, destination):
    headers = {"Upstash-Header-Forward": "true", "X-Any": "1", "Upstash-Retries": "0"}
    http.post(f"/v2/publish/{destination.url}", headers=headers)
    arrival = one_arrival(server, destination)
    assert arrival.headers["x-any"] == "1"
    assert "authorization" not in arrival.headers
    assert "upstash-retries" not in arrival.headers
    assert "upstash-header-forward" not in arrival.headers


def test_delay_is_kept_and_never_scaled(server, client, destination):
    before = time.time()
    client.message.publish(url=destination.url, delay="0.3s")
    arrival = one_arrival(server, destination)
    assert arrival.at - before >= 0.3


def test_not_before_wins_over_delay(server, client, destination):
    moment = int(time.time()) + 3600
    answer = client.message.publish(url=destination.url, not_before=moment, delay="1s")
    assert client.message.get(answer.message_id).not_before == moment * 1000
    client.message.publish(url=destination.url, not_before=1, delay="1d")  # long ago: at once
    one_arrival(server, destination)
    assert len(destination.arrivals) == 1


def test_deduplication_by_id(server, client, http, destination):
    first = client.message.publish(url=destination.url, deduplication_id="one")
    second = client.message.publish(url=destination.url, deduplication_id="one")
    assert second.message_id == first.message_id
    assert (first.deduplicated, second.deduplicated) == (False, True)
    answer = http.post(
        f"/v2/publish/{destination.url}", headers={"Upstash-Deduplication-Id": "one"}
    )
    assert (answer.status_code, answer.json()["deduplicated"]) == (202, True)
    client.message.publish(url=f"{destination.url}/last")
    server.wait_for(lambda: destination.count("/last"))
    server.wait_for(lambda: len(server.deliveries()) == 2)
    assert [p.is_duplicate for p in server.published()] == [False, True, True, False]


def test_deduplication_by_content(client, destination):
    def publish(**changes):
        given = {"url": destination.url, "body": "b", "content_type": "text/plain"} | changes
        answer = client.message.publish(content_based_deduplication=True, **given)
        return answer.deduplicated

    assert publish() is False
    assert publish() is True
    assert publish(body="c") is False
    assert publish(content_type="text/html") is False
    assert publish(url=f"{destination.url}/x") is False
    assert publish(headers={"X-A": "1"}) is False
    assert publish(headers={"X-A": "1"}, retries=5, label="l") is True


def test_content_based_deduplication_switched_off(client, destination):
    for _ in range(2):
        answer = client.message.publish(url=destination.url, content_based_deduplication=False)
        assert not answer.deduplicated


@pytest.mark.parametrize(
    ("path", "headers", "problem"),
    [
        ("example.com/x", {}, "endpoint has invalid scheme, add http:// or https://"),
        ("some-group", {}, "invalid scheme"),
        ("ftp://host/", {}, "invalid scheme"),
        ("http:///path", {}, "no host"),
        ("http://host:99999/", {}, "invalid destination url"),
        ("http://h/", {"Upstash-Retries": "-1"}, "Upstash-Retries"),
        ("http://h/", {"Upstash-Retries": "many"}, "Upstash-Retries"),
        ("http://h/", {"Upstash-Delay": "soon"}, "Upstash-Delay"),
        ("http://h/", {"Upstash-Not-Before": "tomorrow"}, "Upstash-Not-Before"),
        ("http://h/", {"Upstash-Timeout": "1y"}, "Upstash-Timeout"),
        ("http://h/", {"Upstash-Method": "BREW"}, "Upstash-Method"),
        ("http://h/", {"Upstash-Retry-Delay": "__import__('os')"}, "Upstash-Retry-Delay"),
        ("http://h/", {"Upstash-Cron": "* * * *"}, "invalid cron"),
    ],
)
def test_nonsense_is_refused(idle_http, path, headers, problem):
    answer = idle_http.post(f"/v2/publish/{path}", headers=headers)
    assert answer.status_code == 400
    assert problem in answer.json()["error"]


def test_batch_answers_in_order_and_survives_bad_items(server, http, client, destination):
    items = [
        {"destination": f"{destination.url}/1?a=b", "body": "one"},
        {"destination": "nonsense"},
        {"destination": f"{destination.url}/2", "headers": {"Upstash-Forward-X": "ü\u2014"}},
        {"destination": f"{destination.url}/3", "headers": {"Upstash-Forward-X": "a\r\nB: c"}},
        {"destination": f"{destination.url}/4", "queue": "a queue"},
        {"destination": f"{destination.url}/5", "body": {"a": 1}},
        {"destination": f"{destination.url}/6", "headers": {"X": 1}},
        "text",
        None,
        {"destination": f"{destination.url}/7", "body": "\ud800"},
    ]
    answer = http.post("/v2/batch", content=json.dumps(items))
    assert answer.status_code == 200
    assert [next(iter(item)) for item in answer.json()] == [
        *("messageId", "error", "messageId"),
        *["error"] * 7,
    ]
    server.wait_for(lambda: len(destination.arrivals) == 2)
    assert {a.path: a.body for a in destination.arrivals} == {"/1?a=b": b"one", "/2": b""}


def test_batch_of_the_sdk(server, client, destination):
    answers = client.message.batch_json(
        [
            {"url": destination.url, "body": {"n": 1}, "deduplication_id": "same"},
            {"url": destination.url, "body": {"n": 2}, "deduplication_id": "same"},
            {"url": destination.url, "body": {"n": 3}, "headers": {"X-N": "3"}},
        ]
    )
    assert answers[0].message_id == answers[1].message_id != answers[2].message_id
    assert [answer.deduplicated for answer in answers] == [False, True, False]
    server.wait_for(lambda: len(destination.arrivals) == 2)
    assert {a.body for a in destination.arrivals} == {b'{"n": 1}', b'{"n": 3}'}


@pytest.mark.parametrize("body", [b"", b"{}", b"nonsense", b"[" * 100_000, b"\xff"])
def test_batch_that_is_none(idle_http, body):
    answer = idle_http.post("/v2/batch", content=body)
    assert answer.status_code == 400
    assert "error" in answer.json()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic abc"},
        {"Authorization": b"Bearer \xff"},
    ],
)
def test_without_the_token_nothing_works(idle_server, headers):
    url = idle_server.url
    with httpx.Client(base_url=url, verify=False, headers=headers, trust_env=False) as stranger:
        for method, path in [
            ("POST", "/v2/publish/http://h/"),
            ("POST", "/v2/batch"),
            ("GET", "/v2/messages/msg_1"),
            ("DELETE", "/v2/messages"),
            ("GET", "/v2/events"),
            ("GET", "/v2/keys?qstash_token=wrong"),
            ("POST", "/v2/keys/rotate"),
        ]:
            answer = stranger.request(method, path)
            assert answer.status_code == 401
            assert "error" in answer.json()


def test_browser_from_another_site_is_refused(idle_http):
    answer = idle_http.post("/v2/publish/http://h/", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("POST", "/v2/enqueue/q", 404),
        ("PATCH", "/v2/none", 404),
        ("GET", "/v2", 404),
        ("POST", "/v2/publish/", 404),
        ("GET", "/v2/batch", 405),
    ],
)
def test_unknown_endpoints_say_so_in_json(idle_http, method, path, status):
    answer = idle_http.request(method, path)
    assert answer.status_code == status
    assert method in answer.json()["error"]


def test_too_large_a_body_is_refused(destination):
    with DevServer(config=Config(max_body=1000)) as server, sdk_of(server) as sdk:
        sdk.message.publish(url=destination.url, body=b"x" * 1000)
        with pytest.raises(QStashError, match="413"):
            sdk.message.publish(url=destination.url, body=b"x" * 1001)
        with pytest.raises(QStashError, match="413"):
            sdk.message.publish(url=destination.url, body=b"x" * 3_000_000)
        answer = sdk.http.request(
            path="/v2/batch",
            method="POST",
            body='[{"destination": "http://h/", "body": "%s"}]' % ("x" * 1001),
        )
        assert "larger" in answer[0]["error"]
        assert len(server.published()) == 1


def test_too_many_waiting_messages_are_refused():
    with DevServer(config=Config(max_waiting=2)) as server, sdk_of(server) as sdk:
        for _ in range(2):
            sdk.message.publish(url="http://h/", delay="1h")
        with pytest.raises(RateLimitExceededError):
            sdk.message.publish(url="http://h/", delay="1h")
