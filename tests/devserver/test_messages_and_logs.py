"""Reading, cancelling and the log, through the SDK and as raw JSON."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from qstash.errors import QStashError
from qstash.log import LogState

from django_hookflow.devserver.config import Config
from django_hookflow.devserver.events import EventLog, State
from django_hookflow.devserver.messages import Message
from django_hookflow.devserver.recent import Recent
from django_hookflow.devserver.server import DevServer
from tests.devserver.conftest import Answer, raw_client, sdk_of, spec


def test_message_is_readable_before_and_after_its_delivery(server, client, destination):
    answer = client.message.publish(
        url=destination.url, body="bödy", content_type="text/plain", headers={"x-a": "1"},
        method="PUT", retries=7, label="lab", delay="1h",
    )  # fmt: skip
    message = client.message.get(answer.message_id)
    assert message.message_id == answer.message_id
    assert message.url == destination.url
    assert (message.body, message.body_base64) == ("bödy", None)
    assert message.method == "PUT"
    assert message.headers == {"Content-Type": ["text/plain"], "X-A": ["1"]}
    assert message.max_retries == 7
    assert message.label == "lab"
    assert message.caller_ip == "127.0.0.1"
    assert message.not_before - message.created_at == 3_600_000
    assert message.flow_control is None
    at_once = client.message.publish(url=destination.url, body=b"\xff")
    server.wait_for(server.deliveries)
    assert client.message.get(at_once.message_id).body_base64 == "/w=="


def test_unknown_message(client):
    with pytest.raises(QStashError, match="404"):
        client.message.get("msg_none")
    with pytest.raises(QStashError, match="404"):
        client.message.cancel("msg_none")


@pytest.fixture
def standing() -> Iterator[DevServer]:
    """Its time stands still: a cancel can come too late for nothing."""
    with DevServer(virtual_time=True) as running:
        yield running


def test_cancelled_message_is_not_delivered(standing, destination):
    with sdk_of(standing) as client, raw_client(standing) as http:
        soon = client.message.publish(url=f"{destination.url}/no", delay="0.2s")
        answer = http.delete(f"/v2/messages/{soon.message_id}")
        assert (answer.status_code, answer.json()) == (200, {"cancelled": 1})
        assert http.delete(f"/v2/messages/{soon.message_id}").json() == {"cancelled": 0}
        standing.advance(1)
        states = [event.state.value for event in standing.events()]
        assert states == ["CREATED", "CANCEL_REQUESTED", "CANCELED"]
        assert destination.arrivals == []
        assert http.delete(f"/v2/messages/{soon.message_id}").status_code == 404


def test_cancel_between_retries(standing, destination):
    destination.answer_in_turn(Answer(status=500))
    with sdk_of(standing) as client:
        message = client.message.publish(url=destination.url, retry_delay="200000")
        standing.advance()
        assert standing.events()[-1].state is State.RETRY
        client.message.cancel(message.message_id)
        standing.advance(201)
    assert standing.events()[-1].state is State.CANCELED
    assert len(destination.arrivals) == 1


def test_cancel_in_flight_lets_the_attempt_end(server, client, destination):
    go_on = threading.Event()

    def plan(arrival):
        go_on.wait(30)
        return Answer()

    destination.plan = plan
    message = client.message.publish(url=destination.url)
    server.wait_for(lambda: destination.arrivals)
    client.message.cancel(message.message_id)
    go_on.set()
    server.wait_for(lambda: server.events()[-1].state is State.DELIVERED)


def test_cancel_many_and_all(client, destination):
    def later(**options) -> str:
        return client.message.publish(url=destination.url, delay="1h", **options).message_id

    first, second, _third = later(), later(), later()
    assert client.message.cancel_many([first, second, "msg_none"]) == 2
    assert client.message.cancel_many([first]) == 0
    later()
    assert client.message.cancel_many([]) == 2  # an empty list means all
    later()
    assert client.message.cancel_all() == 1
    assert client.message.cancel_all() == 0


def test_cancel_with_filters(client, http, destination):
    def later(path: str, label: str) -> str:
        return client.message.publish(
            url=f"{destination.url}/{path}", delay="1h", label=label
        ).message_id

    ids = [later("a", "x"), later("a", "y"), later("b", "x"), later("b", "y")]

    def cancel(**params) -> int:
        return http.delete("/v2/messages", params=params).json()["cancelled"]

    assert cancel(url=f"{destination.url}/a", label="x") == 1
    assert cancel(messageIds=f"{ids[1]},{ids[0]}") == 1
    assert cancel(path="/b", count="1") == 1
    assert cancel(queueName="none") == 0
    assert cancel(fromDate="0", toDate="1") == 0
    assert http.delete("/v2/messages", params={"lable": "y"}).status_code == 400
    assert cancel(host=destination.url.removeprefix("http://")) == 1


@pytest.mark.parametrize(
    "body", [b"[]", b"nonsense", b'{"messageIds": "x"}', b'{"messageIds": [1]}']
)
def test_cancel_with_a_bad_body_cancels_nothing(idle_http, body):
    assert idle_http.request("DELETE", "/v2/messages", content=body).status_code == 400


def test_log_of_the_sdk(server, client, destination, capsys):
    destination.answer_in_turn(Answer(status=500, headers={"X-Why": "no"}, body=b"bad"), Answer())
    sent = client.message.publish(
        url=destination.url, body="b", label="lab", retry_delay="1000", timeout=30
    )
    other = client.message.publish(url=f"{destination.url}/later", delay="1h")
    server.wait_for(lambda: any(e.state is State.DELIVERED for e in server.events()))

    def listed(**conditions) -> list[LogState]:
        return [log.state for log in client.log.list(filter=conditions).logs]

    mine = [LogState.DELIVERED, LogState.ACTIVE, LogState.RETRY, LogState.ERROR,
            LogState.ACTIVE, LogState.CREATED]  # fmt: skip
    assert listed(message_id=sent.message_id) == mine
    assert listed(label="lab") == mine
    assert listed(url=destination.url) == mine
    assert len(listed(message_ids=[sent.message_id, other.message_id])) == 7
    assert listed(state=LogState.ERROR) == [LogState.ERROR]
    assert listed(state=LogState.IN_PROGRESS) == mine[1:5]
    assert listed(queue="q") == []
    assert listed(from_time=int(time.time() * 1000) + 1000) == []
    assert len(listed(from_time=0, to_time=int(time.time() * 1000) + 1000)) == 7
    (error,) = client.log.list(filter={"state": LogState.ERROR}).logs
    assert (error.response_status, error.response_body) == (500, "bad")
    assert error.response_headers["X-Why"] == ["no"]
    assert error.retry_delay_expression == "1000"
    assert error.timeout == 30_000
    assert error.body_base64 == "Yg=="
    assert (error.label, error.method, error.max_retries) == ("lab", "POST", 3)
    capsys.readouterr()  # the SDK prints what it received


def test_both_spellings_of_the_log(server, client, http, destination):
    client.message.publish(url=destination.url, retry_delay="1000")
    server.wait_for(lambda: len(server.events()) == 3)
    events, logs = http.get("/v2/events").json(), http.get("/v2/logs").json()
    assert events["events"] == logs["logs"]
    assert "cursor" not in events
    newest = events["events"][0]
    assert newest["retryDelayExpr"] == newest["retryDelayExpression"]
    assert newest["responseHeader"] == newest["responseHeaders"]


def test_pages_of_the_log(client, http, server):
    for number in range(5):
        client.message.publish(url=f"http://h/{number}", delay="1h")

    def pages(order: str) -> list[list[str]]:
        found, cursor = [], {}
        while True:
            page = http.get("/v2/events", params={"count": 2, "order": order, **cursor}).json()
            found.append([event["url"][-1] for event in page["events"]])
            if "cursor" not in page:
                return found
            # What happens meanwhile must not shift the pages.
            client.message.publish(url="http://h/x", delay="1h", deduplication_id="x")
            cursor = {"cursor": page["cursor"]}

    assert pages("latestFirst") == [["4", "3"], ["2", "1"], ["0"]]
    assert pages("earliestFirst")[:2] == [["0", "1"], ["2", "3"]]


def test_cancelled_is_found_under_either_spelling(standing):
    with sdk_of(standing) as client, raw_client(standing) as http:
        message = client.message.publish(url="http://h/", delay="0.05s")
        client.message.cancel(message.message_id)
        standing.advance(1)
        for spelling in ("CANCELED", "CANCELLED"):
            (event,) = http.get("/v2/logs", params={"state": spelling}).json()["logs"]
            assert event["state"] == "CANCELED"


@pytest.mark.parametrize(
    "query", ["count=x", "cursor=-1", "fromDate=now", "toDate=1e3", "order=random", "count=\u00b2"]
)
def test_log_refuses_nonsense(idle_http, query):
    answer = idle_http.get(f"/v2/events?{query}")
    assert answer.status_code == 400
    assert "error" in answer.json()


def test_what_is_kept_is_bounded():
    recent: Recent[int] = Recent(items=3, size=10)
    for number in range(5):
        recent.append(number, size=1)
    assert recent.snapshot() == [2, 3, 4]
    recent.append(5, size=9)
    assert recent.snapshot() == [4, 5]
    recent.append(6, size=100)
    assert recent.snapshot() == [6]


def test_log_leaves_large_bodies_out():
    log = EventLog()
    log.add(Message("msg_1", spec(body=b"x" * 5000)), State.CREATED, 1.0)
    log.add(Message("msg_2", spec(body=b"x")), State.CREATED, 1.0)
    assert ["body" in event.as_json() for event in log.snapshot()] == [False, True]


@pytest.mark.parametrize(
    "settings",
    [{"time_scale": 0}, {"time_scale": float("inf")}, {"token": ""}, {"token": "a\nb"},
     {"current_key": "short"}, {"rewrite": {"x": "y"}}],
)  # fmt: skip
def test_useless_settings_are_refused(settings):
    with pytest.raises(ValueError):
        DevServer(**settings)


OWN = {"token": "mine", "current_key": "sig_" + "a" * 28, "next_key": "sig_" + "b" * 28}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1"])
@pytest.mark.parametrize("name", list(OWN))
def test_public_secrets_are_for_this_machine(host, name):
    with pytest.raises(ValueError, match="set token, current_key and next_key"):
        DevServer(host=host, **{one: value for one, value in OWN.items() if one != name})
    with pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        DevServer(host=host, config=Config())
    DevServer(host=host, **OWN)
    DevServer(host=host, config=Config(**OWN))


@pytest.mark.parametrize("host", ["127.0.0.2", "::1", "localhost"])
def test_public_secrets_do_on_this_machine(host):
    DevServer(host=host)


def test_own_token_replaces_the_public_one():
    with DevServer(token="mine") as server:
        with sdk_of(server, "mine") as sdk:
            sdk.signing_key.get()
        with sdk_of(server, "other") as sdk, pytest.raises(QStashError, match="401"):
            sdk.signing_key.get()
