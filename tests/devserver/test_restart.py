"""What a server on the same file goes on with: everything, also after SIGKILL."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from django_hookflow.devserver.server import DevServer
from tests.devserver.conftest import Answer, Destination, raw_client
from tests.devserver.test_kill import AHEAD, serving, wait


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "hookflow.db"


BEGIN = 1_772_409_600.0


def server_at(db: Path, seconds: float = 0.0) -> DevServer:
    return DevServer(db=db, virtual_time=BEGIN + seconds)


def test_names_and_settings(db: Path) -> None:
    with server_at(db) as server, raw_client(server) as http:
        http.post("/v2/queues", json={"queueName": "q", "parallelism": 3, "paused": True})
        http.post("/v2/queues", json={"queueName": "gone"})
        http.delete("/v2/queues/gone")
        endpoints = [{"url": "http://h/", "name": "n"}, {"url": "http://i/"}]
        http.post("/v2/topics/team/endpoints", json={"endpoints": endpoints})
        http.patch("/v2/topics/team", json={"headers": {"Upstash-Method": "PUT"}})
        options = "upstash-schedule-id=s&upstash-cron=0%200%20*%20*%20*&upstash-label=l"
        http.post(f"/v2/schedules/http://h/?{options}", content=b"\xff", headers={"X-A": "1"})
        http.patch("/v2/schedules/s/pause")
        http.post("/v2/flowControl/k/pin?parallelism=4&rate=2&period=60")
        http.post("/v2/flowControl/k/pause")
        http.post("/v2/keys/rotate")
        paths = ["queues", "topics", "schedules", "flowControl", "keys"]
        before = {path: http.get(f"/v2/{path}").json() for path in paths}
        assert [queue["name"] for queue in before["queues"]] == ["q"]
    with server_at(db) as server, raw_client(server) as http:
        assert {path: http.get(f"/v2/{path}").json() for path in paths} == before
    other = DevServer(db=db, current_key="sig_" + "a" * 28)
    with other, raw_client(other) as http:
        assert http.get("/v2/keys").json()["current"] == "sig_" + "a" * 28


def test_a_queue_goes_on_where_it_was(db: Path, destination: Destination) -> None:
    destination.plan = lambda arrival: Answer(status=500, headers={"Retry-After": "30"})
    with server_at(db) as server, raw_client(server) as http:
        for name in "abc":
            http.post(f"/v2/enqueue/q/{destination.url}/{name}")
        server.advance(1)
    destination.plan = lambda arrival: Answer()
    with server_at(db, 2) as server, raw_client(server) as http:
        assert http.get("/v2/queues/q").json()["lag"] == 3
        server.advance(20)
        assert [a.path for a in destination.arrivals] == ["/a"]
        server.advance(20)
        assert [a.path for a in destination.arrivals] == ["/a", "/a", "/b", "/c"]


def test_a_queue_waits_for_the_callbacks_of_before(db: Path, destination: Destination) -> None:
    destination.plan = lambda arrival: Answer(
        status=500 if arrival.path == "/back" else 200, headers={"Retry-After": "30"}
    )
    with server_at(db) as server, raw_client(server) as http:
        for name in "ab":
            http.post(f"/v2/enqueue/q/{destination.url}/{name}",
                      headers={"Upstash-Callback": f"{destination.url}/back"})  # fmt: skip
        server.advance(1)
        assert [a.path for a in destination.arrivals] == ["/a", "/back"]
    with server_at(db, 2) as server:
        server.advance(20)
        assert len(destination.arrivals) == 2
        destination.plan = lambda arrival: Answer()
        server.advance(20)
        assert [a.path for a in destination.arrivals[2:4]] == ["/back", "/b"]


def test_a_rate_is_kept(db: Path, destination: Destination) -> None:
    headers = {"Upstash-Flow-Control-Key": "k", "Upstash-Flow-Control-Value": "rate=1,period=60"}
    with server_at(db) as server, raw_client(server) as http:
        for _ in range(2):
            http.post(f"/v2/publish/{destination.url}", headers=headers)
        server.advance(10)
    with server_at(db, 20) as server:
        server.advance(39)
        assert len(destination.arrivals) == 1
        server.advance(1)
        assert len(destination.arrivals) == 2


def test_missed_times_of_a_schedule_are_skipped(db: Path, destination: Destination) -> None:
    with server_at(db) as server, raw_client(server) as http:
        http.post(f"/v2/schedules/{destination.url}?upstash-cron=*/10%20*%20*%20*%20*")
        server.advance(600)
        assert len(destination.arrivals) == 1
    with server_at(db, 6000) as server:
        server.advance(599)
        assert len(destination.arrivals) == 1
        server.advance(1)
        assert len(destination.arrivals) == 2


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_right_after_each_answer(tmp_path: Path, destination: Destination) -> None:
    """The server dies between accepting and delivering; nothing of any kind is lost."""
    for seconds in (1, *AHEAD):
        db = tmp_path / f"{seconds}.db"
        destination.arrivals.clear()
        with serving(db) as (process, sdk):
            sdk.queue.upsert("q", paused=True)
            sdk.url_group.upsert_endpoints("team", [{"url": f"{destination.url}/group"}])
            sdk.flow_control.pin("k", {"rate": 5, "period": 60})
            sdk.flow_control.pause("k")
            schedule = sdk.schedule.create(destination=f"{destination.url}/cron", cron="* * * * *")
            sdk.message.enqueue(queue="q", url=f"{destination.url}/queue")
            sdk.message.publish(url=f"{destination.url}/flow", flow_control={"key": "k", "rate": 1})
            due = time.time() + seconds
            sdk.message.publish(url_group="team", delay=f"{seconds}s")
            sdk.message.publish(url=f"{destination.url}/call", delay=f"{seconds}s",
                                callback=f"{destination.url}/back")  # fmt: skip
            process.send_signal(signal.SIGKILL)
            process.wait(60)
        if time.time() < due:
            break
    assert destination.count("/queue") == destination.count("/flow") == 0
    with serving(db) as (_, sdk):
        assert sdk.schedule.get(schedule).cron == "* * * * *"
        assert (sdk.queue.get("q").paused, sdk.queue.get("q").lag) == (True, 1)
        flow = sdk.flow_control.get("k")
        assert (flow.is_paused, flow.rate_max, flow.wait_list_size) == (True, 5, 1)
        sdk.queue.resume("q")
        sdk.flow_control.resume("k")
        paths = ("/queue", "/flow", "/group", "/call", "/back")
        wait(lambda: all(destination.count(path) == 1 for path in paths))
        time.sleep(0.2)
        assert [destination.count(path) for path in paths] == [1] * 5
