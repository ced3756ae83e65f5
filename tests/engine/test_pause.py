"""Pause and resume: nothing starts, what executes is recorded, what fell due is taken up."""

import asyncio
import time

import pytest

from django_hookflow.core.transitions import Begin, Invoke

from .test_events import both


def test_no_further_step_starts_and_the_one_that_executes_is_recorded(world):
    ran = []

    def first():
        ran.append("first")
        if ran == ["first"]:
            world.pause(world.journal.runs()[0].id)
        return 1

    async def body(ctx):
        return [await ctx.step.run("first", first), await ctx.step.run("second", ran.append, 2)]

    async def scenario():
        run = world.trigger(body)
        await world.rest()
        assert world.row(run).status == "paused"
        assert 2 not in ran
        if world.usual:
            assert world.row(run).lease_until is None
            assert [step.key for step in world.steps() if step.is_outcome] == ["first#1"]
        world.resume(run)
        await world.rest()
        return run

    row = world.row(asyncio.run(scenario()))
    assert (row.status, row.result) == ("completed", [1, None])
    assert ran.count(2) == 1
    if world.usual:
        assert ran == ["first", 2]


@pytest.mark.usual_mode
@pytest.mark.parametrize("colour", ["async", "def"])
@pytest.mark.parametrize("control", ["pause", "cancel"])
def test_a_retry_that_is_awaited_in_the_delivery_does_not_start(world, colour, control):
    attempts = []

    def fails():
        attempts.append(1)
        raise ValueError("busy")

    async def body(ctx):
        await ctx.step.run("charge", fails)

    def plain(ctx):
        ctx.step.run("charge", fails)

    waits = world.clock.wait

    async def stop_it_meanwhile(event, seconds, *, busy):
        if seconds and not busy:
            getattr(world, control)(world.journal.runs()[0].id)
        await waits(event, seconds, busy=busy)

    async def scenario():
        world.clock.wait = stop_it_meanwhile
        run = world.trigger(body if colour == "async" else plain)
        await world.rest()
        return world.row(run)

    row = asyncio.run(scenario())
    assert row.status == {"pause": "paused", "cancel": "cancelled"}[control]
    assert attempts == [1]
    assert row.lease_until is None


async def naps_and_waits(ctx):
    await ctx.step.sleep("nap", 3600)
    return await ctx.step.wait_for_event("paid", "paid")


def naps_and_waits_plainly(ctx):
    ctx.step.sleep("nap", 3600)
    return ctx.step.wait_for_event("paid", "paid")


@both(naps_and_waits, naps_and_waits_plainly)
def test_timers_and_events_go_on_and_are_taken_up_at_the_resume(world, body):
    async def scenario():
        run = world.trigger(body)
        await world.rest()
        world.pause(run)
        world.send_event(run, "paid", 5)
        await world.rest(skip=7200)
        assert world.row(run).status == "paused"
        assert world.row(run).seq == 0, "a paused run went on"
        began = world.clock.now()
        world.resume(run)
        await world.rest()
        assert (world.clock.now() - began).total_seconds() < 3600, "it slept anew"
        return run

    row = world.row(asyncio.run(scenario()))
    assert (row.status, row.result) == ("completed", 5)


def test_what_fell_due_while_paused_is_handed_over_in_order(world):
    async def body(ctx):
        order = []

        async def nap(name, seconds):
            await ctx.step.sleep(name, seconds)
            order.append(name)

        await asyncio.gather(nap("late", 900), nap("soon", 300), nap("middle", 600))
        return order

    async def scenario():
        run = world.trigger(body)
        await world.rest()
        world.pause(run)
        await world.rest(skip=3600)
        world.resume(run)
        await world.rest()
        return run

    assert world.row(asyncio.run(scenario())).result == ["soon", "middle", "late"]


def test_a_body_that_returns_while_paused_ends_at_the_resume(world):
    async def only():
        if not world.row(world.journal.runs()[0].id).seq:
            world.pause(world.journal.runs()[0].id)
        return "done"

    async def body(ctx):
        return await ctx.step.run("only", only)

    async def scenario():
        run = world.trigger(body)
        await world.rest()
        assert world.row(run).status == "paused"
        assert world.row(run).result is None
        world.resume(run)
        await world.rest()
        return run

    row = world.row(asyncio.run(scenario()))
    assert (row.status, row.result) == ("completed", "done")


def test_a_sibling_that_executes_when_one_learns_of_the_pause_is_recorded_too(world):
    ran = []

    async def quick():
        ran.append("quick")
        world.pause(world.journal.runs()[0].id)

    async def slow():
        ran.append("slow")
        await asyncio.sleep(0.05)

    async def body(ctx):
        async def branch(name, fn):
            await ctx.step.run(name, fn)
            await ctx.step.run(f"after-{name}", ran.append, f"after-{name}")

        await asyncio.gather(branch("quick", quick), branch("slow", slow))

    async def scenario():
        run = world.trigger(body)
        for _ in range(20):
            await world.rest()
            if world.row(run).status == "completed":
                break
            assert world.row(run).status == "paused"
            world.resume(run)
        return run

    assert world.row(asyncio.run(scenario())).status == "completed"
    keys = {step.key for step in world.steps() if step.is_outcome}
    assert keys == {"quick#1", "slow#1", "after-quick#1", "after-slow#1"}
    if world.usual:
        assert ran[:2] == ["quick", "slow"]
        assert sorted(ran[2:]) == ["after-quick", "after-slow"]


@pytest.mark.usual_mode
def test_a_holder_that_is_resumed_before_it_leaves_goes_on_itself(world):
    """It has learned of the pause, but a sibling still executes when the run is resumed."""
    ran = []

    async def quick():
        world.pause(world.journal.runs()[0].id)

    async def slow():
        end = time.monotonic() + 30
        while world.row(world.journal.runs()[0].id).seq < 1:  # the other one is not recorded
            assert time.monotonic() < end
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)
        assert world.row(world.journal.runs()[0].id).seq == 1
        world.resume(world.journal.runs()[0].id)

    async def body(ctx):
        await asyncio.gather(ctx.step.run("quick", quick), ctx.step.run("slow", slow))
        await ctx.step.run("after", ran.append, 1)

    async def scenario():
        run = world.trigger(body)
        await world.deliver_next()
        return run

    row = world.row(asyncio.run(scenario()))
    assert row.status == "completed"
    assert (ran, row.epoch) == ([1], 1)


@pytest.mark.usual_mode
@pytest.mark.parametrize("what", ["a step with something to undo", "a child"])
def test_a_pause_in_the_moment_of_a_start_comes_before_it(world, monkeypatch, what):
    ran = []
    commit, paused = world.journal.commit, []

    def late(transition):
        if isinstance(transition, (Begin, Invoke)) and not paused:
            paused.append(world.pause(transition.fence.id))
        return commit(transition)

    monkeypatch.setattr(world.journal, "commit", late)

    def acts(ctx):
        ran.append("acted")

    child = world.workflow(acts)

    async def body(ctx):
        if what == "a child":
            await ctx.step.invoke("act", child)
        else:
            await ctx.step.options(compensate=(print, "undone")).run("act", ran.append, "acted")

    async def scenario():
        run = world.trigger(body)
        await world.rest()
        assert (world.row(run).status, ran, len(world.journal.runs())) == ("paused", [], 1)
        world.resume(run)
        await world.rest()
        return run

    assert world.row(asyncio.run(scenario())).status == "completed"
    assert ran == ["acted"]


@pytest.mark.usual_mode
def test_a_pause_of_a_retry_that_is_waited_for_in_place_ends_the_delivery(world):
    attempts = []

    def fails():
        attempts.append(1)
        if len(attempts) == 1:
            world.pause(world.journal.runs()[0].id)
            raise ValueError("no")

    async def body(ctx):
        await ctx.step.run("try", fails)

    async def scenario():
        run = world.trigger(body)
        await world.deliver_next()
        assert (world.row(run).status, world.row(run).lease_until) == ("paused", None)
        assert len(attempts) == 1
        world.resume(run)
        await world.drain()
        return run

    assert world.row(asyncio.run(scenario())).status == "completed"
    assert len(attempts) == 2
