"""Defects that an attack on retry, trigger_many, the worker and the commands found.

Each of these tests failed when it was written.
"""

import asyncio
import random
import sys
from contextlib import nullcontext

import pytest
from django.db import connections, transaction

from django_hookflow import Start, workflow
from django_hookflow.exceptions import RunConflict, StepFailed
from tests.django.harness import hookflow_settings, messages
from tests.engine.harness import World
from tests.engine.test_retry_of_runs import Shop, retried
from tests.journals.test_orm_races import in_threads

# --- 1. a retried run was blocked for ever by what its body had asked for after the failure
#
# A failed step that ended the run was executed again also if the body had gone on in between
# and raised the error later. What it had asked for meanwhile was then in the journal with nobody
# to ask for it.


async def all_told_then_raised(ctx, do):
    results = await asyncio.gather(*(do(ctx, name) for name in "ab"), return_exceptions=True)
    await do(ctx, "report")
    for result in results:
        if isinstance(result, Exception):
            raise result


async def first_of_two(ctx, do):
    tasks = [asyncio.ensure_future(do(ctx, "a")), asyncio.ensure_future(ctx.step.sleep("nap", 99))]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await do(ctx, "log")
    for task in done:
        task.result()


async def kept_for_later(ctx, do):
    error = None
    try:
        await do(ctx, "a")
    except StepFailed as failure:
        error = failure
    await do(ctx, "report")
    if error is not None:
        raise error


async def one_after_the_other(ctx, do):
    errors = []
    for call in asyncio.as_completed([asyncio.ensure_future(do(ctx, name)) for name in "ab"]):
        try:
            await call
        except StepFailed as failure:
            errors.append(failure)
        await do(ctx, "tick")
    raise errors[0]


async def a_siblings_finally(ctx, do):
    async def branch():
        try:
            await ctx.step.sleep("long", 1000)
        finally:
            await do(ctx, "clean")

    async with asyncio.TaskGroup() as group:
        group.create_task(branch())
        group.create_task(do(ctx, "a"))


async def a_call_made_before(ctx, do):
    undo = do(ctx, "undo")
    try:
        await do(ctx, "a")
    except StepFailed:
        await undo
        raise


async def a_task_that_undoes(ctx, do):
    try:
        await do(ctx, "a")
    except StepFailed:
        await asyncio.create_task(do(ctx, "undo"))
        raise


async def a_nap_that_is_still_pending(ctx, do):
    async def nap_after():
        await asyncio.wait([failing])
        await ctx.step.sleep("nap", 1000)

    failing = asyncio.ensure_future(do(ctx, "a"))
    napping = asyncio.ensure_future(nap_after())
    await ctx.step.sleep("short", 10)
    napping.cancel()
    await failing


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "flow",
    [
        all_told_then_raised,
        first_of_two,
        kept_for_later,
        one_after_the_other,
        pytest.param(
            a_siblings_finally,
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup"),
        ),
        a_call_made_before,
        a_task_that_undoes,
        a_nap_that_is_still_pending,
    ],
)
def test_a_retry_undoes_no_failure_that_recorded_steps_are_built_on(flow):
    shop = Shop("a")

    async def do(ctx, name):
        return await ctx.step.run(name, shop.do, name)

    async def body(ctx):
        await flow(ctx, do)

    run = retried(World(), shop, body)
    assert (run.status, run.blocked) == ("failed", "")
    assert set(shop.bodies.values()) <= {1, 2 * ("tick" in shop.bodies)}


def test_a_retry_undoes_no_failure_that_a_plain_body_went_on_after():
    shop = Shop("a")

    def body(ctx):
        error = None
        try:
            ctx.step.run("a", shop.do, "a")
        except StepFailed as failure:
            error = failure
        ctx.step.run("report", shop.do, "report")
        if error is not None:
            raise error

    run = retried(World(), shop, body)
    assert (run.status, run.blocked) == ("failed", "")
    assert shop.bodies == {"a": 1, "report": 1}


def test_to_find_out_what_a_retry_repeats_nothing_is_executed_or_logged(caplog):
    shop = Shop("slow")

    async def body(ctx):
        slow = asyncio.ensure_future(ctx.step.run("slow", shop.do, "slow"))
        await ctx.step.run("b", shop.do, "b")
        await ctx.step.run("c", shop.do, "c")
        ctx.log.warning("waiting")
        return await slow

    run = World().run(body)
    assert run.status == "failed"
    assert run.error.uncaught == ("slow#1",)
    assert shop.bodies == {"slow": 1, "b": 1, "c": 1}
    assert [record.message for record in caplog.records].count("waiting") == 1


# --- 2. many runs at once: statements that are too long, and locks taken in any order


@pytest.fixture
def project(alias, transactional_db):
    with hookflow_settings(alias):
        messages()
        yield alias
        messages()


@workflow(workflow_id="tests.running.one")
async def one(ctx):
    return 1


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_many_large_values_are_stored_though_no_server_takes_them_in_one_statement(project):
    one.trigger_many([{"text": "x" * 1_000_000}] * 40)
    assert one.runs.using(project).count() == 40


@pytest.mark.django_db(databases="__all__", transaction=True)
@pytest.mark.parametrize("inside", [False, True])
def test_the_same_names_in_another_order_do_not_deadlock(project, inside):
    """Inside of the caller's transaction nothing can be repeated: the error is the caller's."""
    if inside and connections[project].vendor == "mysql":
        pytest.skip("InnoDB locks the gaps between the names, whatever their order")
    names = [f"r{n}" for n in range(300)]

    def body(number):
        mine = random.Random(number).sample(names, len(names))
        with transaction.atomic(using=project) if inside else nullcontext():
            return one.trigger_many([Start({}, run_id=name) for name in mine])

    for answer in in_threads(6, body):
        assert sorted(answer) == sorted(names)
    assert one.runs.using(project).count() == len(names)


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_of_several_that_want_one_name_for_different_data_one_stores_all_and_the_others_nothing(
    project,
):
    def body(number):
        mine = [Start({}, run_id=f"own-{number}-{n}") for n in range(50)]
        try:
            return one.trigger_many([*mine, Start({"n": number}, run_id="shared")])
        except RunConflict:
            return None

    answers = in_threads(4, body)
    assert sum(answer is not None for answer in answers) == 1
    assert one.runs.using(project).count() == 51
