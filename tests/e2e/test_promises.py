"""What is promised, with real processes: web servers, a QStash, SIGKILL and SIGSTOP.

Bodies are counted by a ledger outside of every database. Every test runs under each server of
``HOOKFLOW_TEST_SERVERS``: ``all``, or names of ``processes.SERVERS`` with commas; without it
under uvicorn, with one test that runs under all of them.
"""

import asyncio
import os
import signal
import subprocess
import time
from datetime import timedelta

import httpx
import pytest
from django.apps import apps
from django.db import connections
from django.utils import timezone

from django_hookflow.core.messages import Wake
from django_hookflow.transports.signing import sign
from tests.app.models import Effect
from tests.ports import free_port

from .processes import (
    DOMAIN,
    SERVERS,
    WEBHOOK,
    Deployment,
    chosen_servers,
    wait_until,
)

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


@pytest.fixture
def deployment(alias, tmp_path):
    with Deployment(tmp_path, alias) as deployment:
        yield deployment
    connections[alias].close()


@pytest.fixture(params=["sync", "async"])
def colour(request):
    return request.param


@pytest.fixture(params=chosen_servers())
def server(request):
    return request.param


def run_row(run_id, alias):
    model = apps.get_model("django_hookflow", "WorkflowRun")
    return model.objects.using(alias).get(run_id=run_id)


def finish(deployment, run_id, alias, seconds=90):
    wait_until(
        lambda: run_row(run_id, alias).status in ("completed", "failed"), seconds, deployment.logs
    )
    run = run_row(run_id, alias)
    assert run.status == "completed", (run.error, deployment.logs())
    return run


def signed(deployment, body):
    return {
        "Upstash-Signature": sign(
            key=deployment.devserver.current_key, url=WEBHOOK, body=body,
            now=int(time.time()), jti="jwt_x",
        )
    }  # fmt: skip


def test_ten_steps_cost_one_message_and_each_sleep_one_more(deployment, alias, colour, server):
    deployment.serve(server=server)
    for sleeps in (0, 3):
        before = len(deployment.messages())
        run_id = deployment.trigger(f"e2e.{colour}", {"steps": 10, "sleeps": sleeps})
        finish(deployment, run_id, alias)
        published = deployment.messages()[before:]
        assert len(published) == 1 + sleeps
        assert max(message.body_size for message in published) <= 300
        assert deployment.bodies(run_id) == {f"step-{n}#1": 1 for n in range(10)}


@pytest.mark.parametrize("server", list(SERVERS))
def test_either_colour_runs_under_every_server(deployment, alias, server):
    deployment.serve(server=server)
    for colour in ("sync", "async"):
        run_id = deployment.trigger(f"e2e.{colour}", {"steps": 3, "sleeps": 1})
        assert finish(deployment, run_id, alias).result == "done"
        assert set(deployment.bodies(run_id).values()) == {1}


def test_a_kill_between_effect_and_record_repeats_that_body_and_no_other(
    deployment, alias, colour, server
):
    deployment.serve(server=server)
    run_id = deployment.trigger(f"e2e.die.{colour}")
    deployment.revive(deployment.bury(deployment.folder / "ledger.died"), server=server)
    assert finish(deployment, run_id, alias).result == "survived"
    assert deployment.bodies(run_id) == {"before#1": 1, "deadly#1": 2, "after#1": 1}


def test_20_duplicates_of_one_delivery_at_once_run_each_body_once(
    deployment, alias, colour, server
):
    deployment.devserver.drop_next(1)  # the deliveries are ours
    deployment._extra["DJANGO_HOOKFLOW_LEASE_SECONDS"] = (
        "60"  # no matter how slow: none may run out
    )
    deployment.serve(server=server)
    run_id = deployment.trigger(f"e2e.{colour}", {"steps": 5})
    body = Wake(run=run_row(run_id, alias).id, number=1).encode().encode()

    async def storm():
        async with httpx.AsyncClient(timeout=90) as client:
            url = WEBHOOK.replace(DOMAIN, f"http://127.0.0.1:{deployment.port}")
            posts = (
                client.post(url, content=body, headers=signed(deployment, body)) for _ in range(20)
            )
            return await asyncio.gather(*posts)

    statuses = sorted(response.status_code for response in asyncio.run(storm()))
    assert statuses[0] == 200
    assert set(statuses) <= {200, 503}
    finish(deployment, run_id, alias)
    assert deployment.bodies(run_id) == {f"step-{n}#1": 1 for n in range(5)}


def test_a_stalled_holder_whose_lease_was_taken_over_cannot_write(
    deployment, alias, colour, server
):
    deployment.serve(server=server)
    run_id = deployment.trigger(f"e2e.stop.{colour}")
    pid_file = deployment.folder / "ledger.stopped"
    wait_until(lambda: pid_file.exists() and pid_file.read_text(), 60, deployment.logs)
    stalled = int(pid_file.read_text())
    other = free_port()
    deployment.serve(port=other, server=server)
    wait_until(lambda: run_row(run_id, alias).lease_until < timezone.now(), 60)
    body = Wake(run=run_row(run_id, alias).id, number=1).encode().encode()
    url = WEBHOOK.replace(DOMAIN, f"http://127.0.0.1:{other}")
    answer = httpx.post(url, content=body, headers=signed(deployment, body), timeout=60)
    assert answer.status_code == 200
    run = run_row(run_id, alias)
    assert run.status == "completed"
    assert run.result != stalled
    before = list(run.steps.values("status", "finished_at", "epoch"))
    os.kill(stalled, signal.SIGCONT)
    wait_until(lambda: "another holder took over" in deployment.logs(), 60)
    run = run_row(run_id, alias)
    assert run.result != stalled
    assert list(run.steps.values("status", "finished_at", "epoch")) == before
    assert deployment.bodies(run_id) == {"stall#1": 2}


@pytest.mark.parametrize("point", ["atomic:inside@1", "atomic:after@1", "atomic:inside@2"])
def test_atomic_rows_and_journal_agree_after_a_crash_around_commit(
    alias, tmp_path, colour, point, server
):
    crash = {"HOOKFLOW_CRASH": point, "HOOKFLOW_CRASH_ONCE": str(tmp_path / "crashed")}
    with Deployment(tmp_path, alias, **crash) as deployment:
        deployment.serve(server=server)
        run_id = deployment.trigger(f"e2e.atomic.{colour}", {"alias": alias})
        victim = deployment.bury(tmp_path / "crashed")
        # Nobody goes on before the lease has run out: the two reads see one moment.
        rows = Effect.objects.using(alias).filter(run_id=run_id)
        completed = run_row(run_id, alias).steps.filter(status="completed")
        assert sorted(row.step for row in rows) == sorted(step.step_id for step in completed)
        deployment.revive(victim, server=server)
        finish(deployment, run_id, alias)
        assert sorted(row.step for row in rows.all()) == ["book-0", "book-1"]


def test_a_trigger_that_died_after_commit_is_started_by_the_next_one(alias, tmp_path, server):
    crash = {
        "HOOKFLOW_CRASH": "trigger:after@1",
        "HOOKFLOW_CRASH_ONCE": str(tmp_path / "crashed"),
    }
    with Deployment(tmp_path, alias, **crash) as deployment:
        deployment.serve(server=server)
        with pytest.raises(subprocess.CalledProcessError, match="SIGKILL"):
            deployment.trigger("e2e.async", {"steps": 1}, "lost", crashing=True)
        assert run_row("lost", alias).status == "pending"
        assert deployment.messages() == []
        age(alias, "lost", seconds=16)
        deployment.trigger("e2e.async", {"steps": 1})
        finish(deployment, "lost", alias)
        assert deployment.bodies("lost") == {"step-0#1": 1}


def test_a_trigger_that_died_after_commit_is_started_by_the_sweep_command(alias, tmp_path, server):
    crash = {
        "HOOKFLOW_CRASH": "trigger:after@1",
        "HOOKFLOW_CRASH_ONCE": str(tmp_path / "crashed"),
    }
    with Deployment(tmp_path, alias, **crash) as deployment:
        deployment.serve(server=server)
        with pytest.raises(subprocess.CalledProcessError, match="SIGKILL"):
            deployment.trigger("e2e.sync", {"steps": 1}, "lost", crashing=True)
        age(alias, "lost", seconds=16)
        deployment.command("hookflow", "sweep")
        finish(deployment, "lost", alias)


def age(alias, run_id, *, seconds):
    """Let so many seconds have passed since the run was stored."""
    model = apps.get_model("django_hookflow", "WorkflowRun")
    then = timezone.now() - timedelta(seconds=seconds)
    model.objects.using(alias).filter(run_id=run_id).update(owed_at=then, due_at=then)


def test_a_long_def_step_runs_once_however_short_its_lease(deployment, alias, server):
    """``HOOKFLOW_LONG_STEP=90:10`` runs it at full length: a step of 90 s, a lease of 10 s."""
    seconds, lease = os.environ.get("HOOKFLOW_LONG_STEP", "6:1").split(":")
    deployment._extra["DJANGO_HOOKFLOW_LEASE_SECONDS"] = lease
    patient = ["--timeout", "120"] if server.startswith("gunicorn") else []
    deployment.serve(server=server, options=patient)
    runs = [
        deployment.trigger(f"e2e.long.{colour}", {"seconds": float(seconds)})
        for colour in ("sync", "async")
    ]
    for run_id in runs:
        finish(deployment, run_id, alias, seconds=float(seconds) + 90)
        assert deployment.bodies(run_id) == {"long#1": 1}
