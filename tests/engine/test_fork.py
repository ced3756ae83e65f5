"""A fork replays what it has taken over exactly, and executes the rest."""

import asyncio
import uuid

import pytest

from django_hookflow import current_step
from django_hookflow.core.transitions import Fork, Forked

from .test_events import both


def fork(world, source, from_step):
    id = uuid.uuid4()
    answer = world.journal.fork(Fork(source=source, id=id, run_id=str(id), from_step=from_step))
    assert answer == Forked()
    world.publish(id)
    return id


RAN: list[str] = []
KEYS: dict[str, set[str]] = {}


def note(name):
    RAN.append(name)
    KEYS.setdefault(name, set()).add(current_step().idempotency_key)
    return name


async def order(ctx):
    when, word, number = ctx.now(), ctx.uuid4(), ctx.random.random()
    await ctx.step.run("reserve", note, "reserve")
    later = ctx.now()
    await ctx.step.sleep("nap", 60)
    for n in range(3):
        await ctx.step.run("charge", note, f"charge{n}")
    return [str(when), str(word), number, str(later)]


def order_plainly(ctx):
    when, word, number = ctx.now(), ctx.uuid4(), ctx.random.random()
    ctx.step.run("reserve", note, "reserve")
    later = ctx.now()
    ctx.step.sleep("nap", 60)
    for n in range(3):
        ctx.step.run("charge", note, f"charge{n}")
    return [str(when), str(word), number, str(later)]


@both(order, order_plainly)
def test_what_was_taken_over_is_replayed_and_all_else_is_executed(world, body):
    async def scenario():
        RAN.clear()
        KEYS.clear()
        run = world.trigger(body)
        await world.drain()
        before = list(RAN)
        world.clock.skip(86_400)
        forked = fork(world, run, "charge#2")
        await world.drain()
        return run, forked, before

    run, forked, before = asyncio.run(scenario())
    assert world.row(forked).status == "completed"
    assert world.row(forked).result == world.row(run).result, "the fork saw something else"
    assert set(RAN[len(before) :]) == {"charge1", "charge2"}
    assert len(KEYS["charge1"]) == len(KEYS["charge2"]) == 2, "an idempotency key was used again"
    assert len(KEYS["reserve"]) == len(KEYS["charge0"]) == 1
    if world.usual:
        assert RAN[len(before) :] == ["charge1", "charge2"]


def test_branches_are_taken_over_as_far_as_they_had_asked(world):
    async def body(ctx):
        async def branch(name, first):
            await first
            return await ctx.step.run(f"then-{name}", note, f"then-{name}")

        return await asyncio.gather(
            branch("a", ctx.step.run("a", note, "a")),
            branch("b", ctx.step.sleep("b", 60)),
            branch("c", ctx.step.wait_for_event("c", "c")),
        )

    async def scenario():
        RAN.clear()
        run = world.trigger(body)
        await world.rest()
        world.send_event(run, "c", 5)
        await world.rest()
        # then-a and then-c have run, b still sleeps, and its outcome is not there to be copied.
        forked = fork(world, run, "then-c")
        await world.drain()
        return run, forked

    run, forked = asyncio.run(scenario())
    assert world.row(run).status == world.row(forked).status == "completed"
    assert world.row(run).result == world.row(forked).result
    if world.usual:
        assert RAN.count("a") == RAN.count("then-a") == 1
        assert RAN.count("then-b") == RAN.count("then-c") == 2


@pytest.mark.usual_mode
def test_a_fork_tells_its_state_from_the_beginning(world):
    async def body(ctx):
        ctx.set("first", 1)
        await ctx.step.run("a", int)
        ctx.set("second", 2)
        await ctx.step.run("b", int)

    async def scenario():
        run = world.trigger(body)
        await world.drain()
        forked = fork(world, run, "b")
        await world.drain()
        return run, forked

    run, forked = asyncio.run(scenario())
    assert world.row(forked).state == world.row(run).state is not None
