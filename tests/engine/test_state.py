"""``ctx.set``: written with the next transition, never with old values, lost in no crash."""

import asyncio
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from django_hookflow.core.codec import JSONCodec
from django_hookflow.core.entries import Kind, StepStatus
from django_hookflow.exceptions import SerializationError
from django_hookflow.journals.memory_rows import MemoryStep

from .harness import World
from .test_events import both


def state(world, run):
    text = world.row(run).state
    return None if text is None else JSONCodec().decode(text)


async def progresses(ctx):
    ctx.set("at", "packing")
    await ctx.step.run("pack", int)
    ctx.set("at", "waiting")
    ctx.set("since", datetime(2026, 1, 2, tzinfo=timezone.utc))
    await ctx.step.wait_for_event("paid", "paid")
    ctx.set("at", "shipped")
    return 1


def progresses_plainly(ctx):
    ctx.set("at", "packing")
    ctx.step.run("pack", int)
    ctx.set("at", "waiting")
    ctx.set("since", datetime(2026, 1, 2, tzinfo=timezone.utc))
    ctx.step.wait_for_event("paid", "paid")
    ctx.set("at", "shipped")
    return 1


@both(progresses, progresses_plainly)
def test_state_is_to_be_seen_while_the_run_goes_on(world, body):
    since = datetime(2026, 1, 2, tzinfo=timezone.utc)

    async def scenario():
        run = world.trigger(body)
        assert state(world, run) is None
        await world.drain()
        assert state(world, run) == {"at": "waiting", "since": since}
        world.send_event(run, "paid")
        await world.drain()
        return run

    run = asyncio.run(scenario())
    assert world.row(run).status == "completed"
    assert state(world, run) == {"at": "shipped", "since": since}


@pytest.mark.usual_mode
def test_it_is_written_with_the_outcome_of_the_next_step(world):
    seen = []

    def look():
        seen.append(state(world, world.journal.runs()[0].id))

    async def body(ctx):
        for n in range(3):
            ctx.set("n", n)
            await ctx.step.run("look", look)

    world.run(body)
    assert seen == [None, {"n": 0}, {"n": 1}]


@pytest.mark.usual_mode
def test_replays_do_not_write_what_they_set_anew(world):
    calls = []

    async def body(ctx):
        calls.append(1)
        ctx.set("first", len(calls))
        await ctx.step.sleep("nap", 60)
        ctx.set("second", len(calls))
        await ctx.step.sleep("nap", 60)

    async def scenario():
        run = world.trigger(body)
        await world.drain()
        return run

    assert state(world, asyncio.run(scenario())) == {"first": 1, "second": 2}
    assert len(calls) == 3


def test_what_was_set_is_what_is_stored_even_if_the_object_changes(world):
    async def body(ctx):
        items = [1]
        ctx.set("items", items)
        items.append(2)
        ctx.set("count", 1)
        await ctx.step.run("noop", int)

    async def scenario():
        run = world.trigger(body)
        await world.drain()
        return run

    assert state(world, asyncio.run(scenario())) == {"items": [1], "count": 1}


def test_branches_each_tell_their_part(world):
    async def body(ctx):
        async def branch(name):
            for n in range(3):
                ctx.set(name, n)
                await ctx.step.run(name, asyncio.sleep, 0.001)

        await asyncio.gather(branch("a"), branch("b"), branch("c"))

    async def scenario():
        run = world.trigger(body)
        await world.drain()
        return run

    assert state(world, asyncio.run(scenario())) == {"a": 2, "b": 2, "c": 2}


@pytest.mark.usual_mode
def test_what_is_set_while_an_atomic_step_executes_is_not_taken_back_by_it(world):
    told, states = asyncio.Event(), []

    def slow():
        while not told.is_set():
            pass
        return 1

    def note():
        states.append(state(world, world.journal.runs()[0].id))

    async def body(ctx):
        ctx.set("at", "old")

        async def beside():
            await ctx.step.run("quick", int)
            ctx.set("at", "new")
            await ctx.step.run("record", int)
            told.set()

        await asyncio.gather(ctx.step.atomic("slow", slow), beside())
        await ctx.step.run("note", note)

    world.run(body)
    assert states == [{"at": "new"}]


@pytest.mark.usual_mode
def test_what_a_dead_delivery_had_set_is_not_lost_when_the_next_claim_fires_a_timer(world):
    """The timer's outcome stands before the call in the journal, as if it had been replayed."""

    async def body(ctx):
        async def nap():
            await ctx.step.sleep("nap", 60)

        async def waits():
            await ctx.step.wait_for_event("paid", "paid")
            ctx.set("paid", True)
            await ctx.step.wait_for_event("more", "more")

        await asyncio.gather(nap(), waits())

    async def scenario():
        run = world.trigger(body)
        await world.deliver_next()
        # As a delivery leaves it that took the event in and died before it wrote anything more.
        world.send_event(run, "paid")
        row = world.row(run)
        wait = next(step for step in world.journal.steps(run) if step.event)
        done = replace(
            wait, seq=1, status=StepStatus.COMPLETED, value="null", finished_at=world.clock.now()
        )
        assert done.kind is Kind.EVENT
        rows = world.journal._stored.steps[run]
        rows[(0, wait.key, 0)] = MemoryStep(entry=done, epoch=row.epoch)
        world.journal.alter(run, seq=1)
        await world.rest(skip=120)
        return run

    run = asyncio.run(scenario())
    assert world.row(run).seq == 2
    assert state(world, run) == {"paid": True}


def test_a_value_that_cannot_be_stored_is_refused_at_the_call_on_every_replay(world):
    async def body(ctx):
        try:
            ctx.set("job", {"id": [1, object()]})
        except SerializationError as error:
            message = str(error)
        await ctx.step.sleep("nap", 60)
        return message

    result = world.run(body).result
    assert "$.job.id[1]" in result or "$['job']['id'][1]" in result, result
    assert world.journal.runs()[0].state is None


@pytest.mark.parametrize("key", ["", "x" * 201, 5, None, "a\x00", "\ud800"])
def test_a_bad_key_is_refused(world, key):
    async def body(ctx):
        ctx.set(key, 1)

    row = world.run(body)
    assert row.status == "failed"
    assert "a key of the state" in row.error.message


def test_too_large_a_value_is_refused():
    async def body(ctx):
        ctx.set("text", "x" * 100)

    row = World(max_value_bytes=90).run(body)
    assert "DJANGO_HOOKFLOW_MAX_VALUE_BYTES" in row.error.message


async def sets_inside(ctx):
    async def step():
        ctx.set("a", 1)

    await ctx.step.run("inside", step)


def sets_inside_plainly(ctx):
    ctx.step.run("inside", lambda: ctx.set("a", 1))


@both(sets_inside, sets_inside_plainly)
def test_a_step_may_not_set(world, body):
    row = world.run(body, retry=None)
    assert row.status == "failed"
    assert "ctx.set() was called inside step 'inside'" in row.error.message
    assert row.state is None


def test_what_is_set_while_the_body_is_unwound_is_not_written(world):
    async def body(ctx):
        try:
            await ctx.step.sleep("nap", 60)
        finally:
            ctx.set("left", True)
            await ctx.step.run("after", int)

    async def scenario():
        run = world.trigger(body)
        await world.rest()
        if world.usual:
            assert state(world, run) is None
        await world.drain()
        return run

    assert state(world, asyncio.run(scenario())) == {"left": True}


@pytest.mark.usual_mode
def test_code_that_does_not_fit_tells_nothing(world):
    more = []

    async def body(ctx):
        ctx.set("at", "first")
        if more:
            ctx.set("at", "elsewhere")
            await ctx.step.run("other", int)
        await ctx.step.run("one", int)
        await ctx.step.sleep("nap", 60)

    async def scenario():
        run = world.trigger(body)
        await world.deliver_next()
        more.append(1)
        await world.deliver_next()
        assert world.row(run).blocked
        return run

    assert state(world, asyncio.run(scenario())) == {"at": "first"}


@pytest.mark.usual_mode
def test_a_state_that_cannot_be_read_blocks_the_run(world):
    async def body(ctx):
        await ctx.step.sleep("nap", 60)

    async def scenario():
        run = world.trigger(body)
        world.journal.alter(run, state="?")
        await world.deliver_next()
        return run

    assert "data or state is not read" in world.row(asyncio.run(scenario())).blocked
