"""``manage.py hookflow worker``: due runs are executed with no message at all."""

import asyncio
import threading
import time
from collections import Counter
from typing import Any

import pytest
from django.core.management import CommandError
from django.test import Client

from django_hookflow import workflow
from django_hookflow.polling import Polling
from django_hookflow.runtime import runtime
from tests.django.command import hookflow
from tests.django.harness import hookflow_settings, messages, post, row, wake

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

bodies: Counter[str] = Counter()
lock = threading.Lock()


def count(name: str) -> str:
    with lock:
        bodies[name] += 1
    return name


@workflow(workflow_id="tests.worker.plain")
def plain(ctx: Any) -> Any:
    return [ctx.step.run(f"s{n}", count, f"{ctx.run_id} s{n}") for n in range(2)]


@workflow(workflow_id="tests.worker.awaited")
async def awaited(ctx: Any) -> Any:
    steps = (ctx.step.run(f"s{n}", count, f"{ctx.run_id} s{n}") for n in range(2))
    return await asyncio.gather(*steps)


@workflow(workflow_id="tests.worker.asleep")
async def asleep(ctx: Any) -> Any:
    await ctx.step.run("before", count, f"{ctx.run_id} before")
    await ctx.step.sleep("nap", ctx.data["seconds"])
    return await ctx.step.run("after", count, f"{ctx.run_id} after")


@pytest.fixture(autouse=True)
def project(alias):
    bodies.clear()
    with hookflow_settings(alias):
        runtime.transport.fail_next(10**9)  # there is no QStash
        messages()
        yield
        runtime.transport.fail_next(0)
        messages()


def work(seconds: float = 60.0, until: Any = None, **options: Any) -> int:
    """Let a worker work in this process; how many deliveries it made."""
    told: list[Any] = []
    deadline = time.monotonic() + seconds

    def stopped() -> bool:
        return time.monotonic() > deadline or (until is not None and until())

    polling = Polling(
        runtime=runtime,
        every=0.05,
        concurrency=options.pop("concurrency", 8),
        once=until is None,
        stopped=stopped,
        told=lambda run, answer: told.append(answer),
        **options,
    )
    asyncio.run(polling.run())
    return len(told)


def test_due_runs_of_either_colour_go_to_their_ends(alias: str) -> None:
    ids = [*plain.trigger_many([{}] * 5), *awaited.trigger_many([{}] * 5)]
    assert "10 deliveries." in hookflow("worker", "--once")
    assert {row(id, alias).status for id in ids} == {"completed"}
    assert set(bodies.values()) == {1}
    assert len(bodies) == 20


def test_a_sleep_is_left_for_later_and_its_wake_stays_owed(alias: str) -> None:
    run_id = asleep.trigger({"seconds": 3600})
    assert work() == 1
    run = row(run_id, alias)
    assert run.status == "suspended"
    assert run.owed_at is not None


def test_a_worker_that_goes_on_wakes_sleepers(alias: str) -> None:
    run_id = asleep.trigger({"seconds": 0.3})
    work(until=lambda: bodies[f"{run_id} after"] == 1)
    assert row(run_id, alias).status == "completed"


def test_a_run_of_an_unregistered_workflow_is_left_alone(alias: str) -> None:
    run_id = plain.trigger()
    type(row(run_id, alias)).objects.using(alias).update(workflow_id="gone.away")
    assert work() == 1  # once, not in a loop
    assert row(run_id, alias).status == "pending"


def test_beside_deliveries_of_the_same_runs_every_body_runs_once(alias: str) -> None:
    ids = awaited.trigger_many([{}] * 60)
    wakes = [wake(id, alias=alias) for id in ids]
    worker = threading.Thread(target=work, kwargs={"concurrency": 4, "seconds": 300})
    worker.start()
    answers = Counter(post(Client(), body).status_code for body in wakes)
    worker.join()
    assert set(answers) <= {200, 503}
    assert work() == 0
    assert {row(id, alias).status for id in ids} == {"completed"}
    assert set(bodies.values()) == {1}


def test_two_workers_share_the_runs(alias: str) -> None:
    ids = awaited.trigger_many([{}] * 60)
    # SQLite's writers wait for each other, and not in turn.
    workers = [threading.Thread(target=work, kwargs={"seconds": 300}) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {row(id, alias).status for id in ids} == {"completed"}
    assert set(bodies.values()) == {1}


def test_a_stop_ends_it_well_and_the_run_goes_on_later(alias: str) -> None:
    started, seen = threading.Event(), threading.Event()

    def slow() -> None:
        started.set()
        seen.wait(30)
        time.sleep(0.5)

    def stop() -> bool:
        if started.is_set():
            seen.set()  # the worker is told to stop: that it does so takes it a moment
        return seen.is_set()

    @workflow(workflow_id="tests.worker.slow")
    async def slow_one(ctx: Any) -> None:
        await ctx.step.run("slow", slow)
        await ctx.step.run("next", count, "next")

    run_id = slow_one.trigger()
    work(until=stop)
    run = row(run_id, alias)
    assert (run.status, run.lease_until, bodies["next"]) == ("suspended", None, 0)
    assert [step.step_id for step in run.steps.using(alias)] == ["slow"]
    work()
    assert row(run_id, alias).status == "completed"


@pytest.mark.parametrize("arguments", [["--every", "0"], ["--concurrency", "0"]])
def test_wrong_arguments_are_told(arguments: list[str]) -> None:
    with pytest.raises(CommandError, match="above 0"):
        hookflow("worker", *arguments)
