"""Times to the second, on a clock that stands still until it is told to go on."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from django_hookflow.devserver import flow
from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.cron import parse_cron
from django_hookflow.devserver.events import State
from django_hookflow.devserver.server import DevServer
from tests.devserver.conftest import Answer, raw_client

# Monday, 2 March 2026, 00:00:00 UTC.
BEGIN = 1_772_409_600.0


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer(virtual_time=BEGIN) as running:
        yield running


@pytest.fixture
def publish(server: DevServer) -> Iterator[Callable[..., str]]:
    with raw_client(server) as http:

        def send(url: str, *, through: str = "publish", body: str = "", **options: object) -> str:
            headers = {f"Upstash-{name.replace('_', '-')}": str(v) for name, v in options.items()}
            answer = http.post(f"/v2/{through}/{url}", headers=headers, content=body)
            assert answer.is_success, answer.text
            return answer.json().get("messageId") or answer.json()["scheduleId"]

        yield send


@pytest.fixture
def http(server: DevServer) -> Iterator[httpx.Client]:
    with raw_client(server) as client:
        yield client


def starts(server: DevServer, path: str = "") -> list[int]:
    """Seconds from the beginning at which attempts were made, in order of their start."""
    made = [d for d in server.deliveries() if path in d.url]
    return sorted(round(d.started_at - BEGIN) for d in made)


def order(server: DevServer) -> list[str]:
    """The last letters of the destinations, in the order in which attempts began."""
    # Not by the deliveries: those that begin in the same moment end, and are kept, in any order.
    begun = (event for event in server.events() if event.state is State.ACTIVE)
    return [event.facts["url"][-1] for event in begun]


DAY = 86_400


def test_default_backoff(server, publish, destination):
    destination.plan = lambda arrival: Answer(status=500)
    publish(destination.url, Retries=6)
    server.advance(4 * DAY)
    # 12 s, 2 m 28 s, 30 m 8 s, 6 h 7 m 6 s, a day, a day.
    waits = [math.exp(2.5), math.exp(5), math.exp(7.5), math.exp(10), DAY, DAY]
    assert [int(wait) for wait in waits] == [12, 148, 1808, 22_026, DAY, DAY]
    assert starts(server) == [round(sum(waits[:n])) for n in range(7)]
    assert server.now == BEGIN + 4 * DAY


@pytest.mark.parametrize(
    ("expression", "waits"),
    [
        ("1000", [1, 1, 1]),
        ("1000 * (1 + retried)", [1, 2, 3]),
        ("pow(2, retried) * 1000", [1, 2, 4]),
        ("7000 * retried", [0, 7, 14]),
        ("min(5000, max(1000, exp(retried) * 2000))", [2, 5, 5]),
        ("100000000", [DAY, DAY, DAY]),
        ("0 - 5", [0, 0, 0]),
    ],
)
def test_expressions(server, publish, destination, expression, waits):
    destination.plan = lambda arrival: Answer(status=500)
    publish(destination.url, Retries=3, Retry_Delay=expression)
    server.advance(4 * DAY)
    assert starts(server) == [sum(waits[:n]) for n in range(4)]


@pytest.mark.parametrize(
    ("header", "value", "wait"),
    [
        ("Retry-After", "37", 37),
        ("Retry-After", "0", 0),
        ("Retry-After", "6m5s", 365),
        ("Retry-After", "Mon, 02 Mar 2026 00:01:30 GMT", 90),
        ("X-RateLimit-Reset", "41", 41),
        ("X-RateLimit-Reset-Requests", "1h", 3600),
        ("X-RateLimit-Reset-Tokens", "1500ms", 2),  # rounded by the test
        ("Retry-After", "90000", 12),  # more than a day counts for nothing
        ("Retry-After", "soon", 12),
    ],
)
def test_retry_after_and_its_relatives(server, publish, destination, header, value, wait):
    destination.answer_in_turn(Answer(status=429, headers={header: value}), Answer())
    publish(destination.url)
    server.advance(2 * DAY)
    assert starts(server) == [0, wait]


def test_what_a_destination_asks_for_beats_the_expression(server, publish, destination):
    destination.answer_in_turn(Answer(status=503, headers={"Retry-After": "30"}), Answer())
    publish(destination.url, Retry_Delay="1000")
    server.advance(60)
    assert starts(server) == [0, 30]


def test_delay_not_before_and_their_precedence(server, publish, destination):
    publish(f"{destination.url}/a", Delay="1d10h30m")
    publish(f"{destination.url}/b", Not_Before=int(BEGIN) + 50, Delay="10s")
    server.advance(2 * DAY)
    assert starts(server, "/a") == [DAY + 37_800]
    assert starts(server, "/b") == [50]


def test_deduplication_window(server, publish, destination):
    first = publish(destination.url, Deduplication_Id="d")
    server.advance(599)
    assert publish(destination.url, Deduplication_Id="d") == first
    server.advance(1)
    assert publish(destination.url, Deduplication_Id="d") != first


def test_rate(server, publish, destination):
    for number in range(7):
        publish(f"{destination.url}/{number}", Flow_Control_Key="k",
                Flow_Control_Value="rate=3, period=1m")  # fmt: skip
    server.advance(0)
    assert order(server) == ["0", "1", "2"]
    server.advance(300)
    assert starts(server) == [0, 0, 0, 60, 60, 60, 120]
    # Periods follow one another, whether something happens in them or not.
    server.advance(10)
    publish(f"{destination.url}/8", Flow_Control_Key="k", Flow_Control_Value="rate=1,period=60")
    publish(f"{destination.url}/9", Flow_Control_Key="k", Flow_Control_Value="rate=1,period=60")
    server.advance(300)
    assert starts(server)[-2:] == [310, 360]


def test_retries_take_slots_of_the_rate(server, publish, destination):
    destination.plan = lambda arrival: Answer(status=500, headers={"Retry-After": "1"})
    publish(destination.url, Retries=2, Flow_Control_Key="k",
            Flow_Control_Value="rate=1,period=10")  # fmt: skip
    server.advance(60)
    assert starts(server) == [0, 10, 20]


def test_the_rate_slot_is_taken_before_the_answer(server, publish, http, destination):
    publish(destination.url, Flow_Control_Key="k", Flow_Control_Value="rate=1,period=1h")
    assert http.get("/v2/flowControl/k").json()["rateCount"] == 1
    http.post("/v2/flowControl/k/resetRate")
    assert http.get("/v2/flowControl/k").json()["rateCount"] == 0
    (one,) = http.get("/v2/flowControl", params={"search": "k"}).json()
    assert one["ratePeriodStart"] == int(BEGIN)
    assert http.get("/v2/flowControl", params={"search": "x"}).json() == []


def test_resetting_and_pinning_let_those_go_that_wait(server, publish, http, destination):
    for number in range(4):
        publish(f"{destination.url}/{number}", Flow_Control_Key="k",
                Flow_Control_Value="rate=1,period=1h")  # fmt: skip
    server.advance(100)
    http.post("/v2/flowControl/k/reset")
    server.advance(100)
    assert starts(server) == [0, 100]
    # The new period began with the reset.
    server.advance(3600)
    assert starts(server) == [0, 100, 3700]
    http.post("/v2/flowControl/k/pin", params={"rate": 5, "period": 60})
    server.advance(0)
    assert starts(server) == [0, 100, 3700, 3800]


def test_a_paused_key_keeps_all_and_its_clock_runs_on(server, publish, http, destination):
    publish(f"{destination.url}/a", Flow_Control_Key="k", Flow_Control_Value="rate=1,period=60")
    http.post("/v2/flowControl/k/pause")
    publish(f"{destination.url}/b", Flow_Control_Key="k", Flow_Control_Value="rate=1,period=60")
    publish(f"{destination.url}/c", Flow_Control_Key="k", Flow_Control_Value="rate=1,period=60")
    server.advance(90)
    assert starts(server) == [0]
    http.post("/v2/flowControl/k/resume")
    server.advance(60)
    assert starts(server) == [0, 90, 120]


def test_parallelism(server, publish, http, destination):
    destination.plan = lambda arrival: Answer(pause=0.05)
    for number in range(6):
        publish(f"{destination.url}/{number}", Flow_Control_Key="k",
                Flow_Control_Value="parallelism=2")  # fmt: skip
    info = http.get("/v2/flowControl/k").json()
    assert (info["parallelismMax"], info["parallelismCount"] <= 2) == (2, True)
    server.advance(0)
    # The third begins when one of the first two has ended, and so on.
    at = sorted(arrival.at for arrival in destination.arrivals)
    assert len(at) == 6
    assert min(later - earlier for earlier, later in zip(at, at[2:], strict=False)) >= 0.05
    assert http.get("/v2/flowControl/k").json()["parallelismCount"] == 0


def test_a_queue_is_first_in_first_out_and_waits_for_retries(server, publish, destination):
    failed: list[str] = []

    def plan(arrival):
        if arrival.path == "/a" and len(failed) < 2:
            failed.append(arrival.path)
            return Answer(status=500, headers={"Retry-After": "30"})
        return Answer()

    destination.plan = plan
    for name in "abc":
        publish(f"{destination.url}/{name}", through="enqueue/q")
    server.advance(59)
    assert order(server) == ["a", "a"]
    server.advance(1)
    assert order(server) == list("aaabc")
    assert starts(server) == [0, 30, 60, 60, 60]


def test_a_queue_waits_for_callbacks_and_for_what_is_given_up(server, publish, destination):
    answers = {"/a": 500, "/x": 500, "/y": 200}
    destination.plan = lambda arrival: Answer(status=answers.get(arrival.path, 200))
    publish(f"{destination.url}/a", through="enqueue/q", Retries=0,
            Failure_Callback=f"{destination.url}/x", Failure_Callback_Retries=1,
            Failure_Callback_Retry_Delay="20000", Callback=f"{destination.url}/y")  # fmt: skip
    publish(f"{destination.url}/b", through="enqueue/q")
    server.advance(19)
    assert sorted(order(server)) == ["a", "x", "y"]
    server.advance(60)
    assert order(server)[-2:] == ["x", "b"]
    assert starts(server, "/b") == [20]


def test_parallelism_of_a_queue_and_its_pause(server, publish, http, destination):
    destination.plan = lambda arrival: Answer(status=500, headers={"Retry-After": "10"})
    http.post("/v2/queues", json={"queueName": "q", "parallelism": 2})
    for name in "abc":
        publish(f"{destination.url}/{name}", through="enqueue/q", Retries=1)
    server.advance(5)
    assert sorted(order(server)) == ["a", "b"]
    http.post("/v2/queues/q/pause")
    server.advance(20)
    assert sorted(order(server)) == ["a", "b"]
    http.post("/v2/queues/q/resume")
    server.advance(0)
    # Who was under way before comes first.
    assert sorted(order(server)[2:4]) == ["a", "b"]
    assert order(server)[4] == "c"
    assert starts(server) == [0, 0, 25, 25, 25]
    server.advance(10)
    assert len(server.dead_letters()) == 3


def test_a_cancelled_message_makes_room_in_its_queue(server, publish, http, destination):
    destination.plan = lambda arrival: Answer(status=500 if arrival.path == "/a" else 200)
    ids = [publish(f"{destination.url}/{name}", through="enqueue/q") for name in "abc"]
    server.advance(1)
    assert http.delete(f"/v2/messages/{ids[1]}").json() == {"cancelled": 1}
    assert http.delete(f"/v2/messages/{ids[0]}").json() == {"cancelled": 1}
    states = [e.state.value for e in server.events() if e.facts["messageId"] == ids[1]]
    assert states == ["CREATED", "CANCEL_REQUESTED", "CANCELED"]
    server.advance(12)
    assert order(server) == ["a", "c"]
    assert starts(server, "/c") == [12]


def test_cron(server, publish, http, destination):
    schedule_id = publish(destination.url, through="schedules", Cron="*/15 8 * * 1-5")
    server.advance(9 * 3600)
    assert starts(server) == [8 * 3600 + 60 * m for m in (0, 15, 30, 45)]
    shown = http.get(f"/v2/schedules/{schedule_id}").json()
    assert shown["lastScheduleTime"] == int((BEGIN + 8 * 3600 + 2700) * 1000)
    assert shown["nextScheduleTime"] == int((BEGIN + DAY + 8 * 3600) * 1000)
    assert list(shown["lastScheduleStates"].values()) == ["SUCCESS"]
    assert destination.arrivals[0].headers["upstash-schedule-id"] == schedule_id


def test_cron_in_a_time_zone_over_the_change_of_clocks(server, publish, destination):
    # Berlin goes to summer time on 29 March 2026; 02:30 does not exist that night.
    publish(f"{destination.url}/a", through="schedules", Cron="CRON_TZ=Europe/Berlin 0 9 * * *")
    publish(f"{destination.url}/b", through="schedules", Cron="CRON_TZ=Europe/Berlin 30 2 * * *")
    server.advance(28 * DAY)
    hours = [second % DAY / 3600 for second in starts(server, "/a")]
    assert hours == [8.0] * 27 + [7.0]
    nights = starts(server, "/b")
    assert len(nights) == 28
    assert nights[-1] == 27 * DAY + 3600  # 03:00 summer time is 01:00 UTC


def test_a_paused_schedule_skips_what_it_missed(server, publish, http, destination):
    schedule_id = publish(destination.url, through="schedules", Cron="0 * * * *", Delay="30s")
    server.advance(3600 + 30)
    http.patch(f"/v2/schedules/{schedule_id}/pause")
    server.advance(4 * 3600)
    http.post(f"/v2/schedules/{schedule_id}/resume")
    server.advance(3600)
    assert starts(server) == [3630, 6 * 3600 + 30]


def test_a_schedule_into_a_queue(server, publish, http, destination):
    publish(destination.url, through="schedules", Cron="* * * * *", Queue_Name="q", Retries=0)
    http.post("/v2/queues/q/pause")
    server.advance(180)
    assert http.get("/v2/queues/q").json()["lag"] == 3
    http.post("/v2/queues/q/resume")
    server.advance(0)
    assert starts(server) == [180, 180, 180]


def test_a_schedule_whose_group_is_gone_says_so(server, publish, http, destination):
    http.post("/v2/topics/team/endpoints", json={"endpoints": [{"url": destination.url}]})
    schedule_id = publish("team", through="schedules", Cron="* * * * *")
    server.advance(60)
    assert starts(server) == [60]
    http.delete("/v2/topics/team")
    server.advance(60)
    assert "scheme" in http.get(f"/v2/schedules/{schedule_id}").json()["error"]
    assert starts(server) == [60]


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "* * * * * *", "61 * * * *", "0 0 31 2 *", "CRON_TZ=Mars/Olympus * * * * *",
     "CRON_TZ=../etc * * * * *", "CRON_TZ= * * * * *", "* " * 200],
)  # fmt: skip
def test_a_cron_that_is_none_is_refused_by_name(text):
    with pytest.raises(Refused, match="invalid cron"):
        parse_cron(text)


def test_a_planned_answer_reaches_no_destination(server, publish, destination):
    server.answer_next(1, 0)
    server.answer_next(1, 429, headers={"Retry-After": "5"}, body=b"busy")
    publish(destination.url)
    server.advance(60)
    assert starts(server) == [0, 12, 17]
    assert [d.status for d in server.deliveries()] == [0, 429, 200]
    assert len(destination.arrivals) == 1


def test_time_goes_forward_only_and_only_where_it_is_virtual(server, idle_server):
    with pytest.raises(ValueError, match="forward"):
        server.advance(-1)
    with pytest.raises(RuntimeError, match="virtual_time"):
        idle_server.advance(1)


def test_a_destination_that_does_not_answer_stops_the_clock(server, publish, destination):
    go_on = threading.Event()

    def plan(arrival):
        go_on.wait(30)
        return Answer()

    destination.plan = plan
    publish(destination.url)
    with pytest.raises(TimeoutError, match="under way"):
        server.advance(1, patience=0.1)
    go_on.set()
    server.advance(1)
    assert starts(server) == [0]


def test_the_limits_of_a_delayed_message_outlive_its_key(server, publish, http, monkeypatch):
    monkeypatch.setattr(flow, "_MOST_KEYS", 10)
    server.answer_next(100, 200)
    for _ in range(3):
        publish("http://h/slow", Delay="1h", Flow_Control_Key="k", Flow_Control_Value="rate=1")
    for number in range(20):
        publish("http://h/other", Flow_Control_Key=f"other{number}", Flow_Control_Value="rate=1")
    server.advance()
    assert http.get("/v2/flowControl/k").status_code == 404
    server.advance(2 * 3_600)
    assert starts(server, "slow") == [3_600, 3_601, 3_602]
