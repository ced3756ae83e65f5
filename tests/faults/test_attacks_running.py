"""Defects that an attack on retry, trigger_many, the worker and the commands found.

Each of these tests failed when it was written.
"""

import asyncio
import random
import sys
import time
from contextlib import nullcontext
from datetime import timedelta

import pytest
from django.core.management import CommandError
from django.db import connections, transaction
from django.test import override_settings
from django.utils import timezone

from django_hookflow import Start, workflow
from django_hookflow.core.entries import RunStatus
from django_hookflow.exceptions import (
    ConfigurationError,
    RunConflict,
    StepFailed,
    TransportError,
)
from django_hookflow.polling import Polling
from django_hookflow.runtime import runtime
from django_hookflow.transports.base import Message
from django_hookflow.transports.qstash import PublishConfig, QStashTransport
from tests.django.command import hookflow
from tests.django.harness import hookflow_settings, messages, row
from tests.engine.harness import World
from tests.engine.test_retry_of_runs import Shop, retried
from tests.journals.test_orm_races import in_threads
from tests.transports.broker import Answer, serving

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
    names = [f"r{n}" for n in range(2000)]

    def body(number):
        mine = random.Random(number).sample(names, len(names))
        with transaction.atomic(using=project) if inside else nullcontext():
            return one.trigger_many([Start({}, run_id=name) for name in mine])

    for answer in in_threads(4, body):
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


# --- 3. the worker: runs that nobody here can execute kept all others waiting, for ever


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_runs_of_unregistered_workflows_keep_no_other_waiting(project):
    """A thousand were looked at, one by one, and again after 30 s, before the next one."""
    one.trigger_many([{}] * 300)
    one.runs.using(project).update(workflow_id="gone.away")
    good = row(one.trigger(), project)
    told = []
    work(told, until=lambda: good.id in told)
    assert row(good.run_id, project).status == "completed"
    assert len(told) < 150  # on a busy machine the good one takes its time


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_a_worker_whose_settings_are_wrong_says_so_instead_of_spinning(project):
    one.trigger()
    with override_settings(DJANGO_HOOKFLOW_LEASE_SECONDS="soon"):
        with pytest.raises(ConfigurationError, match="LEASE_SECONDS"):
            work([])
        with pytest.raises(CommandError, match="LEASE_SECONDS"):
            hookflow("worker", "--once")


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_a_run_that_cannot_be_read_is_told_and_stops_no_other(project, caplog):
    """As a newer version of this package may leave it, which knows more kinds of steps."""
    run = row(one.trigger(), project)
    run.steps.using(project).create(workflow_run=run, key="a#1", step_id="a", kind="newer")
    others = one.trigger_many([{}] * 3)
    told = []
    assert work(told) == 3
    assert {row(id, project).status for id in others} == {"completed"}
    # Once, or again where the others take longer than it is left alone.
    levels = {record.levelname for record in caplog.records if str(run.id) in record.message}
    assert levels == {"ERROR"}


def work(told, until=None):
    """Let a worker work in this process, a minute at most; how many deliveries it made."""
    deadline = time.monotonic() + 60
    polling = Polling(
        runtime=runtime,
        every=0.05,
        concurrency=8,
        once=until is None,
        stopped=lambda: time.monotonic() > deadline or (until is not None and until()),
        told=lambda run, answer: told.append(run),
    )
    asyncio.run(polling.run())
    return len(told)


# --- 4. a batch that was answered in part was taken for accepted


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("answers", [[], [{"messageId": "m"}], [{"messageId": "m"}] * 3])
def test_a_batch_with_fewer_or_more_answers_than_messages_was_not_accepted(colour, answers):
    batch = [Message(body="{}", delay=0, deduplication_id=f"a-{n}") for n in range(2)]
    with serving() as broker:
        broker.default = Answer(body=answers)
        config = PublishConfig(
            token="t", base_url=broker.url, destination="https://a.example/", retries=3, timeout=2
        )
        transport = QStashTransport(lambda: config)
        with pytest.raises(TransportError, match="no answer of QStash"):
            if colour == "sync":
                transport.publish(*batch)
            else:
                asyncio.run(transport.apublish(*batch))
        transport.close()


# --- 5. prune: 200 runs of 20,000 steps were one transaction


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_long_runs_are_pruned_few_at_a_time(project):
    one.trigger_many([Start({}, run_id=f"r{n}") for n in range(6)])
    month = timedelta(days=30)
    ended = one.runs.using(project)
    ended.update(status="completed", seq=8_000, finished_at=timezone.now() - 2 * month)
    ended.filter(run_id="r0").update(seq=90_000, finished_at=timezone.now() - 3 * month)

    def prune():
        statuses = [RunStatus.COMPLETED]
        return runtime.journal.prune(older_than=month, statuses=statuses, limit=200)

    assert [prune() for _ in range(5)] == [1, 2, 2, 1, 0]


# --- 6. the commands: what a shell may hand over


NO_TEXT = ["\udcff", "a\x00b"]


@pytest.mark.django_db(databases="__all__", transaction=True)
@pytest.mark.parametrize("name", NO_TEXT)
@pytest.mark.parametrize("command", ["show", "cancel", "retry"])
def test_a_name_that_is_no_text_is_no_run(project, command, name):
    with pytest.raises(CommandError, match="There is no run"):
        hookflow(command, name)


@pytest.mark.django_db
@pytest.mark.parametrize("command", ["cancel", "retry"])
def test_no_escape_sequence_of_a_name_reaches_the_terminal(command):
    with hookflow_settings(), pytest.raises(CommandError) as raised:
        hookflow(command, "\x1b[31mred")
    assert "\x1b" not in str(raised.value)


@pytest.mark.django_db
def test_data_that_is_nested_without_end_is_no_json():
    with hookflow_settings(), pytest.raises(CommandError, match="--data is no JSON"):
        hookflow("trigger", "tests.running.one", "--data", "[" * 200_000)


@pytest.mark.django_db(databases="__all__")
@pytest.mark.parametrize("age", ["900000d", "3000000d"])
def test_an_age_that_no_calendar_has_is_told(alias, age):
    with hookflow_settings(alias), pytest.raises(CommandError, match="at most 1000 years"):
        hookflow("prune", "--older-than", age)


@pytest.mark.django_db
def test_a_number_that_no_database_counts_to_is_told():
    with hookflow_settings(), pytest.raises(CommandError, match="no whole number"):
        hookflow("worker", "--once", "--concurrency", "9" * 20)
