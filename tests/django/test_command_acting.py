"""``manage.py hookflow trigger | cancel | retry | prune``."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError
from django.test import Client
from django.utils import timezone

from django_hookflow import TerminalError, workflow
from django_hookflow.models import WorkflowRun, WorkflowStep
from tests.django.command import Rows, ago, hookflow
from tests.django.harness import drain, hookflow_settings, messages, row

pytestmark = pytest.mark.django_db


@workflow(workflow_id="tests.acting.greet")
async def greet(ctx: Any) -> Any:
    if ctx.data.get("fail"):
        raise TerminalError("told to")
    return ctx.data


@workflow(workflow_id="tests.other.same")
def same(ctx: Any) -> None: ...


@workflow(workflow_id="tests.acting.same")
def same_too(ctx: Any) -> None: ...


@pytest.fixture(autouse=True)
def project():
    with hookflow_settings():
        messages()
        yield
        messages()


@pytest.fixture
def rows() -> Rows:
    return Rows()


# --- trigger


def test_trigger_starts_a_run_and_prints_its_id_alone() -> None:
    run_id = hookflow("trigger", "tests.acting.greet", "--data", '{"name": "Ada"}').strip()
    run = row(run_id)
    assert (run.status, run.data, run.workflow_id) == (
        "pending",
        {"name": "Ada"},
        "tests.acting.greet",
    )


def test_the_last_part_of_the_id_is_enough_if_it_is_one_workflows() -> None:
    assert row(hookflow("trigger", "greet").strip()).data == {}
    with pytest.raises(CommandError, match=r"tests\.acting\.same, tests\.other\.same"):
        hookflow("trigger", "same")


def test_a_run_id_starts_one_run() -> None:
    for _ in range(2):
        assert hookflow("trigger", "greet", "--run-id", "order-1").strip() == "order-1"
    assert WorkflowRun.objects.count() == 1
    with pytest.raises(CommandError, match="exists already"):
        hookflow("trigger", "greet", "--run-id", "order-1", "--data", "[1]")


def test_a_delay_starts_it_later() -> None:
    run = row(hookflow("trigger", "greet", "--delay", "1h30m").strip())
    assert run.due_at - run.created_at == timedelta(minutes=90)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["greet", "--data", "{name: 1}"], "no JSON"),
        (["nobody"], "There is no workflow 'nobody'"),
        (["greet", "--run-id", "no spaces"], "run_id has 1 to 128"),
        (["greet", "--delay", "soon"], "invalid duration"),
        (["greet", "--delay", "-5"], "delay"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_starts(arguments: list[str], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        hookflow("trigger", *arguments)
    assert WorkflowRun.objects.count() == 0


# --- cancel and retry


def test_cancel_ends_each_run_that_is_named(rows: Rows) -> None:
    for name in ("a", "b", "c"):
        rows.run(name, "suspended")
    assert hookflow("cancel", "a", "b") == "a is cancelled.\nb is cancelled.\n"
    assert [row(name).status for name in "abc"] == ["cancelled", "cancelled", "suspended"]


def test_a_run_that_refuses_stops_no_other(rows: Rows) -> None:
    rows.run("done", "completed", finished_at=ago(5))
    rows.run("asleep", "suspended")
    with pytest.raises(CommandError) as told:
        hookflow("cancel", "nobody", "done", "asleep")
    assert "There is no run 'nobody'" in str(told.value)
    assert "is completed; it cannot be cancelled" in str(told.value)
    assert row("asleep").status == "cancelled"


def test_retry_lets_a_failed_run_go_on(django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        run_id = hookflow("trigger", "greet", "--data", '{"fail": true}').strip()
    drain(Client())
    assert row(run_id).status == "failed"
    with django_capture_on_commit_callbacks(execute=True):
        assert hookflow("retry", run_id) == f"{run_id} goes on.\n"
    assert len(messages()) == 1
    with pytest.raises(CommandError, match="only a failed run"):
        hookflow("retry", run_id)


# --- prune


def ended(rows: Rows, name: str, days: float, status: str = "completed") -> WorkflowRun:
    run = rows.run(name, status, finished_at=ago(days * 86_400))
    rows.step(run, "charge")
    return run


def names() -> set[str]:
    return set(WorkflowRun.objects.values_list("run_id", flat=True))


def test_prune_removes_what_ended_longer_ago(rows: Rows) -> None:
    ended(rows, "old", 31)
    ended(rows, "fresh", 29)
    rows.run("asleep", "suspended", created_at=timezone.now() - timedelta(days=400))
    assert hookflow("prune", "--older-than", "30d") == "Removed 1 run.\n"
    assert names() == {"fresh", "asleep"}
    assert WorkflowStep.objects.count() == 1


def test_prune_may_be_asked_first(rows: Rows) -> None:
    ended(rows, "old", 31)
    assert hookflow("prune", "--older-than", "30d", "--dry-run") == "1 run would be removed.\n"
    assert names() == {"old"}


def test_prune_takes_only_the_statuses_it_is_given(rows: Rows) -> None:
    for status in ("completed", "failed", "cancelled"):
        ended(rows, status, 31, status)
    hookflow("prune", "--older-than", "30d", "--status", "completed", "--status", "cancelled")
    assert names() == {"failed"}


@pytest.mark.parametrize("age", ["0", "-1d", "month", ""])
def test_an_age_is_a_length_of_time_above_0(rows: Rows, age: str) -> None:
    ended(rows, "old", 3000)
    with pytest.raises(CommandError, match="older-than"):
        hookflow("prune", f"--older-than={age}")
    assert names() == {"old"}


# --- worker (what needs a transaction of the test; the rest is in test_command_worker.py)


def test_inside_a_tests_transaction_a_worker_stays_on_its_thread(rows: Rows) -> None:
    rows.run("due", "pending", workflow_id="tests.acting.greet", due_at=ago(1), wake_n=1)
    threads = threading.active_count()
    assert hookflow("worker", "--once") == "1 delivery.\n"
    assert row("due").status == "completed"
    ending = time.monotonic() + 5  # the thread of asgiref's loop takes a moment to end
    while threading.active_count() > threads and time.monotonic() < ending:
        time.sleep(0.01)
    assert threading.active_count() <= threads
