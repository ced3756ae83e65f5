"""``hookflow worker`` as processes: with no QStash at all, and beside deliveries.

``HOOKFLOW_WORKER_RUNS=500`` runs it at full size.
"""

import os
import subprocess
import sys
from collections import Counter

import pytest
from django.db import connections
from django.test import override_settings

from django_hookflow.registry import registry
from tests.ports import free_port

from .processes import Deployment, wait_until

pytestmark = [
    pytest.mark.django_db(databases="__all__", transaction=True),
    pytest.mark.slow,
]

RUNS = int(os.environ.get("HOOKFLOW_WORKER_RUNS", "30"))
STEPS = 3
#: A run of this size takes 30 to 60 ms on two cores that do nothing else. Where other tests do,
#: SQLite's one writer is whoever comes first, and somebody else waits for twenty seconds.
PATIENCE = 240 + RUNS * 0.6


@pytest.fixture
def deployment(alias, tmp_path):
    # Not the other tests' one second: on a busy machine SQLite's one writer keeps leases waiting,
    # and nobody dies here.
    with Deployment(tmp_path, alias, DJANGO_HOOKFLOW_LEASE_SECONDS="600") as deployment:
        yield deployment
    connections[alias].close()


def start_many(deployment: Deployment, **settings: str) -> list[str]:
    with override_settings(**{**deployment.settings, **settings}):
        runs = []
        for colour in ("sync", "async"):
            flow = registry.find(f"e2e.{colour}", "")
            runs += flow.trigger_many([{"steps": STEPS, "sleeps": 1}] * (RUNS // 2))
        return runs


def worker(deployment: Deployment, number: int, **environment: str) -> subprocess.Popen[bytes]:
    """Start a worker and wait until it says so: from then on a signal ends it in order."""
    path = deployment.folder / f"worker-{number}.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "django", "hookflow", "worker", "--every", "0.1"],
            env={**deployment.environment, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    deployment.servers.append(process)
    wait_until(lambda: b"Looking for due runs" in path.read_bytes(), 90, deployment.logs)
    return process


def finished(alias: str, runs: list[str]) -> bool:
    model = registry.find("e2e.sync", "").runs.model
    ended = model.objects.using(alias).filter(run_id__in=runs, status="completed")
    return ended.count() == len(runs)


def expect_each_body_once(deployment: Deployment, runs: list[str]) -> None:
    lines = (line.split() for line in deployment.ledger.read_text().splitlines())
    bodies = Counter((run, step) for run, step, *_ in lines)
    assert set(bodies.values()) == {1}, [body for body, count in bodies.items() if count > 1]
    assert len(bodies) == len(runs) * STEPS


def test_with_no_qstash_at_all_every_run_finishes(deployment: Deployment, alias: str) -> None:
    nowhere = {"QSTASH_URL": f"http://127.0.0.1:{free_port()}"}
    runs = start_many(deployment, **nowhere)
    working = worker(deployment, 1, **nowhere)
    wait_until(lambda: finished(alias, runs), PATIENCE, deployment.logs)
    expect_each_body_once(deployment, runs)
    assert deployment.messages() == []
    working.terminate()
    assert working.wait(90) == 0


def test_two_workers_beside_deliveries_of_the_same_runs(deployment: Deployment, alias: str) -> None:
    deployment.serve()
    workers = [worker(deployment, number) for number in (1, 2)]
    runs = start_many(deployment)
    wait_until(lambda: finished(alias, runs), PATIENCE, deployment.logs)
    expect_each_body_once(deployment, runs)
    assert len(deployment.messages()) >= len(runs)
    wait_until(deployment.devserver.deliveries, 30, deployment.logs)  # they may have come last
    expect_each_body_once(deployment, runs)
    for each in workers:
        each.terminate()
        assert each.wait(90) == 0
