"""What a retry of a failed run executes again: the failures that the body had not caught."""

import asyncio
import sys
from collections import Counter

import pytest

from django_hookflow.core.transitions import NotFailed, Retried, Retry
from django_hookflow.engine.place import current_step
from django_hookflow.exceptions import StepFailed, TerminalError

from .harness import World

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Shop:
    """Steps that fail as long as they are told to, and count their bodies."""

    def __init__(self, *failing: str) -> None:
        self.failing = set(failing)
        self.bodies: Counter[str] = Counter()
        self.keys: dict[str, list[str]] = {}

    def do(self, name: str) -> str:
        self.bodies[name] += 1
        self.keys.setdefault(name, []).append(current_step().idempotency_key)
        if name in self.failing:
            raise TerminalError(f"no {name}")
        return name


def retried(world: World, shop: Shop, body) -> tuple[World, object]:
    """Run to the failure, mend what fails, retry, run on; the run's row."""
    failed = world.run(body)
    assert failed.status == "failed"
    shop.failing.clear()
    assert world.journal.retry(Retry(id=failed.id)) == Retried()
    world.publish(failed.id)
    asyncio.run(world.drain())
    return world.row(failed.id)


def names(*steps: str) -> dict[str, int]:
    return dict.fromkeys(steps, 1)


def test_only_what_failed_the_run_is_executed_again(world):
    shop = Shop("charge")

    async def body(ctx):
        for name in ("reserve", "charge", "ship"):
            await ctx.step.run(name, shop.do, name)
        return "done"

    run = retried(world, shop, body)
    assert (run.status, run.result, run.error, run.blocked) == ("completed", "done", None, "")
    assert shop.bodies == {"reserve": 1, "charge": 2, "ship": 1}


def test_a_retried_step_has_a_fresh_idempotency_key_and_the_old_outcome_stays_readable(world):
    shop = Shop("charge")

    def body(ctx):
        return ctx.step.run("charge", shop.do, "charge")

    run = retried(world, shop, body)
    assert run.result == "charge"
    assert len(set(shop.keys["charge"])) == 2
    rows = sorted(world.journal.steps(run.id), key=lambda entry: entry.series)
    assert [(row.key, row.series, str(row.status)) for row in rows] == [
        ("charge#1", 0, "failed"),
        ("charge#1", 1, "completed"),
    ]
    assert rows[0].error.message == "no charge"


def test_a_second_retry_counts_the_series_on(world):
    shop = Shop("charge")

    async def body(ctx):
        return await ctx.step.run("charge", shop.do, "charge")

    failed = world.run(body)
    for _ in range(2):
        assert world.journal.retry(Retry(id=failed.id)) == Retried()
        world.publish(failed.id)
        asyncio.run(world.drain())
    assert world.row(failed.id).status == "failed"
    assert [row.series for row in world.journal.steps(failed.id)] == [0, 1, 2]
    assert len(set(shop.keys["charge"])) == 3


@pytest.mark.usual_mode
def test_siblings_that_failed_beside_the_one_that_was_raised_are_repeated_too(world):
    shop = Shop("a", "c")

    async def body(ctx):
        return await asyncio.gather(*(ctx.step.run(n, shop.do, n) for n in "abc"))

    run = retried(world, shop, body)
    assert run.result == ["a", "b", "c"]
    assert shop.bodies == {"a": 2, "b": 1, "c": 2}


def test_a_failure_the_body_had_caught_stays(world):
    shop = Shop("coupon", "charge")

    async def body(ctx):
        try:
            await ctx.step.run("coupon", shop.do, "coupon")
        except StepFailed:
            await ctx.step.run("log", shop.do, "log")
        return await ctx.step.run("charge", shop.do, "charge")

    run = retried(world, shop, body)
    assert run.result == "charge"
    assert shop.bodies == {"coupon": 1, "log": 1, "charge": 2}


def raising_on(shop, *, is_async):
    """A body whose handler does a durable step and lets the error go on."""
    if is_async:

        async def body(ctx):
            try:
                await ctx.step.run("charge", shop.do, "charge")
            except StepFailed:
                await ctx.step.run("apologise", shop.do, "apologise")
                raise

        return body

    def plain(ctx):
        try:
            ctx.step.run("charge", shop.do, "charge")
        except StepFailed:
            ctx.step.run("apologise", shop.do, "apologise")
            raise

    return plain


@pytest.mark.parametrize("is_async", [True, False])
def test_a_failure_that_was_dealt_with_durably_is_not_undone(world, is_async):
    """To charge again would leave the recorded apology with nobody to ask for it."""
    shop = Shop("charge")
    run = retried(world, shop, raising_on(shop, is_async=is_async))
    assert (run.status, run.blocked) == ("failed", "")
    assert shop.bodies == names("charge", "apologise")


@pytest.mark.usual_mode
def test_a_task_that_is_awaited_late_is_repeated(world):
    shop = Shop("slow")

    async def body(ctx):
        slow = asyncio.ensure_future(ctx.step.run("slow", shop.do, "slow"))
        for name in ("b", "c"):
            await ctx.step.run(name, shop.do, name)
        return await slow

    run = retried(world, shop, body)
    assert run.result == "slow"
    assert shop.bodies == {"slow": 2, "b": 1, "c": 1}


@pytest.mark.usual_mode
@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup came with Python 3.11")
def test_the_members_of_an_exception_group_are_repeated(world):
    shop = Shop("a", "b")

    async def body(ctx):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.step.run(n, shop.do, n)) for n in "abc"]
        return [task.result() for task in tasks]

    run = retried(world, shop, body)
    assert run.result == ["a", "b", "c"]
    assert shop.bodies["c"] == 1


@pytest.mark.usual_mode
def test_an_error_of_the_body_itself_repeats_no_step(world):
    shop = Shop()
    broken = [True]

    async def body(ctx):
        await ctx.step.run("a", shop.do, "a")
        if broken:
            broken.clear()
            raise ZeroDivisionError
        return "mended"

    run = retried(world, shop, body)
    assert run.result == "mended"
    assert shop.bodies == names("a")


def test_an_occurrence_in_a_loop_is_repeated_and_its_siblings_are_not(world):
    shop = Shop("2")

    async def body(ctx):
        return [await ctx.step.run("item", shop.do, name) for name in "1234"]

    run = retried(world, shop, body)
    assert run.result == ["1", "2", "3", "4"]
    assert shop.bodies == {"1": 1, "2": 2, "3": 1, "4": 1}


def test_a_run_that_did_not_fail_is_left_alone(world):
    async def body(ctx):
        return 1

    run = world.run(body)
    assert world.journal.retry(Retry(id=run.id)) == NotFailed(status=run.status)
    assert world.row(run.id).epoch == run.epoch
