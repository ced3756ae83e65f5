"""Redelivery, back-off, faults, rewrites: what happens after a message was accepted."""

from __future__ import annotations

import socket
import threading
import time
from urllib.parse import urlsplit

import jwt
import pytest
import qstash

from django_hookflow.core.durations import default_backoff
from django_hookflow.devserver.config import Config, Rewrite, parse_rewrite
from django_hookflow.devserver.server import DevServer
from django_hookflow.transports.signing import verify
from tests.devserver.conftest import Answer, sdk_of


def states(server: DevServer) -> list[str]:
    return [event.state.value for event in server.events()]


def finished(server: DevServer) -> bool:
    return any(state in ("DELIVERED", "FAILED", "CANCELED") for state in states(server))


def test_failed_delivery_is_repeated_until_it_succeeds(server, client, destination):
    destination.answer_in_turn(Answer(status=500), Answer(status=302), Answer())
    client.message.publish(url=destination.url)
    server.wait_for(lambda: finished(server))
    assert [a.headers["upstash-retried"] for a in destination.arrivals] == ["0", "1", "2"]
    assert len({a.headers["upstash-message-id"] for a in destination.arrivals}) == 1
    assert [d.status for d in server.deliveries()] == [500, 302, 200]
    assert states(server) == [
        *("CREATED", "ACTIVE", "ERROR", "RETRY", "ACTIVE", "ERROR", "RETRY"),
        *("ACTIVE", "DELIVERED"),
    ]


def test_every_attempt_is_signed_anew(server, client, destination):
    destination.answer_in_turn(Answer(status=500), Answer())
    client.message.publish(url=destination.url, body="b")
    server.wait_for(lambda: finished(server))
    tokens = [arrival.headers["upstash-signature"] for arrival in destination.arrivals]
    assert len(set(tokens)) == 2
    for token in tokens:
        verify(token, keys=[server.current_key], url=destination.url, body=b"b")
    claims = jwt.decode(tokens[0], options={"verify_signature": False})
    assert claims["iss"] == "Upstash"
    assert claims["exp"] == claims["iat"] + 300
    assert claims["body"].endswith("=")
    assert isinstance(claims["jti"], str)


def test_retries_used_up(server, client, destination):
    destination.answer_in_turn(Answer(status=503, body=b"not now"))
    client.message.publish(url=destination.url, retries=1)
    server.wait_for(lambda: finished(server))
    assert len(destination.arrivals) == 2
    assert states(server)[-2:] == ["ERROR", "FAILED"]
    failed = server.events()[-1].as_json()
    assert failed["responseStatus"] == 503
    assert failed["responseBody"] == "not now"
    assert failed["maxRetries"] == 1


def test_default_is_three_retries(server, client, destination):
    destination.answer_in_turn(Answer(status=500, headers={"Retry-After": "0"}))
    client.message.publish(url=destination.url)
    server.wait_for(lambda: finished(server))
    assert len(destination.arrivals) == 4


def test_non_retryable_needs_status_and_header(server, client, destination):
    says_so = {"Upstash-NonRetryable-Error": "true"}
    answers = {
        "/both": Answer(status=489, headers=says_so),
        "/status": Answer(status=489),
        "/header": Answer(status=500, headers=says_so),
    }
    destination.plan = lambda arrival: answers[arrival.path]
    for path in answers:
        client.message.publish(url=destination.url + path, retries=1, retry_delay="1")
    server.wait_for(lambda: states(server).count("FAILED") == 3)
    assert [destination.count(path) for path in answers] == [1, 2, 2]


def waits(server: DevServer) -> list[float]:
    """Unscaled seconds that the log promises between attempts."""
    return [
        event.details["nextDeliveryTime"] - event.time
        for event in server.events()
        if event.state == "RETRY"
    ]


def test_default_backoff_grows_and_is_scaled(destination):
    destination.answer_in_turn(Answer(status=500))
    with DevServer(time_scale=10_000.0) as server, sdk_of(server) as sdk:
        sdk.message.publish(url=destination.url, retries=3)
        server.wait_for(lambda: finished(server))
        expected = [default_backoff(n) / 10 for n in (1, 2, 3)]  # ms at this scale
        assert waits(server) == pytest.approx(expected, abs=2)


def test_retry_delay_expression_counts_milliseconds(destination):
    destination.answer_in_turn(Answer(status=500))
    with DevServer(time_scale=2.0) as server, sdk_of(server) as sdk:
        expression = "20 + 100 * retried"
        message = sdk.message.publish(url=destination.url, retries=2, retry_delay=expression)
        assert sdk.message.get(message.message_id).retry_delay_expression == expression
        server.wait_for(lambda: finished(server))
        assert waits(server) == pytest.approx([10, 60], abs=2)
        first, second, third = (arrival.at for arrival in destination.arrivals)
        assert second - first >= 0.009
        assert third - second >= 0.059


def test_answer_chooses_the_delay(server, client, destination):
    # Milliseconds: what a destination asks for is kept as it is, while the five seconds that the
    # messages themselves ask for are a thousandth at this server's scale.
    cases = [
        ({"Retry-After": "40"}, 40_000),
        ({"X-RateLimit-Reset": "50ms"}, 50),
        ({"X-RateLimit-Reset-Requests": "1m0.5s"}, 60_500),
        ({"X-RateLimit-Reset-Tokens": "30"}, 30_000),
        ({"X-RateLimit-Reset": "9", "Retry-After": "20"}, 20_000),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"Retry-After": "soon"}, 5),
        ({"Retry-After": "100000"}, 5),
    ]
    destination.plan = lambda arrival: Answer(
        status=429, headers=cases[int(arrival.path.rpartition("/")[2])][0]
    )
    for number in range(len(cases)):
        client.message.publish(url=f"{destination.url}/{number}", retries=1, retry_delay="5000")
    server.wait_for(lambda: states(server).count("RETRY") == len(cases))
    promised = {
        int(event.facts["url"].rpartition("/")[2]): event.details["nextDeliveryTime"] - event.time
        for event in server.events()
        if event.state == "RETRY"
    }
    expected = {number: milliseconds for number, (_, milliseconds) in enumerate(cases)}
    assert promised == pytest.approx(expected, abs=2)


def test_redeliveries_are_not_used_up_while_the_destination_asks_for_time(
    server, client, destination
):
    # A run's lease is held for 0.4 s more: at this scale all three redeliveries would come sooner.
    busy = time.time() + 0.4

    def plan(arrival):
        left = busy - time.time()
        return Answer(status=503, headers={"Retry-After": f"{left:.3f}"}) if left > 0 else Answer()

    destination.plan = plan
    client.message.publish(url=destination.url)
    server.wait_for(lambda: finished(server))
    assert states(server)[-1] == "DELIVERED"
    assert len(destination.arrivals) <= 3


def test_timeout_of_the_message(server, client, destination):
    destination.plan = lambda arrival: Answer(pause=30)
    client.message.publish(url=destination.url, retries=0, timeout="0.1s")
    started = time.monotonic()
    server.wait_for(lambda: finished(server))
    assert time.monotonic() - started < 20
    (delivery,) = server.deliveries()
    assert delivery.status == 0
    assert delivery.error == "no answer within 0.1 s"


def test_timeout_cannot_be_longer_than_the_servers_own(destination):
    destination.plan = lambda arrival: Answer(pause=10)
    with DevServer(config=Config(max_timeout=0.1)) as server, sdk_of(server) as sdk:
        sdk.message.publish(url=destination.url, retries=0, timeout="1h")
        server.wait_for(lambda: finished(server))
        (delivery,) = server.deliveries()
        assert delivery.error == "no answer within 0.1 s"


def test_nobody_listens(server, client):
    with socket.socket() as taken:  # nobody else gets the port, on which nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        client.message.publish(url=f"http://127.0.0.1:{port}/", retries=1)
        server.wait_for(lambda: finished(server))
    assert [d.status for d in server.deliveries()] == [0, 0]
    error = server.events()[-1].as_json()
    assert error["responseStatus"] == 0
    assert "ConnectionRefusedError" in error["error"]


def test_large_answer_is_cut(server, client, destination):
    destination.answer_in_turn(Answer(status=500, body=b"x" * 300_000))
    client.message.publish(url=destination.url, retries=0)
    server.wait_for(lambda: finished(server))
    assert len(server.events()[-1].as_json()["responseBody"]) == 65_536


def test_cookies_of_answers_are_not_sent_back(server, client, destination):
    destination.plan = lambda arrival: Answer(headers={"Set-Cookie": "a=b; Path=/"})
    client.message.publish(url=destination.url)
    server.wait_for(lambda: len(server.deliveries()) == 1)
    client.message.publish(url=destination.url)
    server.wait_for(lambda: len(server.deliveries()) == 2)
    assert "cookie" not in destination.arrivals[1].headers


def test_deliveries_run_at_the_same_time(server, client, destination):
    together = threading.Barrier(5)

    def plan(arrival):
        together.wait(timeout=30)
        return Answer()

    destination.plan = plan
    for _ in range(5):
        client.message.publish(url=destination.url, retries=0)
    server.wait_for(lambda: len(server.deliveries()) == 5)
    assert {delivery.status for delivery in server.deliveries()} == {200}


def test_number_of_concurrent_deliveries_is_bounded(destination):
    running = most = 0
    lock, go_on = threading.Lock(), threading.Event()

    def plan(arrival):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        go_on.wait(30)
        time.sleep(0.03)
        with lock:
            running -= 1
        return Answer()

    destination.plan = plan
    with DevServer(config=Config(concurrency=2)) as server, sdk_of(server) as sdk:
        for _ in range(6):
            sdk.message.publish(url=destination.url)
        server.wait_for(lambda: running == 2)
        go_on.set()
        server.wait_for(lambda: len(server.deliveries()) == 6)
    assert most == 2


def test_who_was_cancelled_while_all_places_were_taken_is_not_delivered(destination):
    go_on = threading.Event()

    def plan(arrival):
        go_on.wait(10)
        return Answer()

    destination.plan = plan
    config = Config(concurrency=1)
    with DevServer(config=config, virtual_time=True) as server, sdk_of(server) as sdk:
        sdk.message.publish(url=f"{destination.url}/a")
        second = sdk.message.publish(url=f"{destination.url}/b").message_id
        server.wait_for(lambda: destination.count() == 1)
        sdk.message.cancel(second)
        go_on.set()
        server.advance()
        assert [arrival.path for arrival in destination.arrivals] == ["/a"]
        states = [event.state.value for event in server.events()
                  if event.facts["messageId"] == second]  # fmt: skip
        assert states == ["CREATED", "CANCEL_REQUESTED", "CANCELED"]


def test_rewrite_changes_the_connection_only(destination):
    public = "https://prod.example/hook?a=b"
    with (
        DevServer(rewrite={"https://prod.example": destination.url}) as server,
        sdk_of(server) as sdk,
    ):
        answer = sdk.message.publish(url=public, body="b")
        server.wait_for(lambda: finished(server))
        (arrival,) = destination.arrivals
        assert arrival.path == "/hook?a=b"
        assert arrival.headers["host"] == "prod.example"
        verify(
            arrival.headers["upstash-signature"],
            keys=[server.current_key], url=public, body=b"b",
        )  # fmt: skip
        assert sdk.message.get(answer.message_id).url == public
        assert {event.facts["url"] for event in server.events()} == {public}


@pytest.mark.parametrize(
    ("rule", "url", "target"),
    [
        ("https://a.example=http://h:1", "https://a.example", "http://h:1"),
        ("https://a.example=http://h:1", "https://A.example:443/x?y#z", "http://h:1/x?y#z"),
        ("https://a.example/=http://h:1/", "https://a.example?q=%2F", "http://h:1?q=%2F"),
        ("https://a.example/p=http://h:1/q", "https://a.example/p/x", "http://h:1/q/x"),
        ("https://a.example/p=http://h:1/q", "https://a.example/px", None),
        ("https://a.example=http://h:1", "http://a.example/", None),
        ("https://a.example=http://h:1", "https://a.example:8443/", None),
        ("https://a.example=http://h:1", "https://a.example.evil/", None),
    ],
)
def test_rewrite_rules(rule, url, target):
    assert parse_rewrite(rule).apply(url) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "=",
        "http://a=",
        "a=b",
        "ftp://a=http://b",
        "http://a=http://b?q",
        "http://a:x=http://b",
    ],
)
def test_rewrite_that_makes_no_sense(text):
    with pytest.raises(ValueError, match="rewrite"):
        parse_rewrite(text)


def test_first_rewrite_wins():
    rules = (
        Rewrite(source="https://a.example/x", target="http://h:1"),
        Rewrite(source="https://a.example", target="http://h:2"),
    )
    config = Config(rewrites=rules)
    assert config.connect_url("https://a.example/x/y") == "http://h:1/y"
    assert config.connect_url("https://a.example/z") == "http://h:2/z"
    assert config.connect_url("https://b.example/") == "https://b.example/"


def test_dropped_message_is_accepted_and_never_delivered(server, client, destination):
    server.drop_next(1)
    lost = client.message.publish(url=f"{destination.url}/lost")
    client.message.publish(url=f"{destination.url}/found")
    server.wait_for(lambda: destination.count("/found"))
    assert client.message.get(lost.message_id).url == f"{destination.url}/lost"
    assert [record.is_dropped for record in server.published()] == [True, False]
    assert not destination.count("/lost")


def test_duplicated_message_is_delivered_twice_at_once(server, client, destination):
    together = threading.Barrier(2)

    def plan(arrival):
        together.wait(timeout=30)
        return Answer()

    destination.plan = plan
    server.duplicate_next(1)
    client.message.publish(url=destination.url, body="b", retries=0)
    server.wait_for(lambda: len(server.deliveries()) == 2)
    assert {a.headers["upstash-retried"] for a in destination.arrivals} == {"0"}
    assert len({a.headers["upstash-message-id"] for a in destination.arrivals}) == 1
    assert sorted(d.is_duplicate for d in server.deliveries()) == [False, True]
    assert [d.body_size for d in server.deliveries()] == [1, 1]
    assert states(server).count("DELIVERED") == 1


@pytest.mark.parametrize("accepted", [False, True])
def test_publish_fails_when_asked_to(server, client, destination, accepted):
    server.fail_publish_next(2, status=503, accepted=accepted)
    with pytest.raises(qstash.errors.QStashError, match="503"):
        client.message.publish(url=f"{destination.url}/1")
    with pytest.raises(qstash.errors.QStashError, match="503"):
        client.message.batch([{"url": f"{destination.url}/2"}])
    client.message.publish(url=f"{destination.url}/3")
    server.wait_for(lambda: len(destination.arrivals) == (3 if accepted else 1))
    assert len(server.published()) == (3 if accepted else 1)


def test_rotated_keys_sign_the_next_delivery(server, client, destination):
    before = client.signing_key.get()
    after = client.signing_key.rotate()
    assert after.current == before.next
    assert after.next not in (before.current, before.next)
    assert (len(after.next), after.next[:4]) == (32, "sig_")
    assert (server.current_key, server.next_key) == (after.current, after.next)
    client.message.publish(url=destination.url)
    server.wait_for(lambda: destination.arrivals)
    token = destination.arrivals[0].headers["upstash-signature"]
    # A receiver with the keys of before still understands it through its second one.
    verify(token, keys=[before.current, before.next], url=destination.url, body=b"")
    assert urlsplit(destination.url).scheme == "http"


def test_server_ends_promptly_with_a_delivery_in_flight(destination):
    destination.plan = lambda arrival: Answer(pause=30)
    with DevServer() as server, sdk_of(server) as sdk:
        sdk.message.publish(url=destination.url)
        server.wait_for(lambda: destination.arrivals)
        started = time.monotonic()
    assert time.monotonic() - started < 8


@pytest.mark.parametrize(
    ("sent", "status", "body", "problem"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
         b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", 200, b"abc", None),
        (b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 202 OK\r\nContent-Length: 1\r\n\r\nx",
         202, b"x", None),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end", None),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart", 0, b"", "RemoteProtocolError"),
        (b"nonsense\r\n\r\n", 0, b"", "RemoteProtocolError"),
        (b"", 0, b"", "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 300_000, 0, b"", "RemoteProtocolError"),
    ],
)  # fmt: skip
def test_answers_of_all_kinds(sent, status, body, problem):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(sent)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with DevServer() as server, sdk_of(server) as sdk:
            port = listener.getsockname()[1]
            sdk.message.publish(url=f"http://127.0.0.1:{port}/", retries=0)
            server.wait_for(server.deliveries)
            server.wait_for(lambda: finished(server))
            (delivery,) = server.deliveries()
            assert delivery.status == status
            assert (problem or "None") in str(delivery.error)
            details = server.events()[-1].details
            assert details["responseBody"].encode() == body
        thread.join(5)


def test_the_name_and_password_of_a_url_are_sent(server, client, destination):
    url = destination.url.replace("//", "//ada:p%40ss@")
    client.message.publish(url=url)
    client.message.publish(url=url, headers={"Authorization": "Bearer own"})
    server.wait_for(lambda: len(destination.arrivals) == 2)
    given = {arrival.headers["authorization"] for arrival in destination.arrivals}
    assert given == {"Basic YWRhOnBAc3M=", "Bearer own"}
