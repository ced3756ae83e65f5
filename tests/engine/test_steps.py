"""What a workflow's body may do, async and sync, counted outside the engine."""

import asyncio
import contextvars
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from asgiref.sync import sync_to_async

from django_hookflow import RetryPolicy, current_step
from django_hookflow.exceptions import (
    RetryAfter,
    SerializationError,
    StepFailed,
    StepTimeout,
    TerminalError,
)

from .harness import World


@pytest.fixture
def ran():
    """Which bodies ran, in order: the ledger outside the engine."""
    return []


def test_steps_run_once_and_in_one_delivery(world, ran):
    async def flow(ctx):
        total = 0
        for n in range(10):
            total += await ctx.step.run(f"step-{n}", ran.append, n) or n
        return total

    run = world.run(flow)
    assert (run.status, run.result) == ("completed", 45)
    assert ran == list(range(10))
    if world.usual:
        assert world.messages == 1


def test_a_def_workflow_does_the_same(world, ran):
    async def double(n):
        await asyncio.sleep(0)
        ran.append(n)
        return n * 2

    def flow(ctx):
        first = ctx.step.run("a", double, ctx.data["n"])
        ctx.step.sleep("nap", timedelta(hours=3))
        return ctx.step.run("b", lambda: ran.append("b") or first + 1)

    run = world.run(flow, {"n": 4})
    assert (run.status, run.result) == ("completed", 9)
    assert ran == [4, "b"]
    if world.usual:
        assert world.messages == 2


@pytest.mark.parametrize("sleeps", [1, 3])
def test_each_sleep_adds_one_message(world, sleeps):
    async def flow(ctx):
        for n in range(sleeps):
            await ctx.step.sleep("nap", 0.5)
            await ctx.step.run("work", int, n)

    assert world.run(flow).status == "completed"
    if world.usual:
        assert world.messages == 1 + sleeps


def test_timers_never_fire_early(world):
    times = {}

    async def flow(ctx):
        await ctx.step.sleep("nap", 1000)
        times["woke"] = world.clock.now()

    began = world.clock.now()
    world.run(flow)
    assert times["woke"] - began >= timedelta(seconds=1000)


def test_a_sleep_longer_than_the_longest_delay_is_armed_again(world):
    async def flow(ctx):
        await ctx.step.sleep("long", timedelta(days=30))
        return "done"

    assert world.run(flow).result == "done"
    if world.usual:
        assert world.messages == 1 + 5  # 7 + 7 + 7 + 7 + 2 days


def test_sleep_until(world):
    when = datetime(2026, 1, 3, tzinfo=timezone.utc)

    async def flow(ctx):
        await ctx.step.sleep_until("then", when)
        return world.clock.now() >= when

    assert world.run(flow).result is True


def child(ctx):
    raise AssertionError("is not started")


CHILD = World().workflow(child)

BAD_CALLS = {
    "naive": (lambda s: s.sleep_until("x", datetime(2026, 1, 1)), "time zone"),
    "negative": (lambda s: s.sleep("x", -1), "seconds >= 0"),
    "endless": (lambda s: s.sleep("x", float("inf")), "seconds >= 0"),
    "nan": (lambda s: s.sleep("x", float("nan")), "seconds >= 0"),
    "millennia": (lambda s: s.sleep("x", 1e15), "1000 years"),
    "text": (lambda s: s.sleep("x", "5"), "number of seconds"),
    "empty id": (lambda s: s.run("", print), "1 to 200"),
    "long id": (lambda s: s.run("x" * 201, print), "1 to 200"),
    "no id": (lambda s: s.run(None, print), "1 to 200"),
    "called": (lambda s: s.run("x", 5), "without calling"),
    "control": (lambda s: s.call("x", "http://a/\r\nb"), "http:// or https://"),
    "atomic timeout": (lambda s: s.options(timeout=1).atomic("x", print), "timeout"),
    "sleep timeout": (lambda s: s.options(timeout=1).sleep("x", 1), "lasts as long as it says"),
    "event timeout": (
        lambda s: s.options(timeout=1).wait_for_event("x", "paid"),
        "its own argument, wait_for_…(…, timeout=…)",
    ),
    "child timeout": (lambda s: s.options(timeout=1).invoke("x", CHILD), "@workflow(retry=…"),
    "child retry": (
        lambda s: s.options(retry=RetryPolicy()).map("x", CHILD, [1]),
        "@workflow(retry=…",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
@pytest.mark.parametrize("colour", ["async", "sync"])
def test_bad_arguments_fail_the_run_and_say_what_is_allowed(world, ran, name, colour):
    call, words = BAD_CALLS[name]

    async def aflow(ctx):
        await ctx.step.run("before", ran.append, 1)
        await call(ctx.step)

    def flow(ctx):
        ctx.step.run("before", ran.append, 1)
        call(ctx.step)

    run = world.run(aflow if colour == "async" else flow)
    assert run.status == "failed"
    assert words in run.error.message
    assert ran == [1]


def test_a_failing_step_is_tried_again_and_then_seen_by_the_workflow(world, ran):
    def fails():
        ran.append(current_step().attempt)
        raise KeyError("nope")

    async def flow(ctx):
        try:
            await ctx.step.run("bad", fails)
        except StepFailed as error:
            return [
                error.step_id,
                error.attempts,
                error.error_type,
                error.is_a(KeyError),
                error.is_a(LookupError),
                error.is_a(ValueError),
            ]

    expected = ["bad", 4, "KeyError", True, True, False]
    assert world.run(flow).result == expected
    assert ran == [1, 2, 3, 4]
    if world.usual:
        assert world.messages == 1  # 1 + 2 + 4 s are awaited in place


def test_late_retries_suspend(world, ran):
    def fails():
        ran.append(1)
        raise OSError("down")

    async def flow(ctx):
        policy = RetryPolicy(max_attempts=3, initial_delay=60, jitter=False)
        await ctx.step.options(retry=policy).run("bad", fails)

    run = world.run(flow)
    assert run.status == "failed"
    assert (run.error.type, run.error.step, run.error.message) == ("OSError", "bad", "down")
    assert len(ran) == 3
    if world.usual:
        assert world.messages == 3


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (TerminalError("stop"), 1),
        (ValueError("given up"), 1),
        (ArithmeticError("not listed"), 1),
        (OSError("listed"), 3),
        (RetryAfter(1000), 3),
    ],
)
def test_errors_are_told_apart_by_type(world, ran, error, attempts):
    policy = RetryPolicy(max_attempts=3, retry_on=(OSError, ValueError), give_up_on=(ValueError,))

    def fails():
        ran.append(1)
        raise error

    async def flow(ctx):
        await ctx.step.run("bad", fails)

    run = world.run(flow, retry=policy)
    assert run.status == "failed"
    assert len(ran) == attempts


def test_retry_after_sets_the_delay(world):
    times = []

    def busy():
        times.append(world.clock.now())
        if len(times) == 1:
            raise RetryAfter(500)

    async def flow(ctx):
        await ctx.step.run("busy", busy)

    world.run(flow)
    assert timedelta(seconds=500) <= times[1] - times[0] < timedelta(seconds=510)


@pytest.mark.parametrize("colour", ["def", "async def"])
def test_a_timeout_fails_the_attempt(world, ran, colour):
    async def slow():
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            ran.append("cancelled")
            raise

    def slow_def():
        time.sleep(0.3)

    async def flow(ctx):
        steps = ctx.step.options(timeout=0.05, retry=RetryPolicy(max_attempts=1))
        try:
            await steps.run("slow", slow if colour == "async def" else slow_def)
        except StepTimeout as error:
            return error.attempts

    assert world.run(flow).result == 1
    assert ran == (["cancelled"] if colour == "async def" else [])


def test_a_value_that_cannot_be_stored_is_an_error_of_that_step(world, ran):
    def bad():
        ran.append(1)
        return {"items": [1, object()]}

    async def flow(ctx):
        try:
            await ctx.step.run("bad", bad)
        except SerializationError as error:
            await ctx.step.sleep("nap", 60)  # and the same on the replay
            return str(error)

    result = world.run(flow).result
    assert "items" in result
    assert "1" in result
    assert ran == [1]


@pytest.mark.parametrize("colour", ["async", "def"])
def test_a_value_that_cannot_be_stored_fails_the_run_and_names_the_step(world, colour):
    async def as_async(ctx):
        await ctx.step.run("bad", object)

    def as_def(ctx):
        ctx.step.run("bad", object)

    def returns_it(ctx):
        return object()

    error = world.run(as_async if colour == "async" else as_def).error
    assert (error.type.rpartition(".")[2], error.step) == ("SerializationError", "bad")
    assert World().run(returns_it).error.step is None


def test_values_come_back_as_they_were_given(world):
    value = {"d": Decimal("1.10"), "t": (1, 2), "s": {3}, "b": b"\x00", "f": float("inf")}
    seen = []

    async def flow(ctx):
        got = await ctx.step.run("value", lambda: value)
        seen.append(got)
        await ctx.step.sleep("nap", 60)
        return got

    assert world.run(flow).result == value
    assert seen == [value] * len(seen)
    assert seen[0] is not value
    if world.usual:
        assert len(seen) == 2


def test_two_runs_have_random_numbers_of_their_own(world):
    seen = []

    async def flow(ctx):
        seen.append((ctx.uuid4(), ctx.random.random()))

    world.run(flow)
    world.run(flow)
    assert len({uuid for uuid, _ in seen}) == 2
    assert len({number for _, number in seen}) == 2


def test_replays_see_the_same_now_and_uuid(world):
    seen = []

    async def flow(ctx):
        await ctx.step.run("a", int)
        seen.append((ctx.now(), ctx.uuid4(), ctx.random.random()))
        await ctx.step.sleep("nap", 60)
        await ctx.step.sleep("nap", 60)
        return None

    world.run(flow)
    assert len(set(seen)) == 1
    if world.usual:
        assert len(seen) == 3


def test_current_step_says_where_it_runs(world):
    keys = []

    def look():
        info = current_step()
        keys.append(info.idempotency_key)
        if info.attempt == 1:
            raise OSError
        return [info.run_id, info.workflow_id, info.step_id, info.occurrence, info.attempt]

    async def flow(ctx):
        with pytest.raises(LookupError):
            current_step()
        return await ctx.step.run("look", look)

    run = world.run(flow, run_id="order-1")
    assert run.result[0] == "order-1"
    assert run.result[2:] == ["look", 1, 2]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert len(keys[0]) == 64


language = contextvars.ContextVar("language", default="none")


def spoken():
    return language.get()


async def spoken_async():
    return language.get()


def speak_french():
    language.set("fr")


@pytest.mark.parametrize("colour", ["async", "def"])
def test_a_step_has_the_context_variables_of_who_asked_for_it(world, colour):
    """As ``translation.override()`` and ``timezone.override()`` set them around it."""

    def as_def(ctx):
        language.set("de")
        both = ctx.step.gather(("a", spoken), ("b", spoken_async))
        ctx.step.run("fr", speak_french)
        return [*both, ctx.step.run("c", spoken)]

    async def branch(ctx, name, fn):
        language.set(name)
        return await ctx.step.run(name, fn)

    async def as_async(ctx):
        language.set("de")
        both = await asyncio.gather(branch(ctx, "it", spoken), branch(ctx, "es", spoken_async))
        await ctx.step.run("fr", speak_french)
        return [*both, await ctx.step.run("c", spoken)]

    said = ["de", "de", "de"] if colour == "def" else ["it", "es", "de"]
    assert world.run(as_def if colour == "def" else as_async).result == said


def test_step_ids_may_repeat_in_a_loop(world, ran):
    async def flow(ctx):
        for n in range(3):
            await ctx.step.run("item", ran.append, n)
            await ctx.step.sleep("nap", 60)
        return len(ran)

    assert world.run(flow).result == 3
    assert ran == [0, 1, 2]
    assert [step.key for step in world.steps()] == [
        "item#1", "nap#1", "item#2", "nap#2", "item#3", "nap#3",
    ]  # fmt: skip


@pytest.mark.parametrize("colour", ["async", "sync"])
def test_except_exception_does_not_see_a_suspension(world, ran, colour):
    async def aflow(ctx):
        try:
            await ctx.step.sleep("nap", 60)
        except Exception:
            ran.append("swallowed")
        return "end"

    def flow(ctx):
        try:
            ctx.step.sleep("nap", 60)
        except Exception:
            ran.append("swallowed")
        return "end"

    assert world.run(aflow if colour == "async" else flow).result == "end"
    assert ran == []


@pytest.mark.parametrize("colour", ["async", "sync"])
def test_a_bare_except_cannot_make_a_false_completed(world, ran, colour):
    async def aflow(ctx):
        try:
            await ctx.step.sleep("nap", 60)
        except:  # noqa: E722
            return "swallowed"
        return await ctx.step.run("real", lambda: ran.append("real") or "end")

    def flow(ctx):
        try:
            ctx.step.sleep("nap", 60)
        except:  # noqa: E722
            return "swallowed"
        return ctx.step.run("real", lambda: ran.append("real") or "end")

    assert world.run(aflow if colour == "async" else flow).result == "end"
    assert ran == ["real"]


@pytest.mark.usual_mode
@pytest.mark.parametrize("colour", ["async", "sync"])
def test_durable_steps_in_finally_run_only_when_the_workflow_really_leaves(world, ran, colour):
    async def aflow(ctx):
        try:
            await ctx.step.sleep("nap", 60)
        finally:
            ran.append("finally")
            await ctx.step.run("cleanup", ran.append, "cleanup")

    def flow(ctx):
        try:
            ctx.step.sleep("nap", 60)
        finally:
            ran.append("finally")
            ctx.step.run("cleanup", ran.append, "cleanup")

    assert world.run(aflow if colour == "async" else flow).status == "completed"
    assert ran == ["finally", "finally", "cleanup"]


def test_gather_with_return_exceptions(world, ran):
    def fails():
        ran.append("fails")
        raise TerminalError("no")

    async def flow(ctx):
        results = await asyncio.gather(
            ctx.step.run("bad", fails),
            ctx.step.sleep("nap", 60),
            ctx.step.run("good", lambda: "good"),
            return_exceptions=True,
        )
        return [type(results[0]).__name__, results[1], results[2]]

    assert world.run(flow).result == ["StepFailed", None, "good"]
    assert ran == ["fails"]


def test_gather_records_the_sibling_before_suspending(world, ran):
    async def slow(name):
        await asyncio.sleep(0.05)
        ran.append(name)
        return name

    async def flow(ctx):
        return await asyncio.gather(
            ctx.step.sleep("nap", 60), ctx.step.run("a", slow, "a"), ctx.step.run("b", slow, "b")
        )

    assert world.run(flow).result == [None, "a", "b"]
    assert set(ran) == {"a", "b"}
    if world.usual:
        assert len(ran) == world.messages == 2


def test_the_first_completed_of_wait_is_the_same_on_replay(world):
    seen = []

    async def after(seconds, name):
        await asyncio.sleep(seconds)
        return name

    async def flow(ctx):
        slow = asyncio.ensure_future(ctx.step.run("slow", after, 0.05, "slow"))
        fast = asyncio.ensure_future(ctx.step.run("fast", after, 0.01, "fast"))
        done, _ = await asyncio.wait({slow, fast}, return_when=asyncio.FIRST_COMPLETED)
        seen.append(sorted(task.result() for task in done))
        await ctx.step.sleep("nap", 60)
        return await slow

    assert world.run(flow).result == "slow"
    assert seen == [seen[0]] * len(seen)
    if world.usual:
        assert seen == [["fast"], ["fast"]]


def test_a_cancelled_branch_does_not_keep_the_run_waiting(world):
    async def flow(ctx):
        nap = asyncio.ensure_future(ctx.step.sleep("long", timedelta(days=300)))
        work = asyncio.ensure_future(ctx.step.run("work", lambda: 7))
        done, pending = await asyncio.wait({nap, work}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await ctx.step.sleep("short", 60)
        return done.pop().result()

    before = world.clock.now()
    assert world.run(flow).result == 7
    assert world.clock.now() - before < timedelta(hours=1)


@pytest.mark.usual_mode
def test_a_semaphore_bounds_side_by_side_steps(world):
    running, most = set(), []

    async def work(n):
        running.add(n)
        most.append(len(running))
        await asyncio.sleep(0.01)
        running.discard(n)
        return n

    async def flow(ctx):
        semaphore = asyncio.Semaphore(2)

        async def one(n):
            async with semaphore:
                return await ctx.step.run("work", work, n)

        return await asyncio.gather(*(one(n) for n in range(6)))

    assert world.run(flow).result == list(range(6))
    assert max(most) == 2


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup came with 3.11")
def test_task_group(world, ran):
    async def flow(ctx):
        async with asyncio.TaskGroup() as group:
            a = group.create_task(ctx.step.run("a", lambda: ran.append("a") or "a"))
            group.create_task(ctx.step.sleep("nap", 60))
        return [a.result(), await ctx.step.run("after", lambda: "after")]

    assert world.run(flow).result == ["a", "after"]
    assert ran == ["a"]


@pytest.mark.usual_mode
def test_def_steps_run_side_by_side(world):
    meet = threading.Barrier(4, timeout=30)

    async def flow(ctx):
        return await asyncio.gather(*(ctx.step.run(f"s{n}", meet.wait) for n in range(4)))

    row = world.run(flow)
    assert (row.status, sorted(row.result)) == ("completed", [0, 1, 2, 3])


def test_1000_races_have_the_same_winner_live_and_replayed():
    """Two steps side by side that end at nearly the same time: live winner = replayed winner."""
    differing = []

    async def tick(n):
        await asyncio.sleep(0)
        return n

    for _ in range(1000):
        world = World()
        winners = []

        async def flow(ctx, winners=winners):
            tasks = [asyncio.ensure_future(ctx.step.run(f"s{n}", tick, n)) for n in range(2)]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            winners.append(sorted(task.result() for task in done))
            await ctx.step.sleep("nap", 60)
            await asyncio.gather(*tasks)
            return None

        assert world.run(flow).status == "completed"
        if winners[0] != winners[1]:
            differing.append(winners)
    assert differing == []


def test_the_orm_in_an_async_body_is_refused_before_its_step(world, ran):
    async def flow(ctx):
        await asyncio.gather(branch(ctx), ctx.step.run("other", ran.append, "other"))

    async def branch(ctx):
        await sync_to_async(lambda: 1)()
        await ctx.step.run("never", ran.append, "never")

    run = world.run(flow)
    assert run.status == "failed"
    assert "ctx.step.run" in run.error.message
    assert "never" not in ran


def test_a_step_inside_a_step_is_refused(world, ran):
    async def flow(ctx):
        async def outer():
            ran.append("outer")
            await ctx.step.run("inner", ran.append, "inner")

        await ctx.step.run("outer", outer)

    run = world.run(flow)
    assert (run.status, ran) == ("failed", ["outer"])
    assert "do not nest" in run.error.message


def test_a_step_inside_a_def_step_is_refused(world, ran):
    def flow(ctx):
        def outer():
            ran.append("outer")
            ctx.step.run("inner", ran.append, "inner")

        ctx.step.run("outer", outer)

    run = world.run(flow)
    assert (run.status, ran) == ("failed", ["outer"])
    assert "do not nest" in run.error.message


def test_a_step_on_another_thread_is_refused_and_does_not_hang(world, ran):
    def flow(ctx):
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda n: ctx.step.run(f"s{n}", ran.append, n), range(4)))

    run = world.run(flow)
    assert (run.status, ran) == ("failed", [])
    assert "another thread" in run.error.message


def test_waiting_for_what_nobody_does_fails_with_words(world):
    async def flow(ctx):
        await asyncio.Event().wait()

    run = world.run(flow)
    assert run.status == "failed"
    assert "not a step" in run.error.message


def test_an_exception_out_of_the_body_fails_the_run(world):
    async def flow(ctx):
        await ctx.step.run("a", int)
        raise LookupError("no such order")

    run = world.run(flow)
    assert (run.status, run.error.type, run.error.message) == (
        "failed", "LookupError", "no such order",
    )  # fmt: skip


def test_a_result_that_cannot_be_stored_fails_the_run(world):
    async def flow(ctx):
        return {"conn": object()}

    run = world.run(flow)
    assert run.status == "failed"
    assert "conn" in run.error.message


@pytest.mark.usual_mode
def test_the_log_is_silent_while_replaying(world, caplog):
    caplog.set_level("INFO", logger="django_hookflow.workflow")

    async def flow(ctx):
        ctx.log.info("first")
        await ctx.step.run("a", int)
        ctx.log.info("second")
        await ctx.step.sleep("nap", 60)
        ctx.log.info("third")

    world.run(flow)
    assert [record.message for record in caplog.records] == ["first", "second", "third"]


def test_both_facades_have_the_same_signatures():
    import inspect

    from django_hookflow.engine.steps import Steps
    from django_hookflow.engine.sync import SyncSteps

    def shape(cls):
        public = {name: m for name, m in vars(cls).items() if not name.startswith("_")}
        return {
            name: [(p.name, p.kind, p.default) for p in inspect.signature(m).parameters.values()]
            for name, m in public.items()
            if inspect.isfunction(m)
        }

    plain = shape(SyncSteps)
    assert plain.pop("gather"), "asyncio has one for async def workflows"
    assert shape(Steps) == plain
