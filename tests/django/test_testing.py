"""The users' test kit: runs driven inside a test, by virtual time, on the test's own thread."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.test import TestCase, TransactionTestCase, override_settings
from django.utils import timezone as django_timezone

from django_hookflow import RetryPolicy, TerminalError, current_step, workflow
from django_hookflow.models import WorkflowRun
from django_hookflow.registry import registry
from django_hookflow.runtime import runtime
from django_hookflow.testing import Hookflow, HookflowMixin, HookflowTestError

START = datetime(2026, 3, 1, 9, tzinfo=timezone.utc)
WITHOUT_SETTINGS = override_settings(
    QSTASH_TOKEN="", DJANGO_HOOKFLOW_DOMAIN="", DJANGO_HOOKFLOW_DATABASE="default"
)

#: How often each body ran, and under which idempotency keys.
ran: Counter[str] = Counter()
keys: dict[str, list[str]] = {}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """No token and no domain anywhere: the kit needs none."""
    ran.clear()
    keys.clear()
    for name in ("QSTASH_TOKEN", "DJANGO_HOOKFLOW_DOMAIN", "DJANGO_QSTASH_DOMAIN"):
        monkeypatch.delenv(name, raising=False)
    with WITHOUT_SETTINGS:
        yield


def note(name: str) -> str:
    ran[name] += 1
    keys.setdefault(name, []).append(current_step().idempotency_key)
    return name


async def anote(name: str) -> str:
    return note(name)


def save(name: str) -> int:
    note(name)
    return int(Group.objects.create(name=f"{name} {current_step().run_id}").pk)


def refuse() -> None:
    raise TerminalError("sold out")


def stumble(times: int) -> str:
    note("stumble")
    if ran["stumble"] <= times:
        raise ValueError(f"no {ran['stumble']}")
    return "up"


@workflow(workflow_id="kit.order")
def order(ctx):
    first = ctx.step.run("first", note, "first")
    ctx.step.atomic("save", save, "saved")
    ctx.step.sleep("week", timedelta(days=7))
    last = ctx.step.run("last", anote, "last")
    return [first, last, ctx.data.get("n")]


@workflow(workflow_id="kit.order.async")
async def aorder(ctx):
    await ctx.step.run("first", anote, "first")
    await ctx.step.atomic("save", save, "saved")
    await ctx.step.sleep("week", timedelta(days=7))
    both = await asyncio.gather(
        ctx.step.run("left", note, "left"), ctx.step.run("right", note, "right")
    )
    return [*both, ctx.now()]


@workflow(workflow_id="kit.refused")
def refused(ctx):
    ctx.step.run("refuse", refuse)


@workflow(workflow_id="kit.broken")
def broken(ctx):
    raise KeyError("typo")


@workflow(workflow_id="kit.stumbling", retry=RetryPolicy(initial_delay=60, jitter=False))
def stumbling(ctx):
    return ctx.step.run("stumble", stumble, ctx.data["times"])


@workflow(workflow_id="kit.endless")
def endless(ctx):
    while True:
        ctx.step.sleep("day", timedelta(days=1))


@workflow(workflow_id="kit.loop")
def loop(ctx):
    return [ctx.step.run("turn", note, "turn") for _ in range(3)]


# --- the fixture: time


def test_run_drives_a_run_to_its_end_and_skips_time(hookflow: Hookflow) -> None:
    before = hookflow.now
    run = hookflow.run(order, data={"n": 5}, run_id="o-1")
    assert (run.run_id, run.status, run.result) == ("o-1", "completed", ["first", "last", 5])
    assert hookflow.now - before == timedelta(days=7)
    assert ran == {"first": 1, "saved": 1, "last": 1}


def test_time_stands_still_until_it_is_moved(hookflow: Hookflow) -> None:
    run = hookflow.trigger(order)
    assert (run.status, run.created_at) == ("pending", hookflow.now)
    assert ran == {}
    assert hookflow.drain() == 1
    run.refresh_from_db()
    assert run.status == "suspended"
    assert hookflow.drain() == 0
    assert hookflow.advance(days=6, hours=23) == 0
    assert ran["last"] == 0
    assert hookflow.advance(minutes=59, seconds=60) == 1
    run.refresh_from_db()
    assert (run.status, run.finished_at) == ("completed", hookflow.now)
    assert run.finished_at - run.created_at == timedelta(days=7)


def test_what_falls_due_in_between_comes_in_order(hookflow: Hookflow) -> None:
    late = hookflow.trigger(loop, delay=timedelta(days=2))
    early = hookflow.trigger(loop, delay=3600)
    begun = hookflow.now
    assert hookflow.advance(days=3) == 2
    late.refresh_from_db()
    early.refresh_from_db()
    assert early.finished_at == begun + timedelta(hours=1)
    assert late.finished_at == begun + timedelta(days=2)
    assert hookflow.now == begun + timedelta(days=3)


def test_time_starts_now_or_where_it_is_told(db: None) -> None:
    with Hookflow() as hookflow:
        assert abs(hookflow.now - django_timezone.now()) < timedelta(seconds=5)
    with Hookflow(now=START) as hookflow:
        assert hookflow.now == START
        run = hookflow.run(aorder)
        times = {run.created_at, *run.steps.values_list("finished_at", flat=True)}
        assert times == {START, START + timedelta(days=7)}
        assert run.result == ["left", "right", START + timedelta(days=7)]


def test_a_sleep_longer_than_a_message_may_wait_is_skipped_too(hookflow: Hookflow) -> None:
    begun = hookflow.now
    with override_settings(DJANGO_HOOKFLOW_MAX_DELAY=timedelta(days=2)):
        run = hookflow.run(order)
    assert run.status == "completed"
    assert hookflow.now == begun + timedelta(days=7)


def test_retries_are_skipped_to(hookflow: Hookflow) -> None:
    begun = hookflow.now
    run = hookflow.run(stumbling, data={"times": 2})
    assert run.result == "up"
    assert hookflow.now - begun == timedelta(seconds=60 + 120)
    assert [str(error) for error in hookflow.errors] == ["no 1", "no 2"]
    assert len(set(keys["stumble"])) == 1


def test_a_short_retry_is_awaited_within_its_delivery(hookflow: Hookflow) -> None:
    short = RetryPolicy(initial_delay=2, backoff=1, jitter=False)

    @workflow(workflow_id="kit.short", retry=short)
    async def flow(ctx):
        return await ctx.step.run("stumble", stumble, 2)

    try:
        begun, run = hookflow.now, hookflow.trigger(flow)
        assert hookflow.drain() == 1
        run.refresh_from_db()
        assert (run.status, run.steps.get().attempts) == ("completed", 3)
        assert hookflow.now - begun == timedelta(seconds=4)
    finally:
        registry.remove("kit.short", "")


# --- failures


def test_a_failed_run_is_returned_with_what_was_raised(
    hookflow: Hookflow, caplog: pytest.LogCaptureFixture
) -> None:
    run = hookflow.run(refused)
    assert run.status == "failed"
    assert run.error["message"] == "sold out"
    [error] = hookflow.errors
    assert isinstance(error, TerminalError)
    assert error.__traceback__ is not None
    [record] = [r for r in caplog.records if r.name == "django_hookflow.testing"]
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_what_a_body_raised_is_kept_as_well(hookflow: Hookflow) -> None:
    assert hookflow.run(broken).status == "failed"
    assert [type(error) for error in hookflow.errors] == [KeyError]


def test_a_run_without_end_is_an_error(db: None) -> None:
    with Hookflow(max_deliveries=20) as hookflow:
        with pytest.raises(HookflowTestError, match="all the deliveries that it may take were"):
            hookflow.run(endless, run_id="e-1")
        with pytest.raises(HookflowTestError, match=r"not enough .*run 'e-1' sleeps"):
            hookflow.advance(days=100)


def test_a_blocked_run_is_an_error_that_says_why(hookflow: Hookflow) -> None:
    hookflow.trigger(order, run_id="changed")
    hookflow.drain()

    def other(ctx):
        ctx.step.run("other", note, "other")

    original, order.fn = order.fn, other
    try:
        with pytest.raises(HookflowTestError, match=r"run 'changed' is blocked: .*first") as told:
            hookflow.run(order, run_id="changed")
    finally:
        order.fn = original
    assert "no passing of time mends that" in str(told.value)
    # The code fits again.
    assert hookflow.run(order, run_id="changed").status == "completed"


def test_a_run_that_nothing_wakes_is_an_error(hookflow: Hookflow) -> None:
    hookflow.trigger(order, run_id="stopped")
    WorkflowRun.objects.filter(run_id="stopped").update(due_at=None, owed_at=None)
    with pytest.raises(HookflowTestError, match=r"run 'stopped' .*nothing is there that"):
        hookflow.run(order, run_id="stopped")


# --- the project's own code


def test_runs_that_the_project_starts_are_driven(hookflow: Hookflow) -> None:
    with transaction.atomic():
        run_id = order.trigger(data={"n": 1})
    order.trigger_many([{"n": 2}, {"n": 3}])
    assert hookflow.advance(days=7) == 6
    assert order.runs.filter(status="completed").count() == 3
    assert WorkflowRun.objects.get(run_id=run_id).get_result() == ["first", "last", 1]


@pytest.mark.parametrize("execute", [True, False])
def test_commit_hooks_make_no_difference(
    hookflow: Hookflow, execute: bool, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=execute):
        order.trigger()
    assert hookflow.advance(days=7) == 2


def test_a_run_that_was_rolled_back_does_not_run(hookflow: Hookflow) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        order.trigger()
        raise ZeroDivisionError
    assert hookflow.drain() == 0
    assert ran == {}


def test_nothing_is_driven_inside_an_open_transaction(hookflow: Hookflow) -> None:
    with transaction.atomic():
        run = hookflow.trigger(order)
        for drive in (hookflow.drain, lambda: hookflow.run(order)):
            with pytest.raises(HookflowTestError, match=r"inside transaction.atomic\(\)"):
                drive()
    hookflow.drain()
    run.refresh_from_db()
    assert run.status == "suspended"


def test_controls_work_inside_the_kit(hookflow: Hookflow) -> None:
    run = hookflow.trigger(order)
    run.cancel()
    assert hookflow.advance(days=7) <= 1
    run.refresh_from_db()
    assert (run.status, ran) == ("cancelled", {})


def test_settings_count_again_afterwards(db: None) -> None:
    with Hookflow():
        order.trigger()
    with pytest.raises(ImproperlyConfigured, match="QSTASH_TOKEN"):
        order.trigger()
    assert runtime.sends


# --- faults


def test_a_crash_after_a_step_repeats_nothing(hookflow: Hookflow) -> None:
    begun = hookflow.now
    hookflow.crash_after("first")
    run = hookflow.run(order)
    assert run.status == "completed"
    assert ran == {"first": 1, "saved": 1, "last": 1}
    # The lease of 60 seconds had to run out first.
    assert hookflow.now - begun > timedelta(days=7, seconds=60)


@pytest.mark.parametrize("flow", [order, aorder], ids=["def", "async def"])
@pytest.mark.parametrize("step_id", ["first", "save", "week"])
def test_a_crash_after_any_kind_of_step_is_survived(
    hookflow: Hookflow, flow: Any, step_id: str
) -> None:
    hookflow.crash_after(step_id)
    run = hookflow.run(flow)
    assert (run.status, run.deaths) == ("completed", 0)
    assert set(ran.values()) == {1}


@pytest.mark.parametrize("flow", [order, aorder], ids=["def", "async def"])
def test_a_crash_before_the_record_runs_the_body_again(hookflow: Hookflow, flow: Any) -> None:
    hookflow.crash_before_record("first")
    hookflow.crash_before_record("save")
    run = hookflow.run(flow)
    assert run.status == "completed"
    assert (ran["first"], ran["saved"]) == (2, 2)
    assert len(set(keys["first"])) == 1
    assert Group.objects.count() == 1
    assert run.steps.get(step_id="first").attempts == 1


def test_a_crash_leaves_its_lease_behind(hookflow: Hookflow) -> None:
    hookflow.crash_after("first")
    run = hookflow.trigger(order)
    hookflow.drain()
    run.refresh_from_db()
    assert run.status == "running"
    assert run.lease_until == hookflow.now + timedelta(seconds=60)
    hookflow.advance(minutes=2)
    run.refresh_from_db()
    assert run.status == "suspended"


def test_the_second_of_a_name_can_be_meant(hookflow: Hookflow) -> None:
    hookflow.crash_before_record("turn#2")
    assert hookflow.run(loop).status == "completed"
    assert [keys["turn"].count(key) for key in dict.fromkeys(keys["turn"])] == [1, 2, 1]


def test_what_runs_beside_a_crash_is_not_recorded_by_the_dead(hookflow: Hookflow) -> None:
    hookflow.crash_after("left")
    run = hookflow.run(aorder)
    assert run.status == "completed"
    assert (ran["left"], ran["right"]) == (1, 2)


def test_a_failed_attempt_is_not_counted_if_the_process_dies_with_it(hookflow: Hookflow) -> None:
    hookflow.crash_before_record("stumble")
    run = hookflow.run(stumbling, data={"times": 1})
    assert run.result == "up"
    assert run.steps.get().attempts == 1


def test_every_message_twice_changes_nothing(hookflow: Hookflow) -> None:
    hookflow.duplicate_deliveries()
    run = hookflow.trigger(order)
    assert hookflow.drain() == 2
    assert hookflow.advance(days=7) == 2
    run.refresh_from_db()
    assert run.status == "completed"
    assert set(ran.values()) == {1}


def test_a_lost_message_is_made_up_for_by_the_sweeper(hookflow: Hookflow) -> None:
    hookflow.lose_next_message()
    run = hookflow.trigger(order)
    assert hookflow.advance(seconds=29) == 0
    assert hookflow.advance(seconds=2) == 1
    hookflow.lose_next_message()
    hookflow.lose_next_message()
    begun = hookflow.now
    assert hookflow.run(loop).status == "completed"
    assert timedelta(seconds=90) < hookflow.now - begun < timedelta(seconds=91)
    assert hookflow.advance(days=7) == 1
    run.refresh_from_db()
    assert run.status == "completed"


def test_a_fault_that_never_happens_is_an_error(hookflow: Hookflow) -> None:
    hookflow.crash_after("frist")
    with pytest.raises(HookflowTestError, match=r"crash_after\('frist'\) never happened"):
        hookflow.run(order)


def test_a_fault_that_never_happens_is_an_error_at_the_end_too(db: None) -> None:
    with pytest.raises(HookflowTestError, match="lose_next_message"), Hookflow() as hookflow:
        hookflow.lose_next_message()
    with pytest.raises(ZeroDivisionError), Hookflow() as hookflow:
        hookflow.lose_next_message()
        raise ZeroDivisionError  # which is what the test is told


# --- wrong use


def test_a_kit_inside_a_kit_is_refused(hookflow: Hookflow) -> None:
    with pytest.raises(HookflowTestError, match="entered already"), Hookflow():
        pass
    assert hookflow.run(loop).status == "completed"


def test_a_kit_that_is_not_entered_says_so() -> None:
    hookflow = Hookflow()
    calls: list[Any] = [
        lambda: hookflow.run(order),
        lambda: hookflow.trigger(order),
        hookflow.drain,
        hookflow.advance,
        lambda: hookflow.now,
        lambda: hookflow.crash_after("a"),
        hookflow.duplicate_deliveries,
        hookflow.lose_next_message,
    ]
    for call in calls:
        with pytest.raises(HookflowTestError, match="not entered"):
            call()


def test_what_is_no_workflow_is_refused(hookflow: Hookflow) -> None:
    wrong: Any = order.fn
    for call in (hookflow.run, hookflow.trigger):
        with pytest.raises(TypeError, match="takes a workflow made by @workflow"):
            call(wrong)
    with pytest.raises(TypeError, match="takes a step_id"):
        hookflow.crash_after(wrong)
    with pytest.raises(ValueError, match="time does not go back"):
        hookflow.advance(seconds=-1)
    for now in (datetime(2026, 1, 1), "2026"):
        with pytest.raises(ValueError, match="aware datetime"):
            Hookflow(now=now)  # type: ignore[arg-type]


def test_a_workflow_that_nobody_knows_is_refused(hookflow: Hookflow) -> None:
    @workflow(workflow_id="kit.forgotten")
    def forgotten(ctx):
        pass

    registry.remove("kit.forgotten", "")
    with pytest.raises(HookflowTestError, match=r"'kit.forgotten' is not registered"):
        hookflow.run(forgotten)


def test_sync_calls_from_async_code_name_their_twin(hookflow: Hookflow) -> None:
    async def wrong(call: Any) -> None:
        call()

    for name, call in {
        "run": lambda: hookflow.run(order),
        "trigger": lambda: hookflow.trigger(order),
        "drain": hookflow.drain,
        "advance": hookflow.advance,
    }.items():
        with pytest.raises(HookflowTestError, match=f"await hookflow.a{name}"):
            asyncio.run(wrong(call))


def test_a_step_cannot_drive_runs(hookflow: Hookflow) -> None:
    @workflow(workflow_id="kit.nested")
    def nested(ctx):
        ctx.step.options(retry=RetryPolicy(max_attempts=1)).run("drive", hookflow.drain)

    try:
        assert hookflow.run(nested).error["type"].endswith("HookflowTestError")
    finally:
        registry.remove("kit.nested", "")


def test_a_loop_whose_thread_has_no_test_transaction_is_refused(hookflow: Hookflow) -> None:
    # As pytest-asyncio and anyio run an async test.
    with pytest.raises(HookflowTestError, match="transaction=True"):
        asyncio.run(hookflow.adrain())


# --- async tests


async def test_async_twins(hookflow: Hookflow) -> None:
    run = await hookflow.atrigger(aorder, data={"n": 1}, run_id="twin")
    assert await hookflow.adrain() == 1
    assert await hookflow.aadvance(days=8) == 1
    await run.arefresh_from_db()
    assert run.status == "completed"
    hookflow.crash_after("first")
    assert (await hookflow.arun(order)).status == "completed"
    await aorder.atrigger()
    assert await hookflow.adrain() == 1


async def test_two_drives_at_once_are_refused(hookflow: Hookflow) -> None:
    with pytest.raises(HookflowTestError, match="driven already"):
        await asyncio.gather(hookflow.arun(order), hookflow.arun(order))


async def test_sync_code_of_an_async_test_may_drive_too(hookflow: Hookflow) -> None:
    assert (await sync_to_async(hookflow.run)(aorder)).status == "completed"


def asks_async_code() -> int:
    async def five() -> int:
        return 5

    return async_to_sync(five)()


async def asks_on_a_thread() -> int:
    return await asyncio.to_thread(asks_async_code)


@pytest.mark.parametrize("fn", [asks_async_code, asks_on_a_thread])
def test_steps_may_start_loops_of_their_own(hookflow: Hookflow, fn: Any) -> None:
    @workflow(workflow_id="kit.loops")
    async def loops(ctx):
        return await ctx.step.run("ask", fn)

    try:
        assert hookflow.run(loops).result == 5
    finally:
        registry.remove("kit.loops", "")


# --- threads and connections


def connected() -> dict[str, int]:
    return {c.alias: id(c.connection) for c in connections.all() if c.connection is not None}


def test_no_thread_and_no_connection_is_left(hookflow: Hookflow) -> None:
    Group.objects.count()
    threads, before = set(threading.enumerate()), connected()
    hookflow.crash_after("left")
    hookflow.run(aorder)
    assert set(threading.enumerate()) - threads == set()
    assert connected() == before


def test_every_def_step_is_on_the_tests_own_thread(hookflow: Hookflow) -> None:
    @workflow(workflow_id="kit.threads")
    async def where(ctx):
        return await asyncio.gather(*(ctx.step.run("w", threading.get_ident) for _ in range(3)))

    try:
        assert set(hookflow.run(where).result) == {threading.get_ident()}
    finally:
        registry.remove("kit.threads", "")


@pytest.mark.django_db(databases="__all__")
@pytest.mark.other_databases
def test_the_journals_own_alias_is_used(alias: str, hookflow: Hookflow) -> None:
    with override_settings(DJANGO_HOOKFLOW_DATABASE=alias):
        hookflow.crash_before_record("first")
        hookflow.lose_next_message()
        run = hookflow.run(loop_and_sleep)
        assert (run.status, run._state.db) == ("completed", alias)
        assert WorkflowRun.objects.using(alias).get().result == 2
    for other in connections:
        assert WorkflowRun.objects.using(other).count() == (other == alias)


@workflow(workflow_id="kit.loop_and_sleep")
async def loop_and_sleep(ctx):
    for _ in range(2):
        await ctx.step.run("first", note, "first")
        await ctx.step.sleep("pause", 3600)
    return 2


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_real_transactions_do_as_well(alias: str, hookflow: Hookflow) -> None:
    threads = set(threading.enumerate())
    with override_settings(DJANGO_HOOKFLOW_DATABASE=alias):
        hookflow.crash_after("first")
        run = hookflow.run(loop_and_sleep)
        assert run.status == "completed"
        assert ran["first"] == 2
        with transaction.atomic(using=alias):
            loop_and_sleep.trigger()
        assert hookflow.advance(hours=3) == 3
    assert set(threading.enumerate()) - threads == set()


# --- unittest


class InTestCase(HookflowMixin, TestCase):
    def test_the_mixin_brings_the_kit(self) -> None:
        assert self.hookflow.run(order).status == "completed"

    async def test_async_tests_of_django(self) -> None:
        run = await self.hookflow.arun(aorder)
        assert run.status == "completed"
        assert await Group.objects.acount() == 1

    def test_the_kit_is_left_after_a_test(self) -> None:
        self.doCleanups()
        assert runtime.sends


class InTransactionTestCase(HookflowMixin, TransactionTestCase):
    def test_the_mixin_brings_the_kit(self) -> None:
        self.hookflow.crash_before_record("save")
        assert self.hookflow.run(order).status == "completed"

    async def test_async_tests_of_django(self) -> None:
        assert (await self.hookflow.arun(aorder)).status == "completed"
