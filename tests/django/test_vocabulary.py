"""Events, children, maps, compensations and cancels on each database, by both kinds of caller.

What ran is counted by the bodies themselves.
"""

import asyncio
from datetime import timedelta

import pytest
from django.db import transaction

from django_hookflow import RetryPolicy, workflow
from django_hookflow.exceptions import (
    ChildFailed,
    EventTimeout,
    RunCompensated,
    RunFinished,
    SerializationError,
    StepFailed,
    WorkflowDefinitionError,
)
from django_hookflow.testing import Hookflow

from .harness import hookflow_settings, row

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

ONCE = RetryPolicy(max_attempts=1)
ran: list[str] = []


def act(name):
    ran.append(name)
    if "fails" in name:
        raise ValueError(name)
    return f"{name}!"


async def act_async(name):
    return act(name)


def undo(result, name):
    ran.append(f"undo {name} {result}")


def told(ctx, error):
    ran.append(f"told {error['message']} {ctx.data}")


@workflow(workflow_id="tests.vocabulary.waits")
async def waits(ctx):
    first = await ctx.step.wait_for_event("paid", "paid")
    try:
        return [first, await ctx.step.wait_for_event("more", "paid", timeout=ctx.data or 60)]
    except EventTimeout:
        return [first]


@workflow(workflow_id="tests.vocabulary.waits_plainly")
def waits_plainly(ctx):
    first = ctx.step.wait_for_event("paid", "paid")
    try:
        return [first, ctx.step.wait_for_event("more", "paid", timeout=ctx.data or 60)]
    except EventTimeout:
        return [first]


@workflow(workflow_id="tests.vocabulary.child")
def child(ctx):
    ctx.step.sleep("nap", 3600)
    return ctx.step.run("act", act, ctx.data)


@workflow(workflow_id="tests.vocabulary.parent")
async def parent(ctx):
    one, many = await asyncio.gather(
        ctx.step.invoke("one", child, "one"),
        ctx.step.map("many", child, ["a", "b", "fails"], tolerate=1),
    )
    return [one, *("failed" if isinstance(each, ChildFailed) else each for each in many)]


@workflow(workflow_id="tests.vocabulary.parent_plainly")
def parent_plainly(ctx):
    one = ctx.step.invoke("one", child, "one")
    many = ctx.step.map("many", child, ["a", "b", "fails"], tolerate=1)
    return [one, *("failed" if isinstance(each, ChildFailed) else each for each in many)]


@workflow(workflow_id="tests.vocabulary.maps")
def maps(ctx):
    squares = ctx.step.map("square", act_async, ["1", "2", "3"], concurrency=2)
    return [*squares, *ctx.step.gather(("x", act, "x"), ("y", act_async, "y"))]


@workflow(workflow_id="tests.vocabulary.books", on_failure=told, timeout=timedelta(days=2))
async def books(ctx):
    await ctx.step.options(compensate=(undo, "flight")).run("flight", act, "flight")
    await ctx.step.options(compensate=(undo, "hotel")).atomic("hotel", act, "hotel")
    await ctx.step.wait_for_event("go", "go")
    await ctx.step.options(retry=ONCE).run("car", act_async, "car fails")


@workflow(workflow_id="tests.vocabulary.books_plainly", on_failure=told, timeout=86400 * 2)
def books_plainly(ctx):
    ctx.step.options(compensate=(undo, "flight")).run("flight", act, "flight")
    ctx.step.options(compensate=(undo, "hotel")).atomic("hotel", act, "hotel")
    ctx.step.wait_for_event("go", "go")
    ctx.step.options(retry=ONCE).run("car", act_async, "car fails")


@pytest.fixture(autouse=True)
def project(alias):
    ran.clear()
    with hookflow_settings(alias):
        yield


@pytest.fixture
def hookflow(project):
    with Hookflow() as kit:
        yield kit


BOTH_WAITS = pytest.mark.parametrize("flow", [waits, waits_plainly], ids=["async", "def"])
BOTH_BOOKS = pytest.mark.parametrize("flow", [books, books_plainly], ids=["async", "def"])


def begun(hookflow, flow, alias, data=None):
    run_id = hookflow.trigger(flow, data)
    run_id = getattr(run_id, "run_id", run_id)
    hookflow.drain()
    return row(run_id, alias)


def again(run, alias):
    return row(run.run_id, alias)


# --- events


@BOTH_WAITS
def test_events_early_and_late(hookflow, call, alias, flow):
    run = begun(hookflow, flow, alias)
    assert run.status == "suspended"
    call(run, "send_event", "paid", {"n": 1})
    call(run, "send_event", "paid", (2,))
    hookflow.drain()
    assert again(run, alias).result == [{"n": 1}, (2,)]


@BOTH_WAITS
def test_a_timeout_and_an_event_after_the_end(hookflow, call, alias, flow):
    run = begun(hookflow, flow, alias)
    call(run, "send_event", "paid", 1, dedup_id="one")
    call(run, "send_event", "paid", 1, dedup_id="one")
    hookflow.drain()
    hookflow.advance(seconds=61)
    assert again(run, alias).result == [1]
    with pytest.raises(RunFinished, match="takes no events any more"):
        call(run, "send_event", "paid")


def test_an_event_is_sent_if_the_senders_transaction_commits(hookflow, alias):
    run = begun(hookflow, waits, alias)
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=alias):
        run.send_event("paid", "rolled back")
        raise ZeroDivisionError
    with transaction.atomic(using=alias):
        run.send_event("paid", "committed")
    hookflow.drain()
    hookflow.advance(seconds=61)
    assert again(run, alias).result == ["committed"]


def test_what_cannot_be_sent_is_refused(hookflow, call, alias):
    run = begun(hookflow, waits, alias)
    with pytest.raises(SerializationError):
        call(run, "send_event", "paid", object())
    with pytest.raises(ValueError, match="an event's name has 1 to 200"):
        call(run, "send_event", "")
    with pytest.raises(TypeError, match="dedup_id"):
        call(run, "send_event", "paid", dedup_id=5)
    assert run.events.using(alias).count() == 0
    missing = type(run)(id=run.id.__class__(int=1), run_id="x")
    with pytest.raises(type(run).DoesNotExist):
        call(missing, "send_event", "paid")


def test_a_sleep_of_400_days_wakes_on_time_in_pieces_of_seven(hookflow, alias):
    @workflow(workflow_id="tests.vocabulary.long")
    def long(ctx):
        ctx.step.sleep("long", timedelta(days=400))
        return "awake"

    run = begun(hookflow, long, alias)
    started = run.created_at
    hookflow.advance(days=399, seconds=86390)
    assert again(run, alias).status == "suspended"
    hookflow.advance(seconds=20)
    done = again(run, alias)
    assert done.result == "awake"
    assert timedelta(days=400) <= done.finished_at - started <= timedelta(days=400, seconds=20)
    nap = done.steps.using(alias).get(step_id="long")
    assert nap.finished_at >= nap.wake_at


# --- children and maps


@pytest.mark.parametrize("flow", [parent, parent_plainly], ids=["async", "def"])
def test_children_and_a_map_over_them(hookflow, alias, flow, settings):
    settings.DJANGO_HOOKFLOW_RETRY = ONCE
    run = again(hookflow.run(flow), alias)
    assert (run.status, run.result) == ("completed", ["one!", "a!", "b!", "failed"])
    assert sorted(ran) == ["a", "b", "fails", "one"]
    children = run.children.using(alias)
    assert sorted(c.parent_step for c in children) == [
        "many[0]#1", "many[1]#1", "many[2]#1", "one#1",
    ]  # fmt: skip


def test_a_map_and_a_gather_over_functions(hookflow, alias):
    run = again(hookflow.run(maps), alias)
    assert run.result == ["1!", "2!", "3!", "x!", "y!"]
    assert sorted(ran) == ["1", "2", "3", "x", "y"]


def test_cancelling_a_parent_ends_its_children(hookflow, call, alias):
    run = begun(hookflow, parent, alias)
    assert run.children.using(alias).active().count() == 4
    call(run, "cancel")
    hookflow.drain()
    assert again(run, alias).status == "cancelled"
    assert {c.status for c in run.children.using(alias)} == {"cancelled"}
    assert ran == []


# --- compensations


@BOTH_BOOKS
def test_a_failed_run_is_undone_and_told(hookflow, call, alias, flow):
    run = begun(hookflow, flow, alias, 7)
    call(run, "send_event", "go")
    hookflow.drain()
    run = again(run, alias)
    assert run.status == "failed"
    assert run.error["message"] == "car fails"
    assert ran == [
        "flight", "hotel", "car fails",
        "told car fails 7", "undo hotel hotel!", "undo flight flight!",
    ]  # fmt: skip
    with pytest.raises(RunCompensated, match="fork"):
        call(run, "retry")
    assert again(run, alias).status == "failed"


@BOTH_BOOKS
def test_a_crash_between_two_compensations_repeats_neither(hookflow, alias, flow):
    run = begun(hookflow, flow, alias, 7)
    hookflow.crash_after("hotel")  # the compensation of the step of that name
    run.send_event("go")
    hookflow.drain()
    hookflow.advance(seconds=300)
    assert again(run, alias).status == "failed"
    assert ran[3:] == ["told car fails 7", "undo hotel hotel!", "undo flight flight!"]


@BOTH_BOOKS
@pytest.mark.parametrize("compensate", [True, False])
def test_a_cancelled_run_is_undone_if_asked(hookflow, call, alias, flow, compensate):
    run = begun(hookflow, flow, alias)
    call(run, "cancel", compensate=compensate)
    assert again(run, alias).status == ("cancelling" if compensate else "cancelled")
    hookflow.drain()
    assert again(run, alias).status == "cancelled"
    undone = ["undo hotel hotel!", "undo flight flight!"] if compensate else []
    assert ran == ["flight", "hotel", *undone]
    with pytest.raises(RunFinished):
        call(run, "cancel")


def test_a_cancel_that_is_rolled_back_cancels_nothing(hookflow, alias):
    run = begun(hookflow, books, alias)
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=alias):
        run.cancel()
        raise ZeroDivisionError
    hookflow.drain()
    assert again(run, alias).status == "suspended"


def test_a_run_that_takes_too_long_is_undone(hookflow, alias):
    run = begun(hookflow, books, alias, 1)
    hookflow.advance(days=2, seconds=1)
    run = again(run, alias)
    assert (run.status, run.error["type"]) == ("failed", "TimeoutError")
    assert ran[2] == "told the run took longer than its workflow's timeout 1"
    assert ran[3:] == ["undo hotel hotel!", "undo flight flight!"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout is a number of seconds or a timedelta"),
        ({"timeout": True}, "timeout is a number"),
        ({"timeout": "1h"}, "timeout is a number"),
        ({"timeout": timedelta(days=-1)}, "timeout is a number"),
        ({"on_failure": "tell"}, "on_failure is a function"),
    ],
)
def test_bad_options_are_refused_at_import(options, message):
    with pytest.raises(WorkflowDefinitionError, match=message):
        workflow(workflow_id="tests.vocabulary.bad", **options)(lambda ctx: None)


def test_a_failed_gather_is_the_first_failure(hookflow, alias):
    @workflow(workflow_id="tests.vocabulary.gathers")
    def gathers(ctx):
        step = ctx.step.options(retry=ONCE)
        try:
            step.gather(("a", act, "a"), ("b", act, "b fails"))
        except StepFailed as error:
            return error.step_id

    assert again(hookflow.run(gathers), alias).result == "b"
