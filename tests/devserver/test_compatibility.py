"""The official SDK, unmodified, through every method it has; its two clients, over both stores."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import qstash
from qstash.errors import QStashError
from qstash.log import LogState

from django_hookflow.devserver.server import DevServer
from tests.devserver.conftest import Answer, Destination


class Loop:
    """An event loop in a thread, on which the async client lives."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Sdk:
    """Calls either client in the same words."""

    def __init__(self, client: Any, wait: Callable[[Any], Any]) -> None:
        self.client = client
        self.wait = wait

    def __getattr__(self, api: str) -> Any:
        return Api(self, api)


class Api:
    def __init__(self, sdk: Sdk, name: str) -> None:
        self.sdk = sdk
        self.name = name

    def __getattr__(self, method: str) -> Any:
        called = getattr(getattr(self.sdk.client, self.name), method)

        def call(*arguments: Any, **options: Any) -> Any:
            result = called(*arguments, **options)
            return self.sdk.wait(result) if inspect.isawaitable(result) else result

        return call


@pytest.fixture(params=["memory", "file"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DevServer]:
    db = tmp_path / "qstash.db" if request.param == "file" else None
    with DevServer(time_scale=1000.0, db=db) as running:
        yield running


@pytest.fixture(params=["sync", "async"])
def sdk(request: pytest.FixtureRequest, server: DevServer) -> Iterator[Sdk]:
    if request.param == "sync":
        client = qstash.QStash(server.token, base_url=server.url, retry=False)
        yield Sdk(client, lambda value: value)
        client.http._client.close()
        return
    loop = Loop()

    async def make() -> qstash.AsyncQStash:
        return qstash.AsyncQStash(server.token, base_url=server.url, retry=False)

    client = loop.wait(make())
    yield Sdk(client, loop.wait)
    loop.wait(client.http._client.aclose())
    loop.close()


def wait(condition: Callable[[], object], seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing of the kind happened"
        time.sleep(0.01)


def test_publish_with_every_option(sdk: Sdk, destination: Destination) -> None:
    answer = sdk.message.publish(
        url=f"{destination.url}/p?q=1", body="text", content_type="text/plain", method="PUT",
        headers={"X-Own": "1"}, callback_headers={"Forward-X-Back": "2"},
        failure_callback_headers={"Forward-X-Failed": "3"}, retries=2, retry_delay="1000",
        callback=f"{destination.url}/back", failure_callback=f"{destination.url}/failed",
        delay="1h", deduplication_id="d1", timeout="30s", label="lab",
        flow_control={"key": "k", "parallelism": 3, "rate": 5, "period": "2m"},
        redact={"header": ["X-Own"]},
    )  # fmt: skip
    assert not answer.deduplicated
    message = sdk.message.get(answer.message_id)
    assert message.url == f"{destination.url}/p?q=1"
    assert (message.method, message.max_retries, message.body) == ("PUT", 2, "text")
    assert message.callback_headers == {"X-Back": ["2"]}
    assert message.failure_callback_headers == {"X-Failed": ["3"]}
    assert message.callback == f"{destination.url}/back"
    assert message.failure_callback == f"{destination.url}/failed"
    assert message.not_before == message.created_at + 3_600_000
    assert (message.label, message.retry_delay_expression) == ("lab", "1000")
    flow = message.flow_control
    assert (flow.key, flow.parallelism, flow.rate, flow.period) == ("k", 3, 5, 120)
    assert message.headers["X-Own"][0].startswith("REDACTED:")
    again = sdk.message.publish(url="http://127.0.0.1:9", deduplication_id="d1")
    assert (again.deduplicated, again.message_id) == (True, answer.message_id)
    sdk.message.cancel(answer.message_id)


def test_publish_json_get_and_log(sdk: Sdk, server: DevServer, destination: Destination) -> None:
    answer = sdk.message.publish_json(
        url=destination.url, body={"a": 1}, content_based_deduplication=True
    )
    wait(lambda: destination.arrivals)
    (arrival,) = destination.arrivals
    assert (arrival.body, arrival.headers["content-type"]) == (b'{"a": 1}', "application/json")
    qstash.Receiver(server.current_key, server.next_key).verify(
        signature=arrival.headers["upstash-signature"], body='{"a": 1}', url=destination.url
    )
    again = sdk.message.publish_json(
        url=destination.url, body={"a": 1}, content_based_deduplication=True
    )
    assert again.deduplicated

    def states() -> list[LogState]:
        logs = sdk.log.list(filter={"message_ids": [answer.message_id, "msg_none"]}).logs
        return [log.state for log in reversed(logs)]

    wait(lambda: len(states()) == 3)
    assert states() == [LogState.CREATED, LogState.ACTIVE, LogState.DELIVERED]
    # Still there for a while.
    assert sdk.message.get(answer.message_id).method == "POST"
    page = sdk.log.list(count=2)
    assert len(page.logs) == 2
    assert len(sdk.log.list(cursor=page.cursor).logs) == 1
    delivered = sdk.log.list(filter={"state": LogState.DELIVERED, "url": destination.url}).logs
    assert [log.response_status for log in delivered] == [200]


def test_llm_calls_are_plain_messages(sdk: Sdk, destination: Destination) -> None:
    from qstash.chat import custom

    provider = custom(destination.url, "llm-token")
    sdk.message.publish_json(
        api={"name": "llm", "provider": provider}, body={"model": "m"},
        callback=f"{destination.url}/back",
    )  # fmt: skip
    wait(lambda: len(destination.arrivals) == 2)
    assert destination.arrivals[0].path == "/v1/chat/completions"
    assert destination.arrivals[0].headers["authorization"] == "Bearer llm-token"


def test_url_groups(sdk: Sdk, destination: Destination) -> None:
    sdk.url_group.delete("team")  # no error when there is none
    sdk.url_group.upsert_endpoints(
        "team",
        [{"url": f"{destination.url}/a", "name": "first"}, {"url": f"{destination.url}/b"}],
    )
    group = sdk.url_group.get("team")
    assert [(e.url, e.name) for e in group.endpoints] == [
        (f"{destination.url}/a", "first"),
        (f"{destination.url}/b", None),
    ]
    assert group.created_at <= group.updated_at
    assert [one.name for one in sdk.url_group.list()] == ["team"]
    answers = sdk.message.publish(url_group="team", body="x", deduplication_id="once")
    assert [answer.url for answer in answers] == [f"{destination.url}/a", f"{destination.url}/b"]
    assert len({answer.message_id for answer in answers}) == 2
    wait(lambda: len(destination.arrivals) == 2)
    assert {a.headers["upstash-topic-name"] for a in destination.arrivals} == {"team"}
    first = sdk.message.get(answers[0].message_id)
    assert (first.url_group, first.endpoint) == ("team", "first")
    sdk.url_group.upsert_endpoints("team", [{"url": f"{destination.url}/c"}])
    again = sdk.message.publish(url_group="team", body="x", deduplication_id="once")
    assert [answer.deduplicated for answer in again] == [True, True, False]
    assert again[0].message_id == answers[0].message_id
    assert len(sdk.message.enqueue(queue="q", url_group="team", body="y")) == 3
    batch = sdk.message.batch([{"url_group": "team"}, {"url": destination.url}])
    assert (len(batch[0]), batch[1].deduplicated) == (3, False)
    sdk.url_group.remove_endpoints("team", [{"name": "first"}, {"url": f"{destination.url}/b"}])
    assert [e.url for e in sdk.url_group.get("team").endpoints] == [f"{destination.url}/c"]
    sdk.url_group.remove_endpoints("team", [{"url": f"{destination.url}/c"}])
    with pytest.raises(QStashError, match="404"):
        sdk.url_group.get("team")
    with pytest.raises(QStashError, match="invalid scheme"):
        sdk.message.publish(url_group="team")


def test_queues(sdk: Sdk, destination: Destination) -> None:
    sdk.queue.upsert("line", parallelism=2)
    queue = sdk.queue.get("line")
    assert (queue.name, queue.parallelism, queue.lag, queue.paused) == ("line", 2, 0, False)
    sdk.queue.pause("line")
    assert sdk.queue.get("line").paused
    ids = [
        sdk.message.enqueue(queue="line", url=f"{destination.url}/{n}").message_id for n in range(3)
    ]
    sdk.message.enqueue_json(queue="line", url=f"{destination.url}/json", body={"a": 1})
    assert sdk.queue.get("line").lag == 4
    assert sdk.message.get(ids[0]).queue == "line"
    sdk.queue.resume("line")
    wait(lambda: len(destination.arrivals) == 4)
    wait(lambda: sdk.queue.get("line").lag == 0)
    sdk.message.batch([{"queue": "other", "url": destination.url}])
    sdk.message.batch_json([{"queue": "other", "url": destination.url, "body": {"a": 1}}])
    assert {one.name: one.parallelism for one in sdk.queue.list()} == {"line": 2, "other": 1}
    sdk.queue.upsert("line", parallelism=1, paused=True)
    waiting = sdk.message.enqueue(queue="line", url=destination.url).message_id
    sdk.queue.delete("line")
    with pytest.raises(QStashError, match="404"):
        sdk.queue.get("line")
    wait(lambda: sdk.log.list(filter={"message_id": waiting}).logs[0].state == LogState.CANCELED)


def test_schedules(sdk: Sdk, destination: Destination) -> None:
    schedule_id = sdk.schedule.create(
        destination=destination.url, cron="CRON_TZ=Europe/Berlin 30 8 * * 1", body="b",
        content_type="text/plain", method="PATCH", headers={"X-A": "1"},
        callback_headers={"Forward-X-B": "2"}, failure_callback_headers={"Forward-X-C": "3"},
        retries=1, retry_delay="500", callback="http://h/back", failure_callback="http://h/failed",
        delay="20s", timeout="30s", queue="line", label="lab",
        flow_control={"key": "k", "rate": 2},
    )  # fmt: skip
    one = sdk.schedule.get(schedule_id)
    assert (one.destination, one.cron) == (destination.url, "CRON_TZ=Europe/Berlin 30 8 * * 1")
    assert (one.body, one.method, one.retries, one.delay, one.timeout) == ("b", "PATCH", 1, 20, 30)
    assert (one.callback, one.failure_callback) == ("http://h/back", "http://h/failed")
    assert one.headers == {"Content-Type": ["text/plain"], "X-A": ["1"]}
    assert (one.callback_headers, one.failure_callback_headers) == ({"X-B": ["2"]}, {"X-C": ["3"]})
    assert (one.queue, one.label, one.paused) == ("line", "lab", False)
    assert (one.retry_delay_expression, one.last_schedule_time) == ("500", None)
    assert (one.flow_control.key, one.flow_control.rate, one.flow_control.period) == ("k", 2, 1)
    assert time.strftime("%M", time.gmtime(one.next_schedule_time / 1000)) == "30"
    sdk.schedule.pause(schedule_id)
    sdk.schedule.pause(schedule_id)
    assert sdk.schedule.get(schedule_id).paused
    sdk.schedule.resume(schedule_id)
    assert not sdk.schedule.get(schedule_id).paused
    named = sdk.schedule.create_json(
        destination=destination.url, cron="0 0 1 1 *", body={"a": 1}, schedule_id="mine"
    )
    assert named == "mine"
    assert sdk.schedule.get("mine").body == '{"a": 1}'
    sdk.schedule.create(destination=destination.url, cron="0 0 1 1 *", schedule_id="mine")
    assert sdk.schedule.get("mine").body is None
    assert {each.schedule_id for each in sdk.schedule.list()} == {schedule_id, "mine"}
    sdk.schedule.delete(schedule_id)
    with pytest.raises(QStashError, match="404"):
        sdk.schedule.get(schedule_id)
    with pytest.raises(QStashError, match="invalid cron"):
        sdk.schedule.create(destination=destination.url, cron="60 * * * *")


def test_cancelling(sdk: Sdk) -> None:
    def publish() -> str:
        return sdk.message.publish(url="http://127.0.0.1:9/", delay="1h").message_id

    one, two, three, four, five = (publish() for _ in range(5))
    sdk.message.cancel(one)
    assert sdk.message.cancel_many([two, three]) == 2
    assert sdk.message.cancel_many([two, three]) == 0
    assert sdk.message.cancel_all() == 2
    logs = sdk.log.list(filter={"message_id": five}).logs
    assert logs[0].state == LogState.CANCEL_REQUESTED
    assert four != five
    with pytest.raises(QStashError, match="404"):
        sdk.message.cancel("msg_none")


def test_dead_letters(sdk: Sdk, destination: Destination) -> None:
    destination.plan = lambda arrival: Answer(status=500, body=b"bad", headers={"X-Why": "w"})
    ids = [
        sdk.message.publish(url=f"{destination.url}/{n}", retries=0, label=f"l{n}").message_id
        for n in range(4)
    ]
    wait(lambda: len(sdk.dlq.list().messages) == 4)
    page = sdk.dlq.list(count=3)
    assert len(page.messages) == 3
    assert len(sdk.dlq.list(cursor=page.cursor).messages) == 1
    (letter,) = sdk.dlq.list(filter={"label": "l2", "response_status": 500}).messages
    assert letter.message_id == ids[2]
    whole = sdk.dlq.get(letter.dlq_id)
    assert (whole.response_status, whole.response_body) == (500, "bad")
    assert whole.response_headers["X-Why"] == ["w"]
    sdk.dlq.delete(letter.dlq_id)
    others = [one.dlq_id for one in sdk.dlq.list().messages]
    assert sdk.dlq.delete_many(others) == 3
    assert sdk.dlq.list().messages == []


def test_flow_control(sdk: Sdk, destination: Destination) -> None:
    sdk.message.publish(
        url=destination.url, flow_control={"key": "k", "parallelism": 2, "rate": 1, "period": 3600}
    )
    sdk.flow_control.pause("k")
    sdk.message.publish(url=destination.url, flow_control={"key": "k", "rate": 1, "period": "1h"})
    info = sdk.flow_control.get("k")
    assert (info.key, info.is_paused, info.wait_list_size) == ("k", True, 1)
    assert (info.rate_max, info.rate_count, info.rate_period) == (1, 1, 3600)
    assert info.parallelism_max == 0  # the newer message set none
    sdk.flow_control.resume("k")
    sdk.flow_control.pin("k", {"parallelism": 7, "rate": 9, "period": 60})
    info = sdk.flow_control.get("k")
    assert (info.parallelism_max, info.rate_max, info.rate_period) == (7, 9, 60)
    assert (info.is_pinned_parallelism, info.is_pinned_rate) == (True, True)
    wait(lambda: len(destination.arrivals) == 2)
    sdk.message.publish(url=destination.url, flow_control={"key": "k", "parallelism": 1})
    assert sdk.flow_control.get("k").parallelism_max == 7
    sdk.flow_control.unpin("k", {"parallelism": True})
    info = sdk.flow_control.get("k")
    assert (info.is_pinned_parallelism, info.is_pinned_rate) == (False, True)
    sdk.flow_control.reset_rate("k")
    assert sdk.flow_control.get("k").rate_count == 0
    overall = sdk.flow_control.get_global_parallelism()
    assert (overall.parallelism_max, overall.parallelism_count <= 1) == (100, True)
    with pytest.raises(QStashError, match="404"):
        sdk.flow_control.get("unknown")


def test_signing_keys(sdk: Sdk, server: DevServer, destination: Destination) -> None:
    before = sdk.signing_key.get()
    after = sdk.signing_key.rotate()
    assert after.current == before.next
    assert after.next not in (before.current, before.next)
    assert sdk.signing_key.get() == after
    sdk.message.publish(url=destination.url)
    wait(lambda: destination.arrivals)
    # Who has the old pair can still verify: that is what the next key is for.
    qstash.Receiver(before.current, before.next).verify(
        signature=destination.arrivals[0].headers["upstash-signature"], body="", url=destination.url
    )


def test_no_method_of_the_sdk_was_left_out() -> None:
    client = qstash.QStash("t", retry=False)
    offered = {
        (api, name)
        for api, value in vars(client).items()
        if not api.startswith("_") and api != "http"
        for name, _ in inspect.getmembers(value, inspect.ismethod)
        if not name.startswith("_")
    }
    client.http._client.close()
    called = set(re.findall(r"sdk\.(\w+)\.(\w+)\(", Path(__file__).read_text()))
    assert offered <= called
    assert len(offered) > 30
