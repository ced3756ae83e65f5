"""Deliveries: answers, fences, crashes, changed code; bodies counted outside the engine."""

import asyncio
import itertools
import threading
import time
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from django_hookflow import RetryPolicy
from django_hookflow.core.transitions import (
    Cancel,
    Claim,
    Fence,
    Fenced,
    Fire,
    JournalUnavailable,
    Release,
)
from django_hookflow.engine.leases import LeaseKeeper
from django_hookflow.engine.suspending import StopSign
from django_hookflow.journals.memory import MemoryJournal

from .harness import SkippingClock, World

# Each has circumstances of its own.
pytestmark = pytest.mark.usual_mode


class Crash(BaseException):
    """The process ends here."""


class CrashOnce:
    """Ends the process at the n-th visit of one crash point."""

    def __init__(self, point, visit=1):
        self.point, self.left, self.hit = point, visit, False

    def __call__(self, point):
        if point == self.point and not self.hit:
            self.left -= 1
            if self.left == 0:
                self.hit = True
                raise Crash(point)


@pytest.fixture
def ran():
    return []


def deliver(world, run, wake=1, **options):
    return asyncio.run(world.deliver(run, wake, **options))


def two_steps(ran):
    async def flow(ctx):
        await ctx.step.run("a", ran.append, "a")
        await ctx.step.run("b", ran.append, "b")
        return "end"

    return flow


# --- the answer table


def test_unknown_run(world):
    assert deliver(world, uuid4()).status == 489


def test_a_finished_run_is_done_and_a_late_wake_stale(world, ran):
    async def sleeper(ctx):
        await ctx.step.sleep("nap", 3600)

    done = world.trigger(two_steps(ran))
    assert deliver(world, done).note == "done"
    assert deliver(world, done).note == "done"
    assert ran == ["a", "b"]
    asleep = world.trigger(sleeper)
    deliver(world, asleep, 1)
    assert deliver(world, asleep, 1).note == "stale"


def test_an_early_wake_is_armed_again(world):
    async def flow(ctx):
        await ctx.step.sleep("nap", 3600)

    run = world.trigger(flow)
    deliver(world, run, 1)
    world.transport.take()
    assert deliver(world, run, 2).note == "early"
    [message] = world.transport.take()
    assert '"w":3' in message.body
    assert 3500 < message.delay <= 3600


def test_an_unregistered_workflow_is_left_alone(world, ran):
    run = world.trigger(two_steps(ran))
    known = dict(world.workflows)
    world.workflows.clear()
    answer = deliver(world, run)
    assert (answer.status, answer.retry_after) == (503, 30)
    assert world.row(run).blocked == ""
    world.clock.skip(601)
    deliver(world, run)
    assert "is not registered" in world.row(run).blocked
    world.workflows.update(known)
    assert deliver(world, run).note == "done"
    assert world.row(run).status == "completed"
    assert world.row(run).blocked == ""


def test_a_redelivery_to_a_live_holder_waits_for_the_lease(world, ran):
    run = world.trigger(two_steps(ran))
    world.journal.claim(Claim(id=run, wake=1, lease=timedelta(seconds=60)))
    same, other = deliver(world, run, 1), deliver(world, run, 7)
    assert same.status == 503
    assert 60 <= same.retry_after <= 62
    assert other.note == "covered"
    assert ran == []
    world.clock.skip(61)
    assert deliver(world, run, 1).note == "done"
    assert ran == ["a", "b"]


def test_a_publish_that_fails_keeps_the_message_in_hand(world):
    async def flow(ctx):
        await ctx.step.sleep("nap", 60)

    run = world.trigger(flow)
    world.transport.take()
    world.transport.fail_next(1, retry_after=40)
    answer = deliver(world, run)
    assert (answer.status, answer.retry_after) == (503, 40)
    assert world.row(run).owed_at is not None
    assert deliver(world, run).note == "stale"  # and publishes what is owed
    assert world.row(run).owed_at is None
    assert len(world.transport.take()) == 1


def test_a_failed_workflow_is_answered_200(world):
    async def flow(ctx):
        raise ValueError("no")

    run = world.trigger(flow)
    assert deliver(world, run).status == 200
    assert world.row(run).status == "failed"


def test_infrastructure_errors_in_the_body_change_nothing(world, ran):
    async def flow(ctx):
        await ctx.step.run("a", ran.append, "a")
        if len(world.answers) == 0:
            raise MemoryError("too much")
        return "end"

    run = world.trigger(flow)
    answer = deliver(world, run)
    assert (answer.status, answer.retry_after) == (503, 5)
    row = world.row(run)
    assert (row.status, row.lease_until) == ("suspended", None)
    assert deliver(world, run).note == "done"
    assert ran == ["a"]


# --- crashes: the same journal, a new process


CRASHES = [
    ("claim:before", 1, ["a", "b"]),
    ("claim:inside", 1, ["a", "b"]),
    ("claim:after", 1, ["a", "b"]),
    ("record:before", 1, ["a", "a", "b"]),  # between effect and record: that one body again
    ("record:inside", 1, ["a", "a", "b"]),
    ("record:after", 1, ["a", "b"]),
    ("record:before", 2, ["a", "b", "b"]),
    ("record:after", 2, ["a", "b"]),
    ("finish:before", 1, ["a", "b"]),
    ("finish:after", 1, ["a", "b"]),
]


@pytest.mark.parametrize(("point", "visit", "bodies"), CRASHES)
@pytest.mark.parametrize("colour", ["async", "sync"])
def test_a_crash_repeats_at_most_the_body_between_effect_and_record(
    ran, point, visit, bodies, colour
):
    def flow(ctx):
        ctx.step.run("a", ran.append, "a")
        ctx.step.run("b", ran.append, "b")
        return "end"

    crash = CrashOnce(point, visit)
    world = World(crash=crash)
    run = world.trigger(two_steps(ran) if colour == "async" else flow)
    with pytest.raises(Crash):
        deliver(world, run)
    assert crash.hit
    world.clock.skip(61)
    assert deliver(world, run).note == "done"
    assert world.row(run).status == "completed"
    assert ran == bodies


# --- fences


def test_a_holder_whose_lease_was_taken_over_cannot_write(world, ran):
    """The first holder stalls in its step; another takes the run over and finishes it."""
    stalled, go_on = threading.Event(), threading.Event()

    def stall():
        ran.append("stall")
        if len(ran) == 1:
            stalled.set()
            go_on.wait(5)
        return len(ran)

    async def flow(ctx):
        return await ctx.step.run("stall", stall)

    run = world.trigger(flow)
    world.driver = replace(world.driver, keeper=None)  # its process is stopped: nobody renews
    first = threading.Thread(target=deliver, args=(world, run))
    first.start()
    stalled.wait(5)
    world.clock.skip(61)
    assert deliver(world, run).note == "done"
    go_on.set()
    first.join()
    assert world.answers[-1].note == "fenced"
    assert world.row(run).result == 2
    assert ran == ["stall", "stall"]


def test_the_keeper_holds_a_lease_over_a_long_def_step():
    world = World(lease=timedelta(seconds=60))
    # It asks in turn how long until the next beat, of which it waits a third, and for how long to
    # renew: beats that come at once, and leases that no pause of the machine outlasts.
    durations = itertools.cycle([timedelta(seconds=0.1), world.limits.lease])
    world.driver = replace(world.driver, keeper=LeaseKeeper(world.journal, lambda: next(durations)))
    ran, go_on = [], threading.Event()

    def slow():
        ran.append("slow")
        go_on.wait(60)

    def flow(ctx):
        ctx.step.run("slow", slow)

    def wait(condition):
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)

    run = world.trigger(flow)
    first = threading.Thread(target=deliver, args=(world, run))
    first.start()
    try:
        wait(lambda: ran)
        for _ in range(4):
            world.clock.skip(40)
            until = world.clock.now() + timedelta(seconds=50)
            wait(lambda until=until: world.row(run).lease_until > until)
            assert deliver(world, run, 1).status == 503
    finally:
        go_on.set()
        first.join()
    assert ran == ["slow"]
    assert world.row(run).status == "completed"


def test_20_duplicates_at_once_run_each_body_once(world, ran):
    async def slow(name):
        ran.append(name)
        end = time.monotonic() + 30
        # The one that holds the run ends last: one that came after it would be no duplicate.
        while name == "a" and len(world.answers) < 19 and time.monotonic() < end:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)

    async def flow(ctx):
        for name in "abc":
            await ctx.step.run(name, slow, name)

    run = world.trigger(flow)

    async def storm():
        return await asyncio.gather(*(world.deliver(run, 1) for _ in range(20)))

    answers = asyncio.run(storm())
    assert ran == ["a", "b", "c"]
    assert sorted(answer.status for answer in answers) == [200] + [503] * 19


def test_cancel_fences_the_holder_at_its_next_commit(world, ran):
    async def flow(ctx):
        await ctx.step.run("a", lambda: world.journal.cancel(Cancel(id=run)))
        await ctx.step.run("b", ran.append, "b")

    run = world.trigger(flow)
    assert deliver(world, run).note == "fenced"
    assert world.row(run).status == "cancelled"
    assert ran == []


def test_a_step_that_kills_its_process_blocks_the_run_and_heals(world, ran):
    crash = {"on": True}

    def deadly():
        ran.append("deadly")
        if crash["on"]:
            raise SystemExit("out of memory")

    async def flow(ctx):
        await ctx.step.run("before", int)
        await ctx.step.run("deadly", deadly)

    run = world.trigger(flow)
    for _ in range(5):
        with pytest.raises(SystemExit):
            deliver(world, run)
        world.clock.skip(61)
    assert deliver(world, run).status == 200
    assert len(ran) == 5
    row = world.row(run)
    assert "'deadly#1'" in row.blocked
    assert row.status == "suspended"
    crash["on"] = False
    world.clock.skip(3601)
    assert deliver(world, run).note == "done"
    assert world.row(run).status == "completed"
    assert len(ran) == 6


# --- the delivery's time, and stopping


def test_a_used_up_delivery_goes_on_in_the_next(ran):
    world = World(delivery_seconds=30)

    def slow(n):
        ran.append(n)
        world.clock.skip(14)  # another step fits in after 14 s, and none after 28

    async def flow(ctx):
        for n in range(4):
            await ctx.step.run(f"s{n}", slow, n)

    assert world.run(flow).status == "completed"
    assert ran == [0, 1, 2, 3]
    assert world.messages == 2


def test_with_no_delivery_time_every_step_is_its_own_delivery(ran):
    world = World(delivery_seconds=0.001)

    async def flow(ctx):
        await asyncio.gather(*(ctx.step.run(f"s{n}", ran.append, n) for n in range(3)))
        await ctx.step.run("last", ran.append, "last")

    assert world.run(flow).status == "completed"
    assert ran == [0, 1, 2, "last"]
    assert world.messages == 4


def test_a_stopped_delivery_records_what_it_started_and_suspends(world, ran):
    async def slow():
        ran.append("slow")
        await asyncio.sleep(0.2)

    async def flow(ctx):
        await ctx.step.run("slow", slow)
        await ctx.step.run("next", ran.append, "next")

    run = world.trigger(flow)
    world.transport.take()

    async def stopped():
        stop = StopSign()
        delivery = asyncio.ensure_future(world.deliver(run, 1, stop))
        while not ran:
            await asyncio.sleep(0.005)
        stop.stop()
        return await delivery

    assert asyncio.run(stopped()).status == 200
    row = world.row(run)
    assert (row.status, row.lease_until, ran) == ("suspended", None, ["slow"])
    asyncio.run(world.drain())
    assert ran == ["slow", "next"]


# --- code that changed


def test_changed_code_blocks_and_heals(world, ran):
    async def before(ctx):
        await ctx.step.run("reserve", ran.append, "reserve")
        await ctx.step.sleep("nap", 60)
        await ctx.step.run("charge", ran.append, "charge")

    async def after(ctx):
        await ctx.step.run("check", ran.append, "check")
        await ctx.step.sleep("nap", 60)
        await ctx.step.run("charge", ran.append, "charge")

    run = world.trigger(before)
    deliver(world, run)
    good = world.workflows[before.__qualname__]
    world.workflows[before.__qualname__] = type(good)(after)
    for expected_delay in (10, 20, 40):
        world.clock.skip(3600)
        world.transport.take()
        assert deliver(world, run, world.row(run).wake_n).status == 200
        row = world.row(run)
        assert "expected run step 'reserve#1', got 'check#1'" in row.blocked
        [message] = world.transport.take()
        assert expected_delay - 1 <= message.delay <= expected_delay
    assert ran == ["reserve"]
    world.workflows[before.__qualname__] = good
    world.clock.skip(3600)
    deliver(world, run, world.row(run).wake_n)
    row = world.row(run)
    assert (row.status, row.blocked) == ("completed", "")
    assert ran == ["reserve", "charge"]


def test_a_workflow_that_ends_too_early_is_blocked_not_completed(world, ran):
    async def before(ctx):
        await ctx.step.run("a", ran.append, "a")
        await ctx.step.sleep("nap", 60)

    async def after(ctx):
        return "nothing to do"

    run = world.trigger(before)
    deliver(world, run)
    world.workflows[before.__qualname__] = type(world.workflows[before.__qualname__])(after)
    world.clock.skip(61)
    deliver(world, run, 2)
    assert world.row(run).status == "suspended"
    assert "no request at all" in world.row(run).blocked


def test_a_step_appended_at_the_end_is_fine(world, ran):
    async def before(ctx):
        await ctx.step.run("a", ran.append, "a")
        await ctx.step.sleep("nap", 60)

    async def after(ctx):
        await before(ctx)
        await ctx.step.run("new", ran.append, "new")

    run = world.trigger(before)
    deliver(world, run)
    world.workflows[before.__qualname__] = type(world.workflows[before.__qualname__])(after)
    world.clock.skip(61)
    deliver(world, run, 2)
    assert world.row(run).status == "completed"
    assert ran == ["a", "new"]


def test_a_release_by_a_fenced_holder_is_refused(world, ran):
    run = world.trigger(two_steps(ran))
    claimed = world.journal.claim(Claim(id=run, wake=1, lease=timedelta(seconds=1)))
    world.clock.skip(2)
    world.journal.claim(Claim(id=run, wake=1, lease=timedelta(seconds=60)))

    stale = Fence(id=run, epoch=claimed.run.epoch, lease=timedelta(seconds=60))
    with pytest.raises(Fenced):
        world.journal.release(Release(fence=stale))


def test_a_retry_goes_on_counting_after_a_crash(ran):
    world = World(crash=CrashOnce("attempted:after"))

    def fails():
        ran.append(1)
        raise OSError("down")

    async def flow(ctx):
        steps = ctx.step.options(retry=RetryPolicy(max_attempts=3, jitter=False))
        await steps.run("bad", fails)

    run = world.trigger(flow)
    with pytest.raises(Crash):
        deliver(world, run)
    world.clock.skip(61)
    deliver(world, run)
    assert world.row(run).status == "failed"
    assert len(ran) == 3


# --- what a fenced delivery still waits for


class CountingClock(SkippingClock):
    waits = 0

    async def wait(self, event, seconds, *, busy):
        self.waits += 1
        await super().wait(event, seconds, busy=busy)


def test_a_fenced_delivery_waits_for_its_last_step_without_spinning(world, ran):
    """A timer that falls due meanwhile is not fired any more; it was asked for without end."""
    world.clock = CountingClock()
    world.driver = replace(world.driver, clock=world.clock)

    async def slow():
        await asyncio.sleep(0.3)
        ran.append("slow")

    async def flow(ctx):
        await asyncio.gather(
            ctx.step.run("slow", slow),
            ctx.step.run("taken", lambda: world.journal.cancel(Cancel(id=run))),
            ctx.step.sleep("due meanwhile", 0.05),
        )

    run = world.trigger(flow)
    assert deliver(world, run).note == "fenced"
    assert ran == ["slow"]
    assert world.clock.waits < 20


class Away(MemoryJournal):
    """Its database is away when a timer is recorded for the first time."""

    def commit(self, transition):
        if isinstance(transition, Fire) and not vars(self).setdefault("asked", False):
            self.asked = True
            raise JournalUnavailable("away")
        return super().commit(transition)


@pytest.mark.parametrize("what", ["cancelled from outside", "database away"])
def test_a_timer_that_is_not_recorded_waits_for_the_steps_that_execute(world, ran, what):
    """The delivery has lost its run, and ends as soon as nothing of it executes."""
    if what == "database away":
        away = Away(world.clock.now)
        away._stored = world.journal._stored
        world.journal = away
        world.driver = replace(world.driver, journal=away)

    def slow():
        if what == "cancelled from outside":
            world.journal.cancel(Cancel(id=run))
        time.sleep(0.3)
        ran.append("slow")

    async def slow_async():
        await asyncio.to_thread(slow)

    async def flow(ctx):
        await asyncio.gather(ctx.step.run("slow", slow_async), ctx.step.sleep("nap", 0.05))

    run = world.trigger(flow)
    deliver(world, run)
    assert ran == ["slow"]


def test_a_retry_does_not_start_before_its_delay_is_over(world):
    """The claim had to wait for a second before it read the journal's clock."""
    began = []

    class SlowClaims(type(world.journal)):
        def claim(self, transition):
            world.clock.skip(1)
            return super().claim(transition)

    slow = SlowClaims(world.clock.now)
    slow._stored = world.journal._stored
    world.journal = slow
    world.driver = replace(world.driver, journal=slow)

    def fails_once():
        began.append(world.clock.now())
        if len(began) == 1:
            raise OSError

    async def flow(ctx):
        await ctx.step.run("a", fails_once)

    world.run(flow, retry=RetryPolicy(initial_delay=3, jitter=False))
    assert began[1] - began[0] >= timedelta(seconds=3)
    [step] = world.steps()
    assert step.started_at <= step.finished_at
