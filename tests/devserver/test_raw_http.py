"""What the SDK cannot send: other spellings, options in the query, other clients' habits."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from urllib.parse import quote

import pytest

from django_hookflow.devserver import flow, queues, runs, schedules
from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.config import Config
from django_hookflow.devserver.cron import parse_cron
from django_hookflow.devserver.filters import read_filters
from django_hookflow.devserver.messages import FlowLimits, Message, beginning
from django_hookflow.devserver.publishing import Request
from django_hookflow.devserver.schedules import Schedule
from django_hookflow.devserver.server import DevServer
from django_hookflow.devserver.service import Service
from tests.devserver.conftest import Answer, raw_client, spec
from tests.ports import free_port


def given_up(server) -> list[str]:
    return [letter.message.spec.url.rpartition("/")[2] for letter in server.dead_letters()]


def give_up(server, http, destination, *paths: str, **headers: str) -> list[str]:
    destination.plan = lambda arrival: Answer(status=500)
    for path in paths:
        http.post(f"/v2/publish/{destination.url}/{path}",
                  headers={"Upstash-Retries": "0", **headers})  # fmt: skip
        # One after the other: those that are under way at once end in any order.
        server.wait_for(lambda path=path: path in given_up(server))
    destination.plan = lambda arrival: Answer()
    return [letter.id for letter in server.dead_letters()]


def test_options_in_the_query_and_an_encoded_destination(server, http, destination):
    url = f"{destination.url}/p?a=1"
    answer = http.post(
        f"/v2/enqueue/q/{quote(url, safe='')}?upstash-method=GET&upstash-forward-x-a=%201&b=2",
        content="body of a GET",
    )
    assert answer.status_code == 200
    server.wait_for(lambda: destination.arrivals)
    (arrival,) = destination.arrivals
    assert (arrival.method, arrival.path, arrival.body) == ("GET", "/p?a=1&b=2", b"body of a GET")
    assert arrival.headers["x-a"] == "1"


def test_the_token_in_the_query_goes_no_further(server, destination):
    import httpx

    answer = httpx.post(f"{server.url}/v2/publish/{destination.url}/x?qstash_token={server.token}"
                        "&k=v", trust_env=False)  # fmt: skip
    assert answer.status_code == 200
    server.wait_for(lambda: destination.arrivals)
    assert destination.arrivals[0].path == "/x?k=v"


def test_callback_bodies_say_what_happened(server, http, destination):
    answers = {"/bad": Answer(status=503, body=b"not now", headers={"X-Why": "w"})}
    destination.plan = lambda arrival: answers.get(arrival.path, Answer())
    sent = http.post(
        f"/v2/publish/{destination.url}/bad",
        content=b"\xff",
        headers={
            "Content-Type": "a/b",
            "Upstash-Forward-X-A": "1",
            "Upstash-Retries": "1",
            "Upstash-Retry-Delay": "1",
            "Upstash-Callback": f"{destination.url}/back",
            "Upstash-Callback-Forward-X-B": "2",
            "Upstash-Callback-Method": "PUT",
            "Upstash-Failure-Callback": f"{destination.url}/failed",
            "Upstash-Failure-Callback-Retries": "7",
        },
    ).json()["messageId"]
    server.wait_for(lambda: destination.count("/back") == 2 and destination.count("/failed"))
    first, last = sorted(
        (json.loads(a.body) for a in destination.arrivals if a.path == "/back"),
        key=lambda facts: facts.get("retried", 0),
    )
    assert "retried" not in first  # SDKs rely on it: what is 0 is not there
    assert (last["retried"], last["maxRetries"], last["status"]) == (1, 1, 503)
    assert base64.b64decode(last["body"]) == b"not now"
    assert base64.b64decode(last["sourceBody"]) == b"\xff"
    assert last["header"]["X-Why"] == ["w"]
    assert last["sourceHeader"] == {"Content-Type": ["a/b"], "X-A": ["1"]}
    assert (last["sourceMessageId"], last["url"]) == (sent, f"{destination.url}/bad")
    back = next(a for a in destination.arrivals if a.path == "/back")
    assert (back.method, back.headers["x-b"]) == ("PUT", "2")
    assert back.headers["content-type"] == "application/json"
    (failed,) = (a for a in destination.arrivals if a.path == "/failed")
    assert json.loads(failed.body)["dlqId"] == server.dead_letters()[0].id
    made = {e.facts["url"]: e.facts["maxRetries"] for e in server.events()}
    assert made[f"{destination.url}/back"] == 1  # as the message itself
    assert made[f"{destination.url}/failed"] == 7


@pytest.mark.parametrize("kind", ["Callback", "Failure-Callback"])
def test_a_callback_brings_as_much_of_an_answer_as_a_message_may_have(destination, kind):
    text = "a" + "\xe4" * 50_000  # of two bytes each, so that both limits cut one in two
    destination.plan = lambda arrival: (
        Answer(status=500, body=text.encode()) if arrival.path == "/bad" else Answer()
    )
    config = Config(max_body=90_000)
    with DevServer(config=config, virtual_time=True) as server, raw_client(server) as http:
        headers = {"Upstash-Retries": "0", f"Upstash-{kind}": f"{destination.url}/back"}
        http.post(f"/v2/publish/{destination.url}/bad", headers=headers)
        server.advance()
        (back,) = (a for a in destination.arrivals if a.path == "/back")
        assert base64.b64decode(json.loads(back.body)["body"]).decode() == text[:45_000]
        (letter,) = http.get("/v2/dlq").json()["messages"]
        assert letter["responseBody"] == text[:32_768]
        logs = http.get("/v2/logs?state=FAILED").json()["logs"]
        assert [one["responseBody"] for one in logs] == [text[:32_768]]


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"abcd", b"abcd"),
        (b"abcde", b"abcd"),
        ("abc\xe4".encode(), b"abc"),
        ("a\u20ac\u20ac".encode(), "a\u20ac".encode()),
        ("ab\u20ac".encode(), b"ab"),
        ("\U0001f600a".encode(), "\U0001f600".encode()),
        ("a\U0001f600".encode(), b"a"),
        (b"\x80" * 5, b"\x80" * 4),
        (b"\xff" * 5, b"\xff" * 4),
    ],
)
def test_a_beginning_ends_with_a_whole_character(body, kept):
    assert beginning(body, 4) == kept


@pytest.mark.parametrize(
    ("header", "value", "named"),
    [
        ("Upstash-Callback", "h/back", "Upstash-Callback"),
        ("Upstash-Failure-Callback", "ftp://h/", "Upstash-Failure-Callback"),
        ("Upstash-Flow-Control-Value", "rate=1", "Upstash-Flow-Control-Key"),
        ("Upstash-Redact-Fields", "all", "Upstash-Redact-Fields"),
        ("Upstash-Delay", "11 years", "Upstash-Delay"),
        ("Upstash-Delay", "4000d", "Upstash-Delay"),
        ("Upstash-Not-Before", "99999999999", "Upstash-Not-Before"),
    ],
)
def test_a_malformed_header_names_itself(idle_http, header, value, named):
    answer = idle_http.post("/v2/publish/http://h/", headers={header: value})
    assert answer.status_code == 400
    assert named in answer.json()["error"]


@pytest.mark.parametrize("value", ["rate", "rate=0", "rate=x", "burst=1", "rate=1,period=8d",
                                   "parallelism=-1", "period=0s"])  # fmt: skip
def test_malformed_limits(idle_http, value):
    headers = {"Upstash-Flow-Control-Key": "k", "Upstash-Flow-Control-Value": value}
    answer = idle_http.post("/v2/publish/http://h/", headers=headers)
    assert answer.status_code == 400
    assert "Upstash-Flow-Control-Value" in answer.json()["error"]


def test_a_malformed_option_of_a_callback_names_both(idle_http):
    headers = {"Upstash-Callback": "http://h/", "Upstash-Callback-Retries": "many"}
    error = idle_http.post("/v2/publish/http://h/", headers=headers).json()["error"]
    assert "Upstash-Callback" in error
    assert "Upstash-Retries 'many'" in error


@pytest.mark.parametrize("spelling", ["header", "headers"])
def test_redaction_hides_from_the_api_only(server, http, destination, spelling):
    secret = {"X-Secret": "s3cret", "X-Open": "o"}
    message_id = http.post(
        f"/v2/publish/{destination.url}",
        content="private",
        headers={
            "Upstash-Redact-Fields": f"body, {spelling}[x-secret]",
            **{f"Upstash-Forward-{name}": value for name, value in secret.items()},
        },
    ).json()["messageId"]
    server.wait_for(lambda: destination.arrivals)
    assert destination.arrivals[0].body == b"private"
    assert destination.arrivals[0].headers["x-secret"] == "s3cret"
    shown = http.get(f"/v2/messages/{message_id}").json()
    assert shown["body"] == "REDACTED:" + hashlib.sha256(b"private").hexdigest()
    assert shown["header"]["X-Secret"] == ["REDACTED:" + hashlib.sha256(b"s3cret").hexdigest()]
    assert shown["header"]["X-Open"] == ["o"]
    log = http.get("/v2/logs").text
    assert "s3cret" not in log
    assert base64.b64encode(b"private").decode() not in log


@pytest.mark.parametrize("fields", ["body", "header", "header[X-Secret]"])
def test_what_is_redacted_does_not_show_in_callbacks(destination, fields):
    destination.plan = lambda arrival: Answer(status=500 if arrival.path != "/ok" else 200)
    with DevServer(virtual_time=True) as server, raw_client(server) as http:
        http.post(
            f"/v2/publish/{destination.url}/bad",
            content="private",
            headers={
                "Upstash-Redact-Fields": fields,
                "Upstash-Forward-X-Secret": "s3cret",
                "Upstash-Retries": "0",
                "Upstash-Callback": f"{destination.url}/back",
                # A callback of the callback holds its body in turn.
                "Upstash-Callback-Callback": f"{destination.url}/ok",
                "Upstash-Failure-Callback": f"{destination.url}/failed",
            },
        )
        server.advance()
        bodies = {a.path: a.body for a in destination.arrivals if a.path != "/bad"}
        assert list(json.loads(bodies["/back"])["sourceHeader"].values()) == [["s3cret"]]
        assert sorted(bodies) == ["/back", "/failed", "/ok"]
        shown = {
            one["url"].rpartition("/")[2]: one for one in http.get("/v2/dlq").json()["messages"]
        }
        assert sorted(shown) == ["back", "bad", "failed"]
        (ok,) = {one.message_id for one in server.deliveries() if one.url.endswith("/ok")}
        shown["ok"] = http.get(f"/v2/messages/{ok}").json()
        for path, body in bodies.items():
            hidden = "REDACTED:" + hashlib.sha256(body).hexdigest()
            assert shown[path[1:]]["body"] == hidden
            logged = http.get("/v2/logs", params={"url": destination.url + path}).json()["logs"]
            assert {one["body"] for one in logged} == {base64.b64encode(hidden.encode()).decode()}


def test_the_body_of_other_callbacks_is_shown(server, http, destination):
    headers = {"Upstash-Callback": f"{destination.url}/back"}
    http.post(f"/v2/publish/{destination.url}", headers=headers, content="public")
    server.wait_for(lambda: destination.count("/back"))
    (back,) = (a for a in destination.arrivals if a.path == "/back")
    shown = http.get(f"/v2/messages/{back.headers['upstash-message-id']}").json()
    assert shown["body"] == back.body.decode()


def test_both_spellings_of_the_log(server, http, destination):
    http.post(f"/v2/publish/{destination.url}", headers={"Upstash-Retry-Delay": "5",
                                                        "Upstash-Label": "a,b"})  # fmt: skip
    server.wait_for(lambda: len(server.events()) == 3)
    logs, events = http.get("/v2/logs/").json()["logs"], http.get("/v2/events").json()["events"]
    assert logs == events
    assert events[0]["responseHeader"] == events[0]["responseHeaders"]
    assert events[0]["retryDelayExpr"] == events[0]["retryDelayExpression"] == "5"
    assert (events[0]["label"], events[0]["labels"]) == ("a", ["a", "b"])
    assert http.get("/v2/logs?label=b&state=DELIVERED").json()["logs"] == [events[0]]


@pytest.mark.parametrize("kind", ["Callback", "Failure-Callback"])
def test_headers_of_callbacks_have_a_plural_in_the_log(server, http, kind):
    headers = {f"Upstash-{kind}": "http://h/", f"Upstash-{kind}-Forward-X-A": "1"}
    http.post("/v2/publish/http://h/", headers={"Upstash-Delay": "1h"} | headers)
    name = {"Callback": "callbackHeader", "Failure-Callback": "failureCallbackHeader"}[kind]
    (entry,) = http.get("/v2/logs").json()["logs"]
    assert entry[name] == entry[f"{name}s"] == {"X-A": ["1"]}


def test_cancelling_by_query(server, http):
    for label in "abab":
        http.post("/v2/publish/http://127.0.0.1:9/", headers={"Upstash-Delay": "1h",
                                                             "Upstash-Label": label})  # fmt: skip
    ids = [one.message_id for one in server.published()]
    assert http.delete(f"/v2/messages?messageIds={ids[0]},{ids[1]}&label=a").json() == {
        "cancelled": 1
    }
    assert http.delete("/v2/messages/?label=b&count=1").json() == {"cancelled": 1}
    refused = http.delete("/v2/messages?lable=b")
    assert (refused.status_code, "lable" in refused.json()["error"]) == (400, True)
    assert http.delete("/v2/messages", params={"messageIds": ""}).json() == {"cancelled": 2}


@pytest.mark.parametrize("body", [{"messageIDs": ["m"]}, {"messageIds": ["m"], "lable": "b"}])
def test_a_misspelt_key_cancels_nothing(server, http, body):
    http.post("/v2/publish/http://h/", headers={"Upstash-Delay": "1h"})
    answer = http.request("DELETE", "/v2/messages", json=body)
    assert (answer.status_code, "messageIds" in answer.json()["error"]) == (400, True)
    assert http.request("DELETE", "/v2/messages", json={"messageIds": []}).json() == {
        "cancelled": 1
    }


def test_retrying_dead_letters(server, http, destination):
    first, second, third, fourth = give_up(server, http, destination, "a", "b", "c", "d")
    answer = http.post(f"/v2/dlq/retry/{first}", headers={"Upstash-Retries": "5",
                                                         "Upstash-Forward-X-New": "1"})  # fmt: skip
    assert answer.status_code == 201
    message_id = answer.json()["messageId"]
    server.wait_for(lambda: destination.count("/a") == 2)
    assert destination.arrivals[-1].headers["x-new"] == "1"
    assert destination.arrivals[-1].headers["upstash-message-id"] == message_id
    assert http.get(f"/v2/messages/{message_id}").json()["maxRetries"] == 5
    assert [letter.id for letter in server.dead_letters()] == [second, third, fourth]
    answer = http.post("/v2/dlq/retry", params={"dlqIds": [second, third]})
    assert (answer.status_code, len(answer.json()["responses"])) == (201, 2)
    assert http.post("/v2/dlq/retry?count=1&responseStatus=500").json().get("cursor") is None
    assert server.dead_letters() == []
    assert http.post(f"/v2/dlq/retry/{first}").status_code == 404
    assert http.post("/v2/dlq/retry").status_code == 400
    assert http.post("/v2/dlq/retry?stauts=1").status_code == 400


def test_a_dead_letter_stays_if_it_cannot_be_retried_as_asked(server, http, destination):
    (dlq_id,) = give_up(server, http, destination, "a")
    answer = http.post(f"/v2/dlq/retry/{dlq_id}", headers={"Upstash-Retries": "many"})
    assert (answer.status_code, "Upstash-Retries" in answer.json()["error"]) == (400, True)
    assert [letter.id for letter in server.dead_letters()] == [dlq_id]


@pytest.mark.parametrize(
    "own",
    [
        {"Upstash-Forward-X-Team": "mine"},
        {"upstash-forward-x-team": "mine"},
        {"X-Team": "mine", "Upstash-Header-Forward": "true"},
    ],
)
def test_a_header_of_the_request_replaces_that_of_its_group(server, http, destination, own):
    http.post("/v2/topics/team/endpoints", json={"endpoints": [{"url": destination.url}]})
    defaults = {"Upstash-Forward-X-Team": ["t", "u"], "Upstash-Forward-X-Other": "o"}
    http.patch("/v2/topics/team", json={"headers": defaults})
    http.post("/v2/publish/team", headers={"X-Team": "not forwarded"})
    http.post("/v2/publish/team", headers=own)
    server.wait_for(lambda: len(destination.arrivals) == 2)
    sent = {
        tuple(value for name, value in arrival.raw_headers if name.lower() == "x-team")
        for arrival in destination.arrivals
    }
    assert sent == {("t", "u"), ("mine",)}
    assert {arrival.headers["x-other"] for arrival in destination.arrivals} == {"o"}


@pytest.mark.parametrize("through", ["publish", "batch"])
def test_a_group_is_published_to_as_a_whole_or_not_at_all(through):
    config = Config(max_waiting=4)
    with DevServer(config=config, virtual_time=True) as server, raw_client(server) as http:
        endpoints = [{"url": f"http://h/{letter}"} for letter in "abc"]
        http.post("/v2/topics/team/endpoints", json={"endpoints": endpoints})
        late = {"Upstash-Delay": "1h", "Upstash-Deduplication-Id": "d"}
        for name in "xy":
            http.post(f"/v2/publish/http://h/{name}", headers={"Upstash-Delay": "2h"})
        if through == "publish":
            answer = http.post("/v2/publish/team", headers=late)
            assert (answer.status_code, "waiting" in answer.json()["error"]) == (429, True)
        else:
            items = [{"destination": name, "headers": late} for name in ("team", "http://h/z")]
            refused, taken = http.post("/v2/batch", json=items).json()
            assert ("error" in refused, "messageId" in taken) == (True, True)
            http.delete(f"/v2/messages/{taken['messageId']}")
            server.advance(3_600)
        assert {one.url[-1] for one in server.published()} <= set("xyz")
        assert {event.facts["url"][-1] for event in server.events()} <= set("xyz")
        assert server._service.store.waiting == 2
        # Their deduplication ids are free as well.
        http.delete("/v2/messages")
        server.advance(2 * 3_600)
        server.answer_next(3, 200)
        receipts = http.post("/v2/publish/team", headers=late).json()
        assert ["deduplicated" in one for one in receipts] == [False] * 3
        server.advance(3_600)
        assert sorted(one.url[-1] for one in server.deliveries()) == ["a", "b", "c"]


def test_default_headers_of_a_group(server, http, destination):
    http.post("/v2/topics/team/endpoints", json={"endpoints": [{"url": destination.url}]})
    defaults = {"Upstash-Forward-X-Team": "t", "Upstash-Method": ["PUT"]}
    answer = http.patch("/v2/topics/team", json={"headers": defaults})
    assert answer.status_code == 200
    http.post("/v2/publish/team")
    http.post("/v2/publish/team", headers={"Upstash-Method": "PATCH"})
    server.wait_for(lambda: len(destination.arrivals) == 2)
    assert sorted(a.method for a in destination.arrivals) == ["PATCH", "PUT"]
    assert {a.headers["x-team"] for a in destination.arrivals} == {"t"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v2/queues", {"queueName": "a b"}, 400),
        ("POST", "/v2/queues", {"queueName": "q", "parallelism": 0}, 400),
        ("POST", "/v2/queues", {"queueName": "q", "parallelism": True}, 400),
        ("POST", "/v2/queues", {"queueName": "q", "paused": "yes"}, 400),
        ("POST", "/v2/queues", [], 400),
        ("POST", "/v2/queues/none/pause", None, 404),
        ("POST", "/v2/topics/a b/endpoints", {"endpoints": [{"url": "http://h"}]}, 400),
        ("POST", "/v2/topics/t/endpoints", {"endpoints": []}, 400),
        ("POST", "/v2/topics/t/endpoints", {"endpoints": [{"url": "h"}]}, 400),
        ("POST", "/v2/topics/t/endpoints", {"endpoints": [{"url": "http://h"}] * 101}, 404),
        ("DELETE", "/v2/topics/none/endpoints", {"endpoints": [{"name": "n"}]}, 404),
        ("PATCH", "/v2/topics/t", {"headers": {"A": 1}}, 400),
        ("PATCH", "/v2/schedules/none/pause", None, 404),
        ("POST", "/v2/schedules/http://h/", None, 400),
        ("POST", "/v2/flowControl/none/pause", None, 404),
        ("POST", "/v2/flowControl/k/pin?rate=0", None, 400),
        ("GET", "/v2/workflows/runs/wfr_none", None, 404),
        ("DELETE", "/v2/workflows/runs", None, 400),
    ],
)
def test_refusals(idle_http, method, path, body, status):
    if status == 404 and body and len(body.get("endpoints", [])) == 101:
        # The same endpoint a hundred times is one endpoint.
        assert idle_http.request(method, path, json=body).status_code == 200
        assert len(idle_http.get("/v2/topics/t").json()["endpoints"]) == 1
        idle_http.delete("/v2/topics/t")
        return
    answer = idle_http.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]


def test_too_many_endpoints_leave_the_group_as_it_was(idle_http):
    endpoints = [{"url": f"http://h/{number}"} for number in range(101)]
    answer = idle_http.post("/v2/topics/large/endpoints", json={"endpoints": endpoints})
    assert answer.status_code == 412
    assert idle_http.get("/v2/topics/large").status_code == 404


def test_schedules_by_post_and_by_the_old_way(server, http, destination):
    options = "upstash-cron=%200%200%201%201%20*%20&upstash-schedule-id=old"
    answer = http.post(f"/v2/publish/{destination.url}?{options}")
    assert answer.json() == {"scheduleId": "old"}
    assert http.post("/v2/schedules/old/pause").status_code == 200
    shown = http.get("/v2/schedules/old").json()
    assert (shown["isPaused"], shown["cron"]) == (True, "0 0 1 1 *")
    assert "lastScheduleStates" not in shown
    # No schedule of that name: the words are a destination.
    assert "scheme" in http.post("/v2/schedules/new/pause",
                                 headers={"Upstash-Cron": "* * * * *"}).json()["error"]  # fmt: skip


def test_the_server_delivers_nothing_to_itself(server, http):
    port = server.url.rpartition(":")[2]
    for url in (
        server.url,
        f"http://localhost:{port}/v2/publish/http://h/",
        f"http://[::1]:{port}",
    ):
        answer = http.post(f"/v2/publish/{url}")
        assert (answer.status_code, "itself" in answer.json()["error"]) == (400, True)
    headers = {"Upstash-Callback": f"{server.url}/v2/batch"}
    assert http.post("/v2/publish/http://h/", headers=headers).status_code == 400


def test_a_rewrite_to_the_server_itself_is_no_way_round(destination):
    rewriting = DevServer(rewrite={"https://prod": destination.url})
    with DevServer() as first, rewriting as server, raw_client(server) as http:
        assert http.post("/v2/publish/https://prod/x").status_code == 200
        assert http.post(f"/v2/publish/{first.url}/v2/keys").status_code == 200
    port = free_port()
    circle = DevServer(rewrite={"https://prod": f"http://127.0.0.1:{port}"}, port=port)
    with circle as server, raw_client(server) as http:
        answer = http.post("/v2/publish/https://prod/x")
        assert (answer.status_code, "itself" in answer.json()["error"]) == (400, True)


def test_large_batches_are_refused(idle_http):
    items = json.dumps([{}] * 10_001)
    assert idle_http.post("/v2/batch", content=items).status_code == 413


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:1", 200), ("[::1]:8080", 200), ("localhost", 200), ("qstash:8080", 200),
     ("host.docker.internal:8080", 200), ("10.0.0.7", 200), ("evil.example:8080", 403)],
)  # fmt: skip
def test_a_public_name_does_not_lead_here_with_the_public_token(idle_http, host, status):
    assert idle_http.get("/v2/keys", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ({"destination": "http://h/" + "x" * 70_000}, "more than 65536 characters"),
        ({"destination": "http://h/", "headers": {"Upstash-Forward-X": "x" * 140_000}}, "headers"),
        ({"destination": "http://h/", "headers": {f"Upstash-Forward-X{n}": "x" * 1_400
                                                  for n in range(100)}}, "headers"),
    ],
)  # fmt: skip
def test_absurd_sizes_are_refused(idle_http, item, problem):
    (answer,) = idle_http.post("/v2/batch", content=json.dumps([item])).json()
    assert problem in answer["error"]


def test_nothing_grows_without_bound():
    """Where a client could go on for ever, something gives way at a limit."""
    service = Service(Config(max_stored=10_000, max_waiting=50, keep_finished=10))
    service.open()
    with pytest.raises(Refused, match="bytes are waiting"), service.accepting():
        for _ in range(10):  # headers count too
            headers = (("Upstash-Forward-X", "x" * 4_000),)
            request = Request(destination="http://h/", headers=headers, body=b"", caller_ip="")
            service.publish(request)
    service.cancel_matching(read_filters([]), None)
    now = service.clock.now()
    for number in range(flow._MOST_KEYS + 100):
        service.flows.make(f"k{number}", now)
    assert len(service.flows) <= flow._MOST_KEYS
    key = service.flows.make("busy", now)
    key.rate, key.period = 1, 604_800
    for number in range(3):
        message = Message(f"msg_{number}", spec(now, flow=FlowLimits(key="busy")))
        service.gates.arrive(message, now)
    service.gates.ready.clear()
    most = 2 * len(service.flows) + 1_000
    for step in range(3 * most):
        key.reset(now + step)
        key.rate_count = 1
        service.gates.pump_key(key, now + step)
    assert len(service.gates._periods) <= most
    with pytest.raises(Refused, match="no more"):
        for number in range(queues._MOST_QUEUES + 1):
            service.queues.make(f"q{number}", now)
    cron = parse_cron("* * * * *")
    large = b"x" * 1_000_000
    with pytest.raises(Refused, match="schedules are larger"):
        for number in range(schedules._MOST_BYTES // len(large) + 1):
            request = Request(destination="http://h/", headers=(), body=large, caller_ip="")
            one = Schedule(id=f"s{number}", request=request, cron=cron, created_at=now,
                           sample=spec(now, body=large))  # fmt: skip
            service.schedules.add(one.id, one, now)
    for number in range(runs._MOST_ENDED + 50):
        began = spec(now, workflow=(("runid", f"wfr_{number}"), ("init", "true")))
        message = Message(f"msg_{number}", began)
        service.runs.begin(message)
        service.runs.take_step(message)
        service.runs.end(f"wfr_{number}", "finished")
    assert len(service.runs._runs) == runs._MOST_ENDED
    assert service.runs._size == 0
    assert service.store.records("step") == {}


def test_deliveries_say_from_which_queue_and_schedule_they_come(server, http, destination):
    message_id = http.post(f"/v2/enqueue/q/{destination.url}").json()["messageId"]
    server.wait_for(lambda: len(server.events()) == 3)
    assert http.get(f"/v2/messages/{message_id}").json()["queueName"] == "q"
    assert http.get("/v2/events?queueName=q").json()["events"][0]["queueName"] == "q"
    assert http.get("/v2/events?queueName=x").json()["events"] == []
    began = int(time.time() * 1000)
    assert http.get(f"/v2/events?fromDate={began + 60_000}").json()["events"] == []
