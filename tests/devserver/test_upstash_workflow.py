"""Upstash's own workflow package, unmodified, runs on the local server to its end.

It is in the dependency group ``workflow``. ``HOOKFLOW_TEST_WORKFLOW_PYTHON`` may name another
interpreter that has it.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from django_hookflow.devserver.server import DevServer
from tests.devserver.conftest import Answer, Destination, raw_client

PYTHON = os.environ.get("HOOKFLOW_TEST_WORKFLOW_PYTHON", sys.executable)
APPS = Path(__file__).with_name("workflow_apps.py")


def missing() -> str:
    needed = "import fastapi, flask, upstash_workflow, uvicorn"
    found = subprocess.run([PYTHON, "-c", needed], check=False, capture_output=True, text=True)
    return found.stderr.strip().rpartition("\n")[2]


@pytest.fixture(scope="module")
def _installed() -> None:
    problem = missing()
    if problem:
        pytest.skip(f"NOT run, as {PYTHON} has not the dependency group 'workflow': {problem}")


@pytest.fixture(params=["memory", "file"])
def server(_installed, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DevServer]:
    db = tmp_path / "qstash.db" if request.param == "file" else None
    with DevServer(virtual_time=True, db=db) as running:
        yield running


@pytest.fixture(params=["fastapi", "flask"])
def app(request: pytest.FixtureRequest, server: DevServer) -> Iterator[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [PYTHON, str(APPS), request.param],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment
        | {
            "QSTASH_URL": server.url,
            "QSTASH_TOKEN": server.token,
            "QSTASH_CURRENT_SIGNING_KEY": server.current_key,
            "QSTASH_NEXT_SIGNING_KEY": server.next_key,
        },
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def done(app: str) -> list[list[object]]:
    return httpx.get(f"{app}/done", trust_env=False, timeout=60).json()


def test_a_run_comes_to_its_end(server: DevServer, app: str, destination: Destination) -> None:
    destination.answer_in_turn(Answer(status=500, body=b"busy"), Answer(body=b"charged"))
    with raw_client(server) as http:
        order = {"n": 21, "bank": f"{destination.url}/charge"}
        http.post(f"/v2/publish/{app}/order", json=order,
                  headers={"Upstash-Forward-X-Shop": "ours"})  # fmt: skip
        server.advance(3_599)
        assert done(app) == [["total", 42]]
        (run,) = server._service.runs.going()
        steps = http.get(f"/v2/workflows/runs/{run.id}").json()
        assert json.loads(base64.b64decode(steps[0]["body"])) == order
        server.advance(5)
        # The first call failed; its second comes after the usual back-off.
        assert len(destination.arrivals) == 1
        assert done(app) == [["total", 42]]
        server.advance(60)
        assert len(destination.arrivals) == 2
        assert done(app) == [["total", 42], ["paid", [200, "charged"]]]
        for arrival in destination.arrivals:
            assert json.loads(arrival.body) == {"total": 42}
            assert arrival.headers["x-shop"] == "us"
            assert not [name for name in arrival.headers if name.startswith("upstash-workflow")]
        server.advance(5 * 3_600)
        assert done(app)[2:] == [["thank", [200, "charged"]]]
        assert server._service.runs.going() == []
        assert http.get(f"/v2/workflows/runs/{run.id}").status_code == 404
    assert [letter.message.spec.url for letter in server.dead_letters()] == []


def test_a_run_that_fails_calls_its_failure_function(server: DevServer, app: str) -> None:
    with raw_client(server) as http:
        http.post(f"/v2/publish/{app}/broken", json={"order": 7},
                  headers={"Upstash-Forward-X-Shop": "ours"})  # fmt: skip
        server.advance(60)
        *steps, failed = done(app)
        assert steps == [["first", "ok"], ["breaks", ""], ["breaks", ""]]
        name, (payload, status, response, header) = failed
        assert (name, payload, status, header) == ("failed", {"order": 7}, 500, "ours")
        assert "out of stock" in response
        (letter,) = http.get("/v2/dlq").json()["messages"]
        assert letter["workflowRunId"].startswith("wfr_")
        assert server._service.runs.going() == []


def test_a_cancelled_run_does_nothing_more(server: DevServer, app: str) -> None:
    with raw_client(server) as http:
        http.post(f"/v2/publish/{app}/order", json={"n": 1, "bank": "http://127.0.0.1:9/"})
        server.advance(10)
        (run,) = server._service.runs.going()
        answer = http.delete("/v2/workflows/runs", params={"workflowUrl": app})
        assert answer.json() == {"cancelled": 1}
        server.advance(2 * 3_600)
        assert done(app) == [["total", 2]]
        assert server.dead_letters() == []
        step = {"Upstash-Workflow-RunId": run.id, "Upstash-Workflow-Init": "false"}
        answer = http.post(f"/v2/publish/{app}/order", headers=step)
        assert (answer.status_code, "over" in answer.json()["error"]) == (400, True)


def test_signatures_are_checked(server: DevServer, app: str) -> None:
    answer = httpx.post(f"{app}/order", json={"n": 1}, trust_env=False, timeout=60)
    assert answer.status_code >= 400
    assert done(app) == []


def test_a_run_begins_once(server: DevServer, app: str) -> None:
    headers = {"Upstash-Workflow-RunId": "wfr_mine", "Upstash-Workflow-Init": "true",
               "Upstash-Workflow-Url": f"{app}/order", "Upstash-Delay": "1h"}  # fmt: skip
    item = {"destination": f"{app}/order", "headers": headers, "body": "{}"}
    with raw_client(server) as http:
        (first,) = http.post("/v2/batch", json=[item]).json()
        (second,) = http.post("/v2/batch", json=[item]).json()
        assert second == {"messageId": first["messageId"], "deduplicated": True}
        assert http.delete("/v2/workflows/runs/wfr_mine?cancel=true").json() == {"cancelled": 1}
