"""Events: stored when early, first in first out, one consumer, the timeout decided once."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from django_hookflow.core.transitions import Receive
from django_hookflow.exceptions import EventTimeout


def both(async_body, sync_body):
    return pytest.mark.parametrize("body", [async_body, sync_body], ids=["async", "def"])


async def waits(ctx):
    return await ctx.step.wait_for_event("paid", "paid")


def waits_plainly(ctx):
    return ctx.step.wait_for_event("paid", "paid")


async def waits_an_hour(ctx):
    try:
        return await ctx.step.wait_for_event("paid", "paid", timeout=3600)
    except EventTimeout as error:
        return str(error)


def waits_an_hour_plainly(ctx):
    try:
        return ctx.step.wait_for_event("paid", "paid", timedelta(hours=1))
    except TimeoutError as error:
        return str(error)


async def times_out(ctx):
    await ctx.step.wait_for_event("pay", "paid", timeout=60)


def times_out_plainly(ctx):
    ctx.step.wait_for_event("pay", "paid", timeout=60)


@both(times_out, times_out_plainly)
def test_a_timeout_that_nobody_catches_fails_the_run_and_names_the_wait(world, body):
    row = world.run(body)
    assert (row.status, row.error.type, row.error.step) == (
        "failed", "django_hookflow.exceptions.EventTimeout", "pay",
    )  # fmt: skip


@both(waits, waits_plainly)
def test_an_event_wakes_the_run_that_waits_for_it(world, body):
    async def scenario():
        run = world.trigger(body)
        await world.drain()
        assert world.row(run).status == "suspended"
        assert world.row(run).due_at is None
        world.send_event(run, "paid", {"amount": 5})
        await world.drain()
        return run

    row = world.row(asyncio.run(scenario()))
    assert (row.status, row.result) == ("completed", {"amount": 5})


@both(waits, waits_plainly)
def test_an_event_that_came_before_the_wait_is_received(world, body):
    async def scenario():
        run = world.trigger(body)
        world.send_event(run, "paid", 1)
        world.send_event(run, "paid", 2)
        await world.drain()
        return run

    run = asyncio.run(scenario())
    assert world.row(run).result == 1
    assert [event.consumed_by for event in world.journal.events(run)] == ["paid#1", None]


@both(waits_an_hour, waits_an_hour_plainly)
def test_a_timeout_is_decided_once_and_leaves_the_next_event_alone(world, body):
    async def scenario():
        run = world.trigger(body)
        await world.drain()
        if world.usual:
            world.send_event(run, "paid", "late")  # the run is over
        return run

    run = asyncio.run(scenario())
    assert world.row(run).result == "no event 'paid' came within 3600 s"
    assert list(world.journal.events(run)) == []


@both(waits_an_hour, waits_an_hour_plainly)
def test_an_event_in_time_beats_the_timeout(world, body):
    async def scenario():
        run = world.trigger(body)
        await world.rest()
        world.send_event(run, "paid", "in time")
        await world.rest()
        await world.drain()
        return run

    assert world.row(asyncio.run(scenario())).result == "in time"


def test_events_of_one_name_are_received_in_order_each_once(world):
    async def three(ctx):
        return [await ctx.step.wait_for_event("item", "item") for _ in range(3)]

    async def scenario():
        run = world.trigger(three)
        world.send_event(run, "item", 1)
        await world.drain()
        world.send_event(run, "item", 2)
        world.send_event(run, "other", "x")
        await world.drain()
        world.send_event(run, "item", 3)
        await world.drain()
        return run

    run = asyncio.run(scenario())
    assert world.row(run).result == [1, 2, 3]
    assert [e.name for e in world.journal.events(run) if e.consumed_by is None] == ["other"]


def test_one_event_is_received_by_one_branch(world):
    async def two(ctx):
        return await asyncio.gather(
            ctx.step.wait_for_event("a", "go"), ctx.step.wait_for_event("b", "go")
        )

    async def scenario():
        run = world.trigger(two)
        await world.drain()
        world.send_event(run, "go", 1)
        await world.drain()
        assert world.row(run).status == "suspended"
        world.send_event(run, "go", 2)
        await world.drain()
        return run

    assert world.row(asyncio.run(scenario())).result == [1, 2]


@pytest.mark.parametrize("early", [True, False], ids=["event first", "sleep first"])
def test_a_race_of_a_sleep_and_an_event_has_the_same_winner_on_every_replay(world, early):
    async def race(ctx):
        nap = asyncio.create_task(ctx.step.sleep("nap", 3600))
        event = asyncio.create_task(ctx.step.wait_for_event("paid", "paid"))
        done, pending = await asyncio.wait({nap, event}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await ctx.step.sleep("after", 60)
        return "event" if event in done else "nap"

    async def scenario():
        run = world.trigger(race)
        await world.rest()
        if early:
            world.send_event(run, "paid")
        await world.rest(skip=0 if early else 3600)
        if not early:
            world.send_event(run, "paid")
        await world.drain()
        return run

    run = asyncio.run(scenario())
    assert world.row(run).result == ("event" if early else "nap")
    received = [event for event in world.journal.events(run) if event.consumed_by]
    assert len(received) == early, "the loser's wait took an event"


def test_of_two_events_that_are_there_the_wait_that_loses_takes_none(world):
    async def first_of(ctx, *names):
        waits = {asyncio.create_task(ctx.step.wait_for_event(name, name)) for name in names}
        done, lost = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in lost:
            wait.cancel()
        return [wait.result() for wait in done]

    async def body(ctx):
        return [await first_of(ctx, "a", "b"), await first_of(ctx, "a", "b")]

    async def scenario():
        run = world.trigger(body)
        world.send_event(run, "b", "B")
        world.send_event(run, "a", "A")
        await world.drain()
        return run

    run = asyncio.run(scenario())
    assert sorted(world.row(run).result) == [["A"], ["B"]]


@pytest.mark.usual_mode
def test_a_step_that_ends_while_the_mailbox_is_looked_into_leaves_the_event_there(world):
    """A step tells that one has come, and another one's end makes the body give up waiting."""

    async def race(late):
        async def tells():
            world.send_event(world.runs["run"], "paid", 7)

        async def quick():
            await asyncio.sleep(late)

        async def body(ctx):
            event = asyncio.create_task(ctx.step.wait_for_event("paid", "paid"))
            step = asyncio.create_task(ctx.step.run("quick", quick))
            tell = asyncio.create_task(ctx.step.run("tells", tells))
            done, _ = await asyncio.wait({event, step}, return_when=asyncio.FIRST_COMPLETED)
            await tell
            if event in done:
                return ["event", event.result()]
            event.cancel()
            return ["step", await ctx.step.wait_for_event("again", "paid")]

        world.runs = {}
        world.runs["run"] = world.trigger(body)
        await world.drain()
        return world.row(world.runs["run"]).result

    results = [asyncio.run(race(number * 0.0001)) for number in range(40)]
    assert all(result in (["event", 7], ["step", 7]) for result in results), results


@pytest.mark.usual_mode
def test_an_outcome_that_nobody_brings_ends_the_delivery(world, monkeypatch):
    """The row's count says that there is one; to look again at once would be for ever."""
    asked = []
    commit = type(world.journal).commit

    def always_behind(journal, transition):
        if isinstance(transition, Receive):
            asked.append(1)
            transition = replace(transition, after=7)
        return commit(journal, transition)

    async def scenario():
        run = world.trigger(waits)
        world.send_event(run, "paid", 1)
        answer = await asyncio.wait_for(world.deliver(run, 1), 30)
        return run, answer

    monkeypatch.setattr(type(world.journal), "commit", always_behind)
    run, answer = asyncio.run(scenario())
    assert (answer.status, answer.note, len(asked)) == (200, "fenced", 1)
    assert world.row(run).status == "running", "the lease runs out, and another one looks"


def test_an_event_while_another_branch_executes_is_received_in_that_delivery(world):
    ran = []

    async def slow():
        ran.append("slow")
        world.send_event(world.runs["run"], "paid", 7)
        await asyncio.sleep(0)

    async def beside(ctx):
        return await asyncio.gather(
            ctx.step.wait_for_event("paid", "paid"), ctx.step.run("slow", slow)
        )

    async def scenario():
        world.runs = {}
        world.runs["run"] = world.trigger(beside)
        await world.drain()
        return world.runs["run"]

    assert world.row(asyncio.run(scenario())).result == [7, None]
    if world.usual:
        assert ran == ["slow"]
        assert world.messages == 1


@pytest.mark.usual_mode
def test_events_nobody_waits_for_cost_no_message(world):
    async def sleeps(ctx):
        await ctx.step.sleep("nap", 3600)
        return [await ctx.step.wait_for_event("go", "go") for _ in range(3)]

    async def scenario():
        run = world.trigger(sleeps)
        await world.deliver_next()
        for n in range(1000):
            world.send_event(run, "go" if n < 3 else "noise", n)
        assert len(world.transport.messages) == 1, "only the sleep's"
        await world.drain()
        return run

    assert world.row(asyncio.run(scenario())).result == [0, 1, 2]
    assert world.messages == 2


def test_an_event_sent_twice_under_one_dedup_id_is_one(world):
    async def two(ctx):
        first = await ctx.step.wait_for_event("a", "go")
        try:
            return [first, await ctx.step.wait_for_event("b", "go", timeout=60)]
        except EventTimeout:
            return [first]

    async def scenario():
        run = world.trigger(two)
        for n in range(3):
            world.send_event(run, "go", n, dedup_id="x")
        await world.drain()
        return run

    assert world.row(asyncio.run(scenario())).result == [0]


@pytest.mark.parametrize("timeout", [-1, "soon", True, float("nan"), timedelta(days=-1)])
def test_a_bad_timeout_is_refused(world, timeout):
    async def bad(ctx):
        await ctx.step.wait_for_event("paid", "paid", timeout)

    row = world.run(bad)
    assert row.status == "failed"
    assert "timeout" in row.error.message
    assert world.steps() == []


@pytest.mark.parametrize("name", ["", "x" * 201, 5, "a\x00", "\ud800"])
def test_a_bad_name_is_refused(world, name):
    async def bad(ctx):
        await ctx.step.wait_for_event("paid", name)

    row = world.run(bad)
    assert row.status == "failed"
    assert "an event's name" in row.error.message


def test_a_wait_for_another_event_blocks_once_one_is_recorded(world):
    names = {"name": "paid"}

    async def renamed(ctx):
        await ctx.step.wait_for_event("wait", names["name"])
        await ctx.step.sleep("nap", 60)

    async def scenario():
        run = world.trigger(renamed)
        world.send_event(run, "paid")
        await world.deliver_next()
        names["name"] = "settled"
        await world.deliver_next()
        return run

    if not world.usual:
        return
    row = world.row(asyncio.run(scenario()))
    assert row.blocked == "step 'wait#1': expected event of paid, got event of settled"
