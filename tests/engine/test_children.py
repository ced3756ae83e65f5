"""Child runs: started once, collected once, ended with their parent; maps over them."""

import asyncio
from fractions import Fraction
from functools import partial
from unittest.mock import Mock

import pytest

from django_hookflow.core.transitions import Retry
from django_hookflow.engine import events
from django_hookflow.engine.mapping import check_tolerance
from django_hookflow.engine.outcomes import raise_as
from django_hookflow.engine.publishing import cancel_orphans
from django_hookflow.engine.suspending import StopSign
from django_hookflow.exceptions import ChildFailed, RunCancelled, StepFailed, TransportError
from django_hookflow.transports.memory import MemoryTransport

from .harness import Function, World


class OutOfStock(Exception):
    pass


def runs_of(world, fn):
    return [run for run in world.journal.runs() if run.workflow_id == fn.__qualname__]


async def double(ctx):
    await ctx.step.sleep("nap", 60)
    return await ctx.step.run("double", lambda: ctx.data * 2)


def double_plainly(ctx):
    ctx.step.sleep("nap", 60)
    return ctx.step.run("double", lambda: ctx.data * 2)


async def parent(ctx):
    return await ctx.step.invoke("child", ctx.data["child"], 21)


@pytest.mark.parametrize("child", [double, double_plainly], ids=["async child", "def child"])
@pytest.mark.parametrize("colour", ["async parent", "def parent"])
def test_a_parent_waits_for_its_childs_result(world, child, colour):
    workflow = world.workflow(child)

    async def asks(ctx):
        return await ctx.step.invoke("child", workflow, 21)

    def asks_plainly(ctx):
        return ctx.step.invoke("child", workflow, 21)

    row = world.run(asks if colour == "async parent" else asks_plainly)
    assert (row.status, row.result) == ("completed", 42)
    [run] = runs_of(world, child)
    assert (run.parent, run.parent_step, run.depth) == (row.id, "child#1", 1)


def test_children_side_by_side(world):
    workflow = world.workflow(double)

    async def three(ctx):
        return await asyncio.gather(
            *(ctx.step.invoke("child", workflow, n) for n in (1, 2, 3)),
            ctx.step.run("beside", lambda: "beside"),
        )

    assert world.run(three).result == [2, 4, 6, "beside"]
    assert len(runs_of(world, double)) == 3


def test_a_childs_failure_is_the_steps_and_the_same_on_every_replay(world):
    def fail(ctx):
        def out():
            raise OutOfStock("none left")

        ctx.step.options(retry=world.once).run("stock", out)

    workflow = world.workflow(fail)

    async def catches(ctx):
        try:
            await ctx.step.invoke("child", workflow)
        except ChildFailed as error:
            seen = [error.step_id, error.error_type.rpartition(".")[2], error.is_a(OutOfStock)]
        await ctx.step.sleep("nap", 60)
        return seen

    assert world.run(catches).result == ["child", "OutOfStock", True]


def test_an_uncaught_failure_of_a_child_fails_the_parent(world):
    def fail(ctx):
        raise ValueError("no")

    workflow = world.workflow(fail)

    async def asks(ctx):
        await ctx.step.invoke("child", workflow)

    row = world.run(asks)
    assert row.status == "failed"
    assert row.error.type == "ValueError"
    assert row.error.raises == "ChildFailed"
    [step] = world.journal.steps(row.id)
    assert str(raise_as(step)).startswith("step 'child' failed: run child:")


def test_cancelling_the_parent_cancels_its_children_and_theirs(world):
    async def sleeps(ctx):
        await ctx.step.sleep("long", 10**6)

    leaf = world.workflow(sleeps)

    async def middle(ctx):
        await asyncio.gather(*(ctx.step.invoke("leaf", leaf) for _ in range(2)))

    inner = world.workflow(middle)

    async def top(ctx):
        await ctx.step.invoke("middle", inner)

    async def scenario():
        run = world.trigger(top)
        await world.rest()
        world.cancel(run)
        await world.rest()
        return run

    asyncio.run(scenario())
    assert [run.status for run in world.journal.runs()] == ["cancelled"] * 4


def test_a_cancelled_child_fails_its_parents_step(world):
    async def sleeps(ctx):
        await ctx.step.sleep("long", 10**6)

    workflow = world.workflow(sleeps)

    async def asks(ctx):
        try:
            await ctx.step.invoke("child", workflow)
        except ChildFailed as error:
            return [error.is_a(RunCancelled), "cancelled" in str(error)]

    async def scenario():
        run = world.trigger(asks)
        await world.rest()
        [child] = runs_of(world, sleeps)
        world.cancel(child.id)
        await world.rest()
        return run

    assert world.row(asyncio.run(scenario())).result == [True, True]


def test_a_child_may_be_named_and_another_run_of_that_name_is_a_conflict(world):
    def quick(ctx):
        return "quick"

    workflow = world.workflow(quick)

    async def asks(ctx):
        try:
            return await ctx.step.invoke("child", workflow, run_id="taken")
        except ChildFailed as error:
            return str(error.message)

    async def scenario(taken):
        if taken:
            world.trigger(quick, run_id="taken")
        run = world.trigger(asks)
        await world.rest()
        return run

    assert world.row(asyncio.run(scenario(taken=False))).result == "quick"
    again = world.row(asyncio.run(scenario(taken=True))).result
    assert "'taken' exists already and was not started by this step" in again


def test_a_workflow_that_invokes_itself_without_end_is_told(world):
    async def endless(ctx):
        return await ctx.step.invoke("deeper", world.workflows[endless.__qualname__])

    row = world.run(endless)
    assert row.status == "failed"
    assert "at most 16 runs above it" in row.error.message
    assert len(world.journal.runs()) == 17


def test_a_retry_of_the_parent_invokes_another_child(world):
    fails = [True]

    def sometimes(ctx):
        if fails[0]:
            raise ValueError("once")
        return "well"

    workflow = world.workflow(sometimes)

    async def asks(ctx):
        return await ctx.step.invoke("child", workflow)

    async def scenario():
        run = world.trigger(asks)
        await world.rest()
        assert world.row(run).status == "failed"
        fails[0] = False
        world.retry(run)
        await world.rest()
        return run

    assert world.row(asyncio.run(scenario())).result == "well"
    assert [run.status for run in runs_of(world, sometimes)] == ["failed", "completed"]


@pytest.mark.usual_mode
@pytest.mark.parametrize("what", ["pause", "stop", "stop beside a step"])
def test_a_child_that_is_asked_for_while_nothing_may_begin_is_started_later(world, what):
    """Its row used to be written without it, and the next delivery took it for gone."""

    def quick(ctx):
        return "quick"

    workflow, sign = world.workflow(quick), StopSign()

    def halt():
        if what == "pause":
            world.pause(world.id)
        else:
            world.send_event(world.id, "anything")  # something has come, but not the child's end
            sign.stop()

    async def asks(ctx):
        seconds = 0.2 if what == "stop beside a step" else 0
        beside = asyncio.ensure_future(ctx.step.run("beside", asyncio.sleep, seconds))
        await ctx.step.run("halt", halt)
        result = await ctx.step.invoke("child", workflow)
        await beside
        return result

    async def scenario():
        world.id = world.trigger(asks)
        world.transport.messages.clear()
        await world.deliver(world.id, 1, stop=sign)
        world.resume(world.id)
        await world.rest()

    asyncio.run(scenario())
    assert (world.row(world.id).status, world.row(world.id).result) == ("completed", "quick")


# --- map and gather


def test_a_map_over_a_function_is_a_step_for_each_item(world):
    ran = []

    def square(n):
        ran.append(n)
        return n * n

    async def maps(ctx):
        return await ctx.step.map("square", square, range(12), concurrency=5)

    def maps_plainly(ctx):
        return ctx.step.map("square", square, range(12), concurrency=5)

    for body in (maps, maps_plainly):
        ran.clear()
        row = world.run(body)
        assert row.result == [n * n for n in range(12)]
        assert set(ran) == set(range(12))
        steps = world.journal.steps(row.id)
        assert sorted(step.key for step in steps) == sorted(f"square[{n}]#1" for n in range(12))
        if world.usual:
            assert len(ran) == 12


def test_a_map_has_so_many_at_a_time(world):
    now, most = [0], [0]

    async def busy(n):
        now[0] += 1
        most[0] = max(most[0], now[0])
        await asyncio.sleep(0.001)
        now[0] -= 1
        return n

    async def maps(ctx):
        return await ctx.step.map("busy", busy, range(9), concurrency=3)

    assert world.run(maps).result == list(range(9))
    if world.usual:
        assert most[0] == 3


def test_a_map_over_a_workflow_is_a_child_for_each_item(world):
    workflow = world.workflow(double)

    def maps(ctx):
        return ctx.step.map("double", workflow, [1, 2, 3], concurrency=2)

    assert world.run(maps).result == [2, 4, 6]
    assert len(runs_of(world, double)) == 3


@pytest.mark.parametrize(
    ("tolerate", "fails", "fine"),
    [(0, 0, True), (0, 1, False), (2, 2, True), (2, 3, False), (0.5, 4, True), (0.5, 5, False)],
)
def test_a_map_tolerates_so_many_failures(world, tolerate, fails, fine):
    def item(n):
        if n < fails:
            raise OutOfStock(n)
        return n

    async def maps(ctx):
        step = ctx.step.options(retry=world.once)
        results = await step.map("item", item, range(8), concurrency=8, tolerate=tolerate)
        return ["failed" if isinstance(each, StepFailed) else each for each in results]

    row = world.run(maps)
    if fine:
        assert row.result == ["failed"] * fails + list(range(fails, 8))
    else:
        assert row.status == "failed"
        assert row.error.type.endswith("OutOfStock")


def test_nothing_more_is_started_once_a_map_has_failed(world):
    ran = []

    def item(n):
        ran.append(n)
        raise OutOfStock(n)

    async def maps(ctx):
        await ctx.step.options(retry=world.once).map("item", item, range(50), concurrency=1)

    assert world.run(maps).status == "failed"
    assert set(ran) == {0}


def test_items_that_changed_places_block_the_map(world):
    items = [1, 2, 3]

    async def maps(ctx):
        results = await ctx.step.map("item", lambda n: n, items)
        await ctx.step.sleep("nap", 60)
        return results

    async def scenario():
        run = world.trigger(maps)
        await world.rest()
        items[:2] = [2, 1]
        await world.deliver_next()
        return run

    if world.usual:
        blocked = world.row(asyncio.run(scenario())).blocked
        assert blocked.startswith("step 'item[0]#1': expected the arguments of the recorded call")


def test_a_def_workflow_gathers_steps(world):
    def gathers(ctx):
        return ctx.step.gather(("a", lambda x: x + 1, 1), ("b", lambda: "b"))

    assert world.run(gathers).result == [2, "b"]


@pytest.mark.usual_mode
def test_def_steps_of_a_gather_run_really_side_by_side(world):
    import threading

    barrier = threading.Barrier(3, timeout=30)

    def gathers(ctx):
        return ctx.step.gather(*((f"s{n}", barrier.wait) for n in range(3)))

    assert sorted(world.run(gathers).result) == [0, 1, 2]


async def a_workflow(ctx):
    raise AssertionError("called with the data as its ctx")


A_WORKFLOW = Function(a_workflow)


@pytest.mark.parametrize(
    ("asks", "message"),
    [
        (lambda step: step.map("m", print, "abc"), "items is a list"),
        (lambda step: step.map("m", print, [1], concurrency=0), "concurrency is at least 1"),
        (lambda step: step.map("m", print, [1], concurrency=True), "concurrency is a whole"),
        (lambda step: step.map("m", print, [1], tolerate=-1), "tolerate is at least 0"),
        (lambda step: step.map("m", print, [1], tolerate=1.5), "a fraction to tolerate"),
        (lambda step: step.map("m", print, [1], tolerate=Fraction(1, 2)), "(0.5 for half), not Fr"),
        (lambda step: step.map("m", 5, [1]), "a step takes a function"),
        (lambda step: step.map(5, print, []), "step_id is a str"),
        (lambda step: step.map("x" * 197, print, range(11)), "this one has 201"),
        (lambda step: step.run("w", A_WORKFLOW, {}), "use ctx.step.invoke"),
        (lambda step: step.run("w", partial(A_WORKFLOW, {})), "use ctx.step.invoke"),
        (lambda step: step.atomic("w", A_WORKFLOW, {}), "use ctx.step.invoke"),
        (lambda step: step.gather(("a", print), ("w", A_WORKFLOW, {})), "use ctx.step.invoke"),
        (lambda step: step.options(compensate=A_WORKFLOW), "calls its trigger()"),
        (lambda step: step.options(compensate=(A_WORKFLOW, 1)), "calls its trigger()"),
        (lambda step: step.gather(("a",)), "gather takes tuples"),
        (lambda step: step.gather(print), "gather takes tuples"),
        (lambda step: step.invoke("i", print), "invoke takes a workflow"),
    ],
)
@pytest.mark.usual_mode
def test_misuse_is_refused_before_anything_is_written(world, asks, message):
    def wrong(ctx):
        asks(ctx.step)

    row = world.run(wrong)
    assert row.status == "failed"
    assert message in row.error.message
    assert world.journal.steps(row.id) == ()


@pytest.mark.usual_mode
def test_a_mock_is_a_function_though_it_has_every_attribute(world):
    def body(ctx):
        return ctx.step.run("m", Mock(return_value=1)), ctx.step.map("n", Mock(), [])

    assert world.run(body).result == (1, [])


@pytest.mark.usual_mode
def test_an_empty_map_and_gather_are_empty(world):
    def nothing(ctx):
        return [ctx.step.map("m", print, []), ctx.step.gather()]

    assert world.run(nothing).result == [[], []]


class ByTheHundred(MemoryTransport):
    """Takes no more than is promised, and refuses the fourth request."""

    def __init__(self):
        super().__init__()
        self.requests = []

    def publish(self, *messages):
        self.requests.append(len(messages))
        if len(self.requests) == 4:
            raise TransportError("busy")
        super().publish(*messages)


class HundredsWorld(World):
    transport_class = ByTheHundred


def test_many_children_are_woken_by_as_many_messages_as_one_request_takes():
    """The first of these requests is the parent's own."""
    world = HundredsWorld()

    def quick(ctx):
        return ctx.data

    workflow = world.workflow(quick)

    async def asks(ctx):
        return await ctx.step.map("child", workflow, range(250), concurrency=250)

    async def scenario():
        world.trigger(asks)
        await world.deliver_next()

    asyncio.run(scenario())
    assert world.transport.requests[:4] == [1, 100, 100, 50]
    owed = [run for run in runs_of(world, quick) if run.owed_at is not None]
    told = [event for event in world.events if isinstance(event, events.PublishOwed)]
    assert {event.id for event in told} == {run.id for run in owed}
    assert len(owed) == 50


@pytest.mark.usual_mode
def test_what_a_parent_of_200_children_costs(world):
    replays = []

    def quick(ctx):
        return ctx.data

    workflow = world.workflow(quick)

    async def asks(ctx):
        replays.append(1)
        return await ctx.step.map("child", workflow, range(200), concurrency=200)

    async def scenario():
        run = world.trigger(asks)
        await world.rest(limit=1000)
        return run

    assert world.row(asyncio.run(scenario())).result == list(range(200))
    assert world.messages <= 450
    assert len(replays) <= 40


def test_a_failed_parent_that_is_retried_goes_on_with_what_its_children_came_to(world):
    """No sweep may cancel them: the retry would only find out that it did."""
    mended = []

    async def ships(ctx):
        if ctx.data == 0:
            return await ctx.step.run("reserve", reserves)
        return await ctx.step.wait_for_event("picked", "picked")

    def reserves():
        if not mended:
            raise OutOfStock
        return "reserved"

    workflow = world.workflow(ships, retry=world.once)

    async def asks(ctx):
        return await ctx.step.map("ship", workflow, [0, 1, 2])

    async def scenario():
        run = world.trigger(asks)
        await world.rest()
        assert world.row(run).status == "failed"
        assert cancel_orphans(world.journal, world.journal.orphans(limit=9)) == []
        mended.append(1)
        world.retry(run)
        await world.rest()
        for child in runs_of(world, ships):
            world.send_event(child.id, "picked", "picked up")
        await world.rest()
        return run

    row = world.row(asyncio.run(scenario()))
    assert (row.status, row.result) == ("completed", ["reserved", "picked up", "picked up"])


def test_a_retried_child_of_a_failed_parent_is_left_to_its_retry(world):
    mended = []

    def reserves(ctx):
        return ctx.step.run("reserve", lambda: mended[0])

    workflow = world.workflow(reserves, retry=world.once)

    async def asks(ctx):
        return await ctx.step.invoke("reserve", workflow, run_id=f"{ctx.run_id}/reserve")

    async def scenario():
        run = world.trigger(asks)
        await world.rest()
        [child] = runs_of(world, reserves)
        assert (child.status, world.row(run).status) == ("failed", "failed")
        mended.append("ok")
        world.journal.retry(Retry(id=child.id))
        cancel_orphans(world.journal, world.journal.orphans(limit=9))
        world.publish(child.id)
        await world.rest()
        world.retry(run)
        await world.rest()
        return run

    assert world.row(asyncio.run(scenario())).result == "ok"


@pytest.mark.parametrize(
    ("tolerate", "count", "allowed"), [(0.29, 100, 29), (0.57, 100, 57), (0.5, 3, 1), (1.0, 7, 7)]
)
def test_a_fraction_is_counted_as_it_is_written(tolerate, count, allowed):
    assert check_tolerance(tolerate, count) == allowed
