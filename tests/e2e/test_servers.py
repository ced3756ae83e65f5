"""What is particular to a server: its timeout, its restart, its fork, and what requests leave.

``HOOKFLOW_TEST_SERVERS`` chooses as in test_promises; without it a few are tried, and for a shorter
time.
"""

import json
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from django.conf import settings
from django.db import connections

from django_hookflow.core.messages import Wake

from .processes import DOMAIN, WEBHOOK, Deployment, chosen_servers, wait_until
from .test_promises import finish, run_row, signed

pytestmark = [pytest.mark.django_db(databases="__all__", transaction=True), pytest.mark.slow]

CHOSEN = "HOOKFLOW_TEST_SERVERS" in os.environ
COLOURS = ["sync", "async"] if CHOSEN else ["async"]
RESTARTS = 5 if CHOSEN else 2
#: Of four deliveries each.
ROUNDS = 13 if CHOSEN else 4
#: Of the databases one is enough: what is looked at here is processes.
ALIAS = "postgres" if "postgres" in settings.DATABASES else "default"
#: What Python says of something that nobody closed, awaited or took.
LEFT_BEHIND = re.compile(
    r"was destroyed|is closed|ResourceWarning|never awaited|never retrieved|Exception ignored"
)


def servers(*names, usually):
    """The chosen ones of ``names``; without a choice the first ``usually``."""
    return [name for name in names if name in chosen_servers()] if CHOSEN else names[:usually]


@pytest.fixture
def deploy(tmp_path):
    """Make a deployment: ``deploy(**environment)``."""
    opened = []

    def make(**environment):
        environment = {"DJANGO_HOOKFLOW_LEASE_SECONDS": "60", **environment}
        deployment = Deployment(tmp_path, ALIAS, **environment)
        opened.append(deployment.__enter__())
        return deployment

    yield make
    for deployment in opened:
        deployment.__exit__()
    connections[ALIAS].close()


# --- a restart


def executed(deployment):
    return deployment.ledger.read_text().count("\n")


def restart(deployment, server):
    """End the server as a deploy does and start it again; how long the end took, in seconds."""
    process = deployment.servers[-1]
    began = time.monotonic()
    process.terminate()
    process.wait(60)
    took = time.monotonic() - began
    # uvicorn ends by the signal that it was sent, as a well-behaved process does.
    assert process.returncode in (0, -signal.SIGTERM)
    deployment.serve(server=server)
    return took


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    "server",
    servers(
        *("uvicorn", "gunicorn-sync", "uvicorn-2", "gunicorn-gthread", "gunicorn-asgi"), usually=2
    ),
)
def test_restarts_repeat_no_body_and_wait_for_no_delivery(deploy, server, colour):
    deployment = deploy(DJANGO_HOOKFLOW_QSTASH_RETRIES="20")
    deployment.serve(server=server)
    # A delivery of 8 s: a server that waited for its end would take as long to end.
    steps = 40
    data = {"steps": steps, "seconds": 0.2, "sleeps": 1}
    runs = [deployment.trigger(f"e2e.{colour}", data) for _ in range(2)]
    ends = []
    for _ in range(RESTARTS):
        enough = executed(deployment) + 4
        wait_until(lambda least=enough: executed(deployment) >= least, 90, deployment.logs)
        ends.append(restart(deployment, server))
    for run_id in runs:
        finish(deployment, run_id, ALIAS, seconds=120)
        assert deployment.bodies(run_id) == {f"step-{n}#1": 1 for n in range(steps)}
        assert run_row(run_id, ALIAS).deaths == 0
    print(server, colour, "ended within", [round(seconds, 1) for seconds in ends])
    assert sorted(ends)[(len(ends) - 1) // 2] < 5  # one of two may meet a busy machine


# --- a step that is longer than the worker's timeout


def deliver(deployment, body):
    """One delivery of our own; ``None`` if the worker that had it was killed."""
    url = WEBHOOK.replace(DOMAIN, f"http://127.0.0.1:{deployment.port}")
    try:
        return httpx.post(url, content=body, headers=signed(deployment, body), timeout=30)
    except httpx.TransportError:
        return None


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("server", servers("gunicorn-sync", usually=1))
def test_a_step_longer_than_the_workers_timeout_ends_as_blocked(deploy, server, colour):
    deployment = deploy(DJANGO_HOOKFLOW_LEASE_SECONDS="1")
    deployment.devserver.drop_next(1)  # the deliveries are ours
    # Loaded before the fork: the limit holds for a worker's start too.
    deployment.serve(server=server, options=["--timeout", "3", "--preload"])
    run_id = deployment.trigger(f"e2e.toolong.{colour}")
    body = Wake(run=run_row(run_id, ALIAS).id, number=1).encode().encode()
    deadline = time.monotonic() + 400
    while not run_row(run_id, ALIAS).blocked:
        assert time.monotonic() < deadline, deployment.logs()
        answer = deliver(deployment, body)
        if answer is not None and answer.status_code == 503:
            time.sleep(0.5)  # the lease has not run out
    run = run_row(run_id, ALIAS)
    assert run.blocked.startswith(
        "the process died 5 times without recording anything; the next step would be 'endless"
    )
    assert "--timeout" in run.blocked
    assert (run.status, run.error) == ("suspended", None)
    assert deployment.bodies(run_id) == {"before#1": 1, "endless#1": 5}


# --- what deliveries leave behind


def state(deployment):
    """What the one worker holds open, by its own account and by the kernel's."""
    url = f"http://127.0.0.1:{deployment.port}/state"
    told = httpx.get(url, timeout=60).json()
    own = Path(f"/proc/{told['pid']}")
    links = (link for link in (own / "fd").iterdir())
    return {
        **told,
        "fds": sum(1 for _ in links),
        "threads": len(list((own / "task").iterdir())),
        "connections": opened_connections(),
    }


def opened_connections():
    if ALIAS != "postgres":
        return 0
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'the-server'"
        )
        return cursor.fetchone()[0]


def everything(deployment, times):
    """Two runs at a time, of two deliveries each: a client keeps what was busy at once."""
    url = f"{deployment.devserver.url}/v2/keys"
    for _ in range(times):
        runs = [
            deployment.trigger(f"e2e.everything.{colour}", {"url": url})
            for colour in ("sync", "async")
        ]
        for run_id in runs:
            finish(deployment, run_id, ALIAS)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts in /proc")
@pytest.mark.parametrize(
    "server",
    servers("gunicorn-sync", "gunicorn-gthread", "uvicorn", "gunicorn-asgi", usually=1),
)
def test_deliveries_leave_nothing_behind(deploy, server):
    named = {"OPTIONS": {"application_name": "the-server"}} if ALIAS == "postgres" else {}
    deployment = deploy(
        HOOKFLOW_E2E_DATABASE=json.dumps(named),
        PYTHONDEVMODE="1",
        PYTHONWARNINGS="default",
        HOOKFLOW_LOG="WARNING",
    )
    alone = () if server == "uvicorn" else ("--workers", "1")
    process = deployment.serve(server=server, options=alone)
    everything(deployment, 4)  # what is kept for the next delivery is open from here on
    time.sleep(0.5)
    baseline = state(deployment)
    everything(deployment, ROUNDS)
    wait_until(
        lambda: settled(state(deployment), baseline), 60, lambda: (baseline, state(deployment))
    )
    print(server, baseline, "then", state(deployment))
    process.terminate()
    process.wait(30)
    # A sync worker leaves its own listening socket to the end of the process.
    listener = rf".*laddr=\('127.0.0.1', {deployment.port}\)>\nResourceWarning: Enable .*\n"
    said = re.sub(listener, "", deployment.logs())
    assert LEFT_BEHIND.findall(said) == [], said


def settled(now, baseline):
    same = ("pid", "fds", "connections", "tasks", "loops")
    more = Counter(now["named"]) - Counter(baseline["named"])
    # Threads of the pool for steps side by side stay; they are made when they are needed.
    more.pop("hookflow-step", None)
    return not more and all(now[key] <= baseline[key] for key in same)


# --- a fork


@pytest.mark.parametrize(
    "server",
    servers("gunicorn-gthread", "gunicorn-sync", "gunicorn-asgi", usually=1),
)
def test_a_master_that_has_delivered_before_it_forked_has_working_children(deploy, server):
    """Under ``--preload`` the runtime, its pool, its clients and its keeper are the master's."""
    deployment = deploy(HOOKFLOW_DELIVER_AT_IMPORT="in-the-master")
    deployment.devserver.drop_next(1)
    url = f"{deployment.devserver.url}/v2/keys"
    deployment.trigger("e2e.everything.async", {"url": url}, "in-the-master")
    deployment.serve(server=server, options=["--preload"])
    assert deployment.bodies("in-the-master")["bounded#1"] == 1
    everything(deployment, 4)
    finish(deployment, "in-the-master", ALIAS)
    lines = (line.split() for line in deployment.ledger.read_text().splitlines())
    assert set(Counter((run, step) for run, step, *_ in lines).values()) == {1}
