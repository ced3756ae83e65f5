"""``--db FILE`` and SIGKILL, with real processes: what was accepted is delivered."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import qstash
from qstash.log import LogState

from django_hookflow.devserver.config import DEFAULT_TOKEN
from django_hookflow.devserver.server import DevServer
from django_hookflow.devserver.store import StoreError
from tests.devserver.conftest import Answer, Destination, sdk_of
from tests.devserver.test_command import running, start

DONE = {"state": LogState.DELIVERED}

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL")


def wait(condition: Callable[[], object], seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing of the kind happened"
        time.sleep(0.01)


def first_retry(sdk: qstash.QStash, message_id: str) -> tuple[float, float]:
    """When the first attempt had failed, and when the next one is due."""
    found = []

    def look() -> bool:
        logs = sdk.log.list(filter={"message_id": message_id, "state": LogState.RETRY}).logs
        found.extend(reversed(logs))
        return bool(found)

    wait(look)
    return found[0].time / 1000, found[0].next_delivery_time / 1000


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "hookflow.db"


@contextmanager
def serving(db: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], qstash.QStash]]:
    with running("--db", str(db), "--time-scale", "100", *arguments) as (process, url):
        sdk = qstash.QStash(DEFAULT_TOKEN, base_url=url, retry=False)
        try:
            yield process, sdk
        finally:
            sdk.http._client.close()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(60)


#: Seconds until something is due that a kill has to come before: the first of them does unless
#: the machine is busy, and then the next one is tried.
AHEAD = (2, 8, 32)


def states(sdk: qstash.QStash, message_id: str) -> list[str]:
    logs = sdk.log.list(filter={"message_id": message_id}).logs
    return [log.state.value for log in reversed(logs)]


def test_killed_right_after_the_answer(tmp_path: Path, destination: Destination) -> None:
    for seconds in AHEAD:
        db, delay = tmp_path / f"{seconds}.db", f"{seconds}s"
        destination.arrivals.clear()
        with serving(db) as (process, sdk):
            # One by one and in a batch; due a moment from now, so that nothing is delivered yet.
            ids = [
                sdk.message.publish(
                    url=f"{destination.url}/{number}", body=str(number), delay=delay,
                    deduplication_id=f"d{number}",
                ).message_id
                for number in range(20)
            ]  # fmt: skip
            due = sdk.message.get(ids[0]).not_before / 1000
            cancelled = sdk.message.publish(url=f"{destination.url}/never", delay=delay).message_id
            items = [
                {"url": f"{destination.url}/{number}", "body": str(number), "delay": delay}
                for number in range(20, 40)
            ]
            ids += [answer.message_id for answer in sdk.message.batch(items)]
            sdk.message.cancel(cancelled)
            kill(process)
        if time.time() < due:
            break
    assert destination.arrivals == []
    with serving(db) as (_, sdk):
        for number in range(20):
            again = sdk.message.publish(
                url=f"{destination.url}/{number}", deduplication_id=f"d{number}"
            )
            assert (again.deduplicated, again.message_id) == (True, ids[number])
        wait(lambda: len(destination.arrivals) >= 40)
        wait(lambda: states(sdk, cancelled)[-1] == "CANCELED")
        arrived = Counter(arrival.headers["upstash-message-id"] for arrival in destination.arrivals)
        assert arrived == Counter(ids)
        assert {a.path: a.body for a in destination.arrivals} == {
            f"/{number}": str(number).encode() for number in range(40)
        }
        assert min(arrival.at for arrival in destination.arrivals) >= due
        wait(lambda: states(sdk, ids[0]) == ["CREATED", "ACTIVE", "DELIVERED"])
        assert states(sdk, cancelled) == ["CREATED", "CANCEL_REQUESTED", "CANCELED"]
    # All is over: nothing is delivered a third time.
    with serving(db):
        time.sleep(0.3)
    assert len(destination.arrivals) == 40


def test_killed_during_a_delivery(db: Path, destination: Destination) -> None:
    destination.answer_in_turn(Answer(pause=30), Answer())
    with serving(db) as (process, sdk):
        message_id = sdk.message.publish(url=destination.url, body=b"\xff\x00").message_id
        wait(lambda: destination.arrivals)
        kill(process)
    with serving(db) as (_, sdk):
        wait(lambda: states(sdk, message_id)[-1] == "DELIVERED")
        assert states(sdk, message_id) == ["CREATED", "ACTIVE", "ACTIVE", "DELIVERED"]
    # The first one counts for nothing: neither its answer nor as one of the retries.
    assert [a.headers["upstash-retried"] for a in destination.arrivals] == ["0", "0"]
    assert {a.headers["upstash-message-id"] for a in destination.arrivals} == {message_id}
    assert {a.body for a in destination.arrivals} == {b"\xff\x00"}


def test_killed_between_a_failed_delivery_and_its_retry(
    tmp_path: Path, destination: Destination
) -> None:
    for seconds in AHEAD:
        db, asked = tmp_path / f"{seconds}.db", {"Retry-After": str(seconds)}
        destination.plan = lambda arrival, asked=asked: Answer(status=500, headers=asked)
        destination.arrivals.clear()
        with serving(db) as (process, sdk):
            message_id = sdk.message.publish(url=destination.url, retries=2).message_id
            failed, due = first_retry(sdk, message_id)
            kill(process)
        if time.time() < due:
            break
    assert due - failed >= 1.8
    destination.plan = lambda arrival: Answer(status=500, headers={"Retry-After": "0"})
    with serving(db) as (_, sdk):
        wait(lambda: states(sdk, message_id)[-1] == "FAILED")
        (letter,) = sdk.dlq.list().messages
        assert (letter.message_id, letter.response_status) == (message_id, 500)
    # Two of three were left, the first of them when it was due and not sooner.
    assert [a.headers["upstash-retried"] for a in destination.arrivals] == ["0", "1", "2"]
    assert destination.arrivals[1].at >= due


def test_what_ended_stays_ended(db: Path, destination: Destination) -> None:
    destination.plan = lambda arrival: Answer(status=200 if arrival.path == "/good" else 500)
    with serving(db) as (process, sdk):
        good = sdk.message.publish(url=f"{destination.url}/good").message_id
        bad, worse = (
            sdk.message.publish(url=f"{destination.url}/{path}", retries=0).message_id
            for path in ("bad", "worse")
        )
        wait(lambda: len(sdk.dlq.list().messages) == 2)
        wait(lambda: states(sdk, good)[-1] == "DELIVERED")
        letters = {one.message_id: one for one in sdk.dlq.list().messages}
        sdk.dlq.delete(letters[worse].dlq_id)
        kill(process)
    with serving(db) as (_, sdk):
        assert sdk.dlq.list().messages == [letters[bad]]
        assert states(sdk, good) == ["CREATED", "ACTIVE", "DELIVERED"]
        assert sdk.message.get(good).url == f"{destination.url}/good"
        time.sleep(0.3)
    assert len(destination.arrivals) == 3


def test_one_server_at_a_time(db: Path) -> None:
    with serving(db) as (process, sdk):
        message_id = sdk.message.publish(url="http://127.0.0.1:9/", delay="1h").message_id
        second = start("--port", "0", "--db", str(db))
        output, errors = second.communicate(timeout=60)
        assert (second.returncode, output) == (2, "")
        assert errors.count("\n") == 1
        assert "is in use, perhaps by another devserver" in errors
        with pytest.raises(StoreError, match="in use"), DevServer(db=db):
            pass
        kill(process)
    with DevServer(db=db) as server, sdk_of(server) as sdk:
        assert sdk.message.get(message_id).message_id == message_id


def test_killed_again_and_again_under_load(db: Path, destination: Destination) -> None:
    # Some fail at first, so that all kinds of change are under way when the signal comes.
    seen: Counter[str] = Counter()

    def plan(arrival):
        seen[arrival.path] += 1
        slow = 0.02 if arrival.path.endswith("3") else 0.0
        fails = arrival.path.endswith("7") and seen[arrival.path] == 1
        return Answer(status=500 if fails else 200, pause=slow)

    def settled(sdk: qstash.QStash, path: str) -> int:
        return sum(path in log.url for log in sdk.log.list(filter=DONE).logs)

    destination.plan = plan
    accepted: dict[str, str] = {}
    for life in range(3):
        with serving(db) as (process, sdk):
            for number in range(40):
                path = f"/{life}-{number}"
                answer = sdk.message.publish(
                    url=destination.url + path, deduplication_id=path, retry_delay="10"
                )
                accepted[path] = answer.message_id
            # Not more than a few may be under way: what was delivered has to stay so.
            wait(lambda sdk=sdk, life=life: settled(sdk, f"/{life}-") >= 25)
            kill(process)
    with serving(db) as (_, sdk):

        def is_over() -> bool:
            delivered = [log.message_id for log in sdk.log.list(filter=DONE).logs]
            assert len(delivered) == len(set(delivered))
            return set(delivered) == set(accepted.values())

        wait(is_over)
        assert sdk.dlq.list().messages == []
    assert set(seen) == set(accepted)
    twice = {path for path, count in seen.items() if count > 1 and not path.endswith("7")}
    # Only what was in flight at a kill comes twice, and there were three kills.
    assert len(twice) < len(accepted) / 2, twice
