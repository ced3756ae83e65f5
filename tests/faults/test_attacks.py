"""Defects that an attack on the promises found; each of these failed when it was written."""

import asyncio
import gc
import multiprocessing
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import django
import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.core.asgi import get_asgi_application
from django.db import InternalError, connections, transaction
from django.test import override_settings

from django_hookflow import RetryPolicy, workflow
from django_hookflow.core.decisions import Mismatch
from django_hookflow.core.entries import Entry, Kind, StepStatus
from django_hookflow.core.replay import Replay
from django_hookflow.core.requests import Request
from django_hookflow.engine.leases import Lease, LeaseKeeper
from django_hookflow.exceptions import ConfigurationError
from tests.django.harness import (
    PATH,
    drain,
    hookflow_settings,
    messages,
    post,
    row,
    signature,
    wake,
)
from tests.engine.harness import World

ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture
def world():
    return World()


# --- 1. sets of tasks are iterated in an order that differs from replay to replay
#
# Contract, section 2: asyncio.wait, as_completed and TaskGroup may be used. All three keep
# tasks (as_completed, up to 3.12, the coroutines themselves) in sets, whose order is that of
# addresses. The next replay asks in another order: blocked for ever, or, together with
# defect 2, one item done twice and another never.


async def echo(value):
    return value


async def wait_for_all(ctx):
    tasks = [asyncio.create_task(ctx.step.run(f"pick-{n}", echo, n)) for n in range(8)]
    done, _ = await asyncio.wait(tasks)
    for task in done:
        await ctx.step.run("ship", echo, task.result())
        await ctx.step.sleep("pause", 10)


async def one_by_one(ctx):
    # Free their memory in any order: other addresses next time, as in another process.
    spare = [ctx.step.run("never", echo, 0) for _ in range(40)]
    random.shuffle(spare)
    while spare:
        spare.pop().close()
    calls = [ctx.step.run("ship", echo, n) for n in range(8)]
    for call in asyncio.as_completed(calls):
        await call
    await ctx.step.sleep("pause", 10)


async def clean_up_cancelled(ctx):
    async def branch(n):
        try:
            await ctx.step.sleep(f"long-{n}", 1000)
        finally:
            await ctx.step.run("clean", echo, n)

    tasks = [asyncio.create_task(branch(n)) for n in range(8)]
    short = asyncio.create_task(ctx.step.sleep("short", 5))
    _, pending = await asyncio.wait([short, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)
    await ctx.step.sleep("pause", 5)


async def group_with_a_failing_branch(ctx):
    async def branch(n):
        try:
            await ctx.step.sleep(f"long-{n}", 1000)
        finally:
            await ctx.step.run("clean", echo, n)

    async def boom():
        raise ValueError

    try:
        async with asyncio.TaskGroup() as group:
            for n in range(8):
                group.create_task(branch(n))
            await ctx.step.sleep("short", 5)
            await ctx.step.options(retry=ONCE).run("boom", boom)
    except Exception:  # an ExceptionGroup
        pass
    await ctx.step.sleep("pause", 5)


@pytest.mark.parametrize(
    "flow",
    [
        wait_for_all,
        one_by_one,
        clean_up_cancelled,
        pytest.param(
            group_with_a_failing_branch,
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup"),
        ),
    ],
)
def test_a_set_of_tasks_has_the_same_order_on_every_replay(flow):
    for _ in range(5):
        world = World()
        run = world.run(flow, run_id=str(uuid.uuid4()))
        assert run.blocked == ""
        assert run.status == "completed"


# --- 2. the arguments of the first occurrence are never compared with those asked for


def test_the_first_of_repeated_steps_is_compared_once_the_second_is_asked_for():
    """Protocol, section 6: where a step_id occurs more than once, also the same arguments.

    One is recorded with arguments A. The replay asks for B (and is handed A's outcome), then
    for A: it is executed a second time, B never is, and nothing is said.
    """
    first = Entry(
        key="ship#1", step_id="ship", occurrence=1, kind=Kind.RUN, call="m.ship", args_sha="A",
        requested_seq=0, attempt=1, status=StepStatus.COMPLETED, seq=1, value="1",
    )  # fmt: skip
    replay = Replay([first], seq=1)
    replay.ask(Request(step_id="ship", kind=Kind.RUN, call="m.ship", args_sha="B"))
    replay.hand_over()
    decision = replay.ask(Request(step_id="ship", kind=Kind.RUN, call="m.ship", args_sha="A"))
    assert isinstance(decision, Mismatch)


# --- 3. a bare except in a loop hangs the process at a suspension

HANGS = """
    import django
    django.setup()
    from tests.engine.harness import World

    async def asynchronous(ctx):
        while True:
            try:
                await ctx.step.sleep("nap", 3600)
                break
            except:
                pass

    def synchronous(ctx):
        while True:
            try:
                ctx.step.sleep("nap", 3600)
                break
            except:
                pass

    import asyncio, os, sys
    world = World()
    run = world.trigger(globals()[sys.argv[1]])
    answer = asyncio.run(world.deliver(run, 1))
    print(answer.note, world.row(run).status.value, flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize("colour", ["asynchronous", "synchronous"])
def test_a_loop_with_a_bare_except_does_not_hang_the_process(colour):
    """Contract, section 2: a suspension cannot be swallowed, not even by a bare except.

    The async one takes the whole event loop of the server with it.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(HANGS), colour],
            env={**os.environ, "HOOKFLOW_TEST_DATABASE": "sqlite"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.fail("the delivery never answers")
    assert done.stdout.split() == ["done", "suspended"], done.stderr


# --- 4. steps asked for from other threads of a def workflow


def test_a_step_asked_for_in_another_thread_is_refused(world):
    """Nothing keeps the threads apart: they drain one loop at once (hangs, run blocked)."""
    refused = []

    def flow(ctx):
        def ask():
            try:
                ctx.step.run("aside", int)
            except Exception as error:
                refused.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()

    world.run(flow)
    assert len(refused) == 1
    assert world.steps() == []


def test_a_step_inside_a_step_is_refused_in_another_thread_too(world):
    """Contract, section 2: a step started inside a step is refused."""
    ran = []

    def flow(ctx):
        def outer():
            with ThreadPoolExecutor(1) as pool:
                pool.submit(ctx.step.run, "inner", ran.append, 1).exception()

        ctx.step.run("outer", outer)

    world.run(flow)
    assert ran == []


# --- 5. def steps that wait for a thread of the pool


def test_time_in_the_queue_is_not_taken_for_time_in_the_step(world):
    """8 steps of 1.2 s have all threads; those behind them, with a timeout of 1 s, are quick.

    They never run and fail with StepTimeout all the same.
    """

    async def flow(ctx):
        ahead = (ctx.step.run(f"ahead-{n}", time.sleep, 1.2) for n in range(8))
        behind = ctx.step.options(timeout=1, retry=ONCE)
        calls = (behind.run(f"s{n}", time.sleep, 0) for n in range(32))
        results = await asyncio.gather(*ahead, *calls, return_exceptions=True)
        return [type(result).__name__ for result in results if result is not None]

    assert world.run(flow).result == []


def test_no_queued_step_starts_when_the_time_of_the_delivery_is_used_up():
    """Contract, DELIVERY_SECONDS: it starts only if what has passed plus 5 s fits."""
    world = World(delivery_seconds=5.2)
    started = []

    def work():
        started.append(1)
        time.sleep(0.4)

    async def flow(ctx):
        await asyncio.gather(*(ctx.step.run(f"s{n}", work) for n in range(32)))

    run = world.trigger(flow)
    asyncio.run(world.deliver(run, 1))
    # Those that found a thread at once: the others would have begun 0.4 s later.
    assert 1 <= len(started) <= 8


# --- 6. the lease keeper


def test_a_failed_beat_is_never_fatal():
    """Protocol, section 5: logged, never fatal. A read-only replica says InternalError."""
    beats = []

    class Journal:
        def beat(self, transition):
            beats.append(transition)
            raise InternalError("cannot execute UPDATE in a read-only transaction")

        def close_thread(self):
            pass

    keeper = LeaseKeeper(Journal(), lambda: timedelta(seconds=0.15))
    lease = Lease(uuid.uuid4(), 1)
    keeper.hold(lease)
    end = time.monotonic() + 30
    while len(beats) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    keeper.drop(lease)
    assert len(beats) >= 2


def in_a_fork(keeper, beats, parents, pipe):
    before = len(beats)
    lease = Lease(uuid.uuid4(), 1)
    keeper.hold(lease)
    time.sleep(0.05)
    keeper.drop(lease)
    time.sleep(0.5)
    # On a busy machine its own lease may have lived for a beat.
    pipe.send(sum(parents in held for held in beats[before:]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_does_not_keep_the_leases_of_its_parent():
    """It would renew a dead parent's lease for ever: nobody could take the run over."""
    beats = []

    class Journal:
        def beat(self, transition):
            beats.append(transition.held)
            return []

        def close_thread(self):
            pass

    keeper = LeaseKeeper(Journal(), lambda: timedelta(seconds=0.3))
    lease = Lease(uuid.uuid4(), 1)
    keeper.hold(lease)
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(
        target=in_a_fork, args=(keeper, beats, lease.run, theirs)
    )
    child.start()
    child.join(60)
    keeper.drop(lease)
    assert ours.poll()
    assert ours.recv() == 0


# --- 7. secrets of a URL


def test_credentials_in_a_url_are_not_journaled(world):
    """They appear in WorkflowStep.call, in errors of steps and runs, and in log lines."""

    async def flow(ctx):
        await ctx.step.options(retry=ONCE).call("c", "http://me:s3cret@127.0.0.1:9/x?key=t0psecret")

    run = world.run(flow)
    journaled = repr((run.error, world.steps(), world.events))
    assert "s3cret" not in journaled
    assert "t0psecret" not in journaled


# --- 8. a client that goes away


BEGUN = threading.Event()


def take_long():
    BEGUN.set()
    time.sleep(0.4)


@workflow(workflow_id="tests.attacks.slow_step")
def slow_step(ctx):
    ctx.step.run("a", take_long)


async def post_and_leave(body):
    """One request through Django's real ASGI handler, whose client leaves in mid-step."""
    sent = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if sent:
            return sent.pop()
        await asyncio.to_thread(BEGUN.wait, 20)
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    headers = [
        (b"host", b"app.example"),
        (b"content-length", b"%d" % len(body)),
        (b"upstash-signature", signature(body).encode()),
    ]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": PATH, "raw_path": PATH.encode(), "query_string": b"",
        "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await get_asgi_application()(scope, receive, send)


@pytest.mark.skipif(django.VERSION < (5, 0), reason="Django 4.2 does not cancel the view")
@pytest.mark.django_db(databases="__all__", transaction=True)
def test_a_client_that_goes_away_leaves_no_thread_and_no_connection(alias):
    """A ThreadSensitiveContext inside the request's own is no context at all (asgiref).

    The request's ends first; what the delivery does then makes an executor for a context that
    nobody will leave: one idle thread and one idle connection for every client that left.
    """

    def completed():
        try:
            return (
                apps.get_model("django_hookflow", "WorkflowRun").objects.using(alias)
                .filter(status="completed").count()
            )  # fmt: skip
        finally:
            connections[alias].close()  # of a thread that only looked

    def left():
        names = [thread.name for thread in threading.enumerate() if thread not in before]
        return [name for name in names if not name.startswith("asyncio")]

    async def leave_three_times():
        deadline = time.monotonic() + 60
        for number, body in enumerate(bodies, 1):
            BEGUN.clear()
            await post_and_leave(body)
            while await asyncio.to_thread(completed) < number and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
        deadline = time.monotonic() + 5
        while len(left()) > 1 and time.monotonic() < deadline:  # what ends takes a moment
            await asyncio.sleep(0.05)
        return left()

    with hookflow_settings(alias):
        bodies = [wake(slow_step.trigger(), alias=alias) for _ in range(3)]
        messages()
        before = threading.enumerate()
        gc.disable()  # which would clear up, some time
        try:
            remaining = asyncio.run(leave_three_times())
        finally:
            gc.enable()
            gc.collect()
        assert completed() == 3
    assert len(remaining) <= 1


# --- 9. on the real journal


@workflow(workflow_id="tests.attacks.one_step")
def one_step(ctx):
    return ctx.step.run("a", int)


def cancel_run(run_id, alias):
    row(run_id, alias).cancel()


@workflow(workflow_id="tests.attacks.cancels_itself")
def cancels_itself(ctx):
    ctx.step.atomic("cancel", cancel_run, ctx.run_id, ctx.data)


def open_and_forget(alias):
    connections[alias].set_autocommit(False)
    return Counter()["nothing"]


@workflow(workflow_id="tests.attacks.leaves_autocommit_off")
def leaves_autocommit_off(ctx):
    return ctx.step.options(retry=ONCE).run("a", open_and_forget, ctx.data)


@workflow(workflow_id="tests.attacks.durable_in_another_atomic")
def durable_in_another_atomic(ctx):
    with transaction.atomic(using=ctx.data):
        ctx.step.run("a", int)


@pytest.mark.django_db(databases="__all__", transaction=True)
class TestOnTheDatabase:
    @pytest.fixture(autouse=True)
    def project(self, alias):
        with hookflow_settings(alias):
            messages()
            yield
            messages()

    def test_a_run_that_cancels_itself_in_an_atomic_step_is_cancelled(self, alias, client):
        """The cancel raises the epoch in the transaction that the fence then rolls back.

        The delivery answers 200 "fenced" with the run still running: for ever, once per lease.
        """
        run_id = cancels_itself.trigger(alias)
        drain(client)
        assert row(run_id, alias).status in ("cancelled", "failed")

    def test_a_step_that_leaves_autocommit_off_is_not_taken_for_recorded(self, alias, client):
        """The journal's transactions join it and never commit; the delivery says done."""
        run_id = leaves_autocommit_off.trigger(alias)
        [message] = messages()

        def deliver():
            try:
                statuses.append(post(client, message.body.encode()).status_code)
            finally:
                connections.close_all()

        statuses = []
        thread = threading.Thread(target=deliver)
        thread.start()
        thread.join()
        assert statuses != [200] or row(run_id, alias).status in ("completed", "failed")

    @pytest.mark.parametrize(
        "wrong",
        [
            {
                "DJANGO_HOOKFLOW_TRANSPORT": "django_hookflow.transports.qstash.QStashTransport",
                "QSTASH_URL": "not a url",
            },
            {"DJANGO_HOOKFLOW_MAX_DELAY": "long"},
            {"DJANGO_HOOKFLOW_TRANSPORT": "no.such.Transport"},
        ],
    )
    @pytest.mark.parametrize("colour", ["trigger", "atrigger"])
    def test_a_wrong_setting_raises_before_anything_is_written(self, alias, wrong, colour):
        """Contract, section 3. trigger() is silent, atrigger() raises after it has written."""
        start = one_step.trigger if colour == "trigger" else async_to_sync(one_step.atrigger)
        with override_settings(**wrong), pytest.raises(ConfigurationError):
            start()
        model = apps.get_model("django_hookflow", "WorkflowRun")
        assert not model.objects.using(alias).exists()

    @pytest.mark.other_databases
    def test_a_durable_call_inside_another_aliass_atomic_is_refused(self, alias, client):
        """Contract, section 2, names no alias: the other transaction stays open meanwhile."""
        other = next((name for name in connections if name != alias), None)
        if other is None:
            pytest.skip("one database only")
        run_id = durable_in_another_atomic.trigger(other)
        drain(client)
        run = row(run_id, alias)
        assert (run.status, run.steps.count()) == ("failed", 0)

    def test_delays_beyond_the_calendar_are_value_errors(self):
        """PostgreSQL says DataError, which breaks the caller's transaction."""
        with pytest.raises(ValueError):
            one_step.trigger(delay=timedelta.max)
