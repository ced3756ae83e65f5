"""A dead letter goes only if a new message came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from django_hookflow.devserver.server import DevServer
from django_hookflow.devserver.store import StoreError
from tests.devserver.conftest import raw_client

URL = "http://h/p"


@pytest.fixture(params=["memory", "file"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DevServer]:
    db = tmp_path / "qstash.db" if request.param == "file" else None
    with DevServer(virtual_time=True, db=db) as running:
        yield running


@pytest.fixture
def http(server: DevServer) -> Iterator[httpx.Client]:
    with raw_client(server) as client:
        yield client


@pytest.fixture
def give_up(server: DevServer, http: httpx.Client) -> Callable[..., str]:
    """Publish a message that is given up at once; the id of its letter."""

    def give_up(body: str = "", **headers: str) -> str:
        server.answer_next(1, 500)
        options = {name.replace("_", "-"): value for name, value in headers.items()}
        http.post(f"/v2/publish/{URL}", content=body,
                  headers={"Upstash-Retries": "0"} | options).raise_for_status()  # fmt: skip
        server.advance()
        return letters(server)[-1]

    return give_up


def letters(server: DevServer) -> list[str]:
    return [letter.id for letter in server.dead_letters()]


RUN = {"Upstash-Workflow-RunId": "r", "Upstash-Workflow-Url": URL}
FIRST = RUN | {"Upstash-Workflow-Init": "true"}


def test_the_first_message_of_a_failed_run_begins_it_again(server, http, give_up):
    dlq_id = give_up("start", **FIRST)
    assert server._service.runs.find("r").state == "failed"
    server.answer_next(1, 200)
    answer = http.post(f"/v2/dlq/retry/{dlq_id}")
    assert answer.status_code == 201
    server.advance()
    assert letters(server) == []
    (*_, delivery) = server.deliveries()
    assert (delivery.message_id, delivery.status) == (answer.json()["messageId"], 200)
    (step,) = http.get("/v2/workflows/runs/r").json()
    assert step["messageId"] == delivery.message_id
    # It is begun as often as that: anybody else's message of that run is still a duplicate.
    again = http.post(f"/v2/publish/{URL}", headers=FIRST).json()
    assert again == {"messageId": delivery.message_id, "deduplicated": True}


def test_a_run_begun_again_outlives_the_process(tmp_path):
    db = tmp_path / "qstash.db"
    with DevServer(virtual_time=1e9, db=db) as server, raw_client(server) as http:
        server.answer_next(1, 500)
        http.post(f"/v2/publish/{URL}", headers=FIRST | {"Upstash-Retries": "0"}, content="start")
        server.advance()
        server.answer_next(1, 200)
        assert http.post(f"/v2/dlq/retry/{letters(server)[0]}").status_code == 201
        server.advance()
    with DevServer(virtual_time=1e9, db=db) as server, raw_client(server) as http:
        assert len(http.get("/v2/workflows/runs/r").json()) == 1


def test_a_later_step_of_a_run_that_is_over_stays_a_letter(server, http, give_up):
    server.answer_next(1, 200)
    http.post(f"/v2/publish/{URL}", headers=FIRST)
    server.advance()
    give_up("1")
    step = give_up("2", **RUN)
    give_up("3")
    answer = http.post(f"/v2/dlq/retry/{step}")
    assert (answer.status_code, "over" in answer.json()["error"]) == (400, True)
    server.answer_next(2, 200)
    answer = http.post("/v2/dlq/retry?responseStatus=500")
    assert answer.status_code == 201
    one, refused, other = answer.json()["responses"]
    assert [list(one), list(refused), list(other)] == [["messageId"], ["error"], ["messageId"]]
    assert letters(server) == [step]


def test_a_deduplication_id_that_another_message_has(server, http, give_up):
    dlq_id = give_up()
    options = {"Upstash-Deduplication-Id": "d"}
    other = http.post(f"/v2/publish/{URL}", headers={"Upstash-Delay": "1h"} | options).json()
    answer = http.post(f"/v2/dlq/retry/{dlq_id}", headers=options)
    assert answer.status_code == 202
    assert answer.json() == {"messageId": other["messageId"], "deduplicated": True}
    assert letters(server) == [dlq_id]


def test_a_retry_is_no_duplicate_of_its_own_original(server, http, give_up):
    options = {"Upstash-Deduplication-Id": "d"}
    dlq_id = give_up(**options)
    for _ in range(2):
        server.answer_next(1, 500)
        answer = http.post(f"/v2/dlq/retry/{dlq_id}", headers=options)
        assert (answer.status_code, "deduplicated" in answer.json()) == (201, False)
        server.advance()
        (dlq_id,) = letters(server)
    # Others are duplicates of the newest.
    again = http.post(f"/v2/publish/{URL}", headers=options).json()
    assert again["messageId"] == server.dead_letters()[0].message.id


def test_one_deduplication_id_for_many_is_one_message(server, http, give_up):
    first, second = give_up("1"), give_up("2")
    answer = http.post("/v2/dlq/retry", params={"dlqIds": [first, second]},
                       headers={"Upstash-Deduplication-Id": "d"})  # fmt: skip
    message_id = answer.json()["responses"][0]["messageId"]
    assert answer.json()["responses"] == [
        {"messageId": message_id},
        {"messageId": message_id, "deduplicated": True},
    ]
    assert letters(server) == [second]


def test_deduplication_by_content_is_by_the_content_of_the_letter(server, http, give_up):
    options = {"Upstash-Content-Based-Deduplication": "true"}
    for number in ("1", "2"):
        give_up(number, **options)
    answer = http.post("/v2/dlq/retry?responseStatus=500", headers=options).json()
    assert len({one["messageId"] for one in answer["responses"]}) == 2
    assert letters(server) == []
    again = http.post(f"/v2/publish/{URL}", headers=options, content="2").json()
    assert again == {**answer["responses"][1], "deduplicated": True}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/dlq/retry/{0}"),
        ("POST", "/v2/dlq/retry?dlqIds={0},{1}"),
        ("DELETE", "/v2/dlq/{0}"),
        ("DELETE", "/v2/dlq?dlqIds={1}"),
    ],
)
def test_what_cannot_be_kept_leaves_the_letters(server, http, give_up, monkeypatch, method, path):
    ids = [give_up("1"), give_up("2"), give_up("3", **FIRST)]
    store = server._service.store
    sizes = store.dead_letters._size

    def fail() -> None:
        raise StoreError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(store, "commit", fail)
        assert http.request(method, path.format(*ids)).status_code == 500
    assert letters(server) == ids
    assert store.dead_letters._size == sizes
    assert [one["dlqId"] for one in http.get("/v2/dlq").json()["messages"]] == ids
    server.answer_next(3, 200)
    answer = http.post("/v2/dlq/retry", params={"dlqIds": ids}).json()
    assert ["error" in one or "deduplicated" in one for one in answer["responses"]] == [False] * 3
    assert letters(server) == []


def test_letters_of_workflow_runs_by_their_source(server, http, give_up):
    plain, run = give_up("1"), give_up("2", **FIRST)

    def found(source: str) -> list[str]:
        listed = http.get("/v2/dlq", params={"source": source}).json()["messages"]
        return [one["dlqId"] for one in listed]

    assert (found("workflow"), found("other"), found("")) == ([run], [], [plain, run])
    assert http.delete("/v2/dlq?source=workflow").json() == {"deleted": 1}
    assert letters(server) == [plain]


@pytest.mark.parametrize("query", ["", "?count=100", "?source="])
def test_no_filter_retries_nothing(server, http, give_up, query):
    dlq_id = give_up("1")
    assert http.post(f"/v2/dlq/retry{query}").status_code == 400
    assert letters(server) == [dlq_id]
    # So one says that all are meant, also in JavaScript: filter: { fromDate: 0 }.
    server.answer_next(1, 200)
    assert len(http.post("/v2/dlq/retry?fromDate=0&count=100").json()["responses"]) == 1
    assert letters(server) == []
