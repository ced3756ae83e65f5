"""Workflows that autodiscovery finds; server processes of end-to-end tests run them.

The ledger is a file outside of every database: one line per executed body.
"""

import asyncio
import os
import signal
import time
from pathlib import Path

from django_hookflow import current_step, workflow
from tests.app.models import Effect


def ledger(note=""):
    """Write down that the current step's body runs, in one append that cannot be torn."""
    info = current_step()
    line = f"{info.run_id} {info.step_id}#{info.occurrence} {info.attempt} {note}\n"
    descriptor = os.open(os.environ["HOOKFLOW_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def marker(name):
    """A file that is made once, with the process's number: whether this call made it."""
    path = Path(os.environ["HOOKFLOW_LEDGER"] + "." + name)
    try:
        with path.open("x") as made:
            made.write(str(os.getpid()))
    except FileExistsError:
        return False
    return True


def work(seconds=0.01):
    ledger()
    time.sleep(seconds)


async def awork(seconds=0.01):
    ledger()
    await asyncio.sleep(seconds)


@workflow(workflow_id="e2e.sync")
def steps_sync(ctx):
    for n in range(ctx.data["steps"]):
        ctx.step.run(f"step-{n}", work, ctx.data.get("seconds", 0.01))
    for _ in range(ctx.data.get("sleeps", 0)):
        ctx.step.sleep("nap", 0.1)
    return "done"


@workflow(workflow_id="e2e.async")
async def steps_async(ctx):
    for n in range(ctx.data["steps"]):
        await ctx.step.run(f"step-{n}", awork, ctx.data.get("seconds", 0.01))
    for _ in range(ctx.data.get("sleeps", 0)):
        await ctx.step.sleep("nap", 0.1)
    return "done"


def die_once():
    """The effect happens; the process dies before it can be recorded."""
    ledger()
    if marker("died"):
        os.kill(os.getpid(), signal.SIGKILL)


async def adie_once():
    die_once()


@workflow(workflow_id="e2e.die.sync")
def dies_sync(ctx):
    ctx.step.run("before", work)
    ctx.step.run("deadly", die_once)
    ctx.step.run("after", work)
    return "survived"


@workflow(workflow_id="e2e.die.async")
async def dies_async(ctx):
    await ctx.step.run("before", awork)
    await ctx.step.run("deadly", adie_once)
    await ctx.step.run("after", awork)
    return "survived"


def stop_once():
    """This process is stopped past its lease; then it goes on and tries to record."""
    ledger(str(os.getpid()))
    if marker("stopped"):
        os.kill(os.getpid(), signal.SIGSTOP)
    return os.getpid()


async def astop_once():
    return stop_once()


@workflow(workflow_id="e2e.stop.sync")
def stops_sync(ctx):
    return ctx.step.run("stall", stop_once)


@workflow(workflow_id="e2e.stop.async")
async def stops_async(ctx):
    return await ctx.step.run("stall", astop_once)


def book(alias):
    ledger()
    info = current_step()
    Effect.objects.using(alias).create(run_id=info.run_id, step=info.step_id)


@workflow(workflow_id="e2e.atomic.sync")
def atomic_sync(ctx):
    for n in range(2):
        ctx.step.atomic(f"book-{n}", book, ctx.data["alias"])
    return "booked"


@workflow(workflow_id="e2e.atomic.async")
async def atomic_async(ctx):
    for n in range(2):
        await ctx.step.atomic(f"book-{n}", book, ctx.data["alias"])
    return "booked"


@workflow(workflow_id="e2e.long.sync")
def long_sync(ctx):
    ctx.step.run("long", work, ctx.data["seconds"])
    return "done"


@workflow(workflow_id="e2e.long.async")
async def long_async(ctx):
    await ctx.step.run("long", work, ctx.data["seconds"])
    return "done"


def read_rows(alias):
    """A ``def`` step that reads, and then takes a while for something else."""
    ledger()
    count = Effect.objects.using(alias).filter(run_id=current_step().run_id).count()
    time.sleep(0.05)
    return count


@workflow(workflow_id="e2e.connections")
async def uses_connections(ctx):
    alias = ctx.data["alias"]
    await ctx.step.run("wait", awork, 0.3)
    await ctx.step.run("read", read_rows, alias)
    await asyncio.gather(
        ctx.step.run("left", read_rows, alias),
        ctx.step.run("right", read_rows, alias),
        ctx.step.run("beside", awork, 0.3),
    )
    await ctx.step.atomic("book", book, alias)
    await ctx.step.sleep("nap", 0.1)
    await ctx.step.run("after", awork, 0.05)
    return "done"


@workflow(workflow_id="e2e.connections.sync")
def uses_connections_sync(ctx):
    alias = ctx.data["alias"]
    ctx.step.run("wait", work, 0.1)
    ctx.step.run("read", read_rows, alias)
    ctx.step.atomic("book", book, alias)
    ctx.step.sleep("nap", 0.1)
    ctx.step.run("after", awork, 0.05)
    return "done"


@workflow(workflow_id="e2e.toolong.sync")
def too_long_sync(ctx):
    ctx.step.run("before", work)
    ctx.step.run("endless", work, 600)


@workflow(workflow_id="e2e.toolong.async")
async def too_long_async(ctx):
    await ctx.step.run("before", awork)
    await ctx.step.run("endless", awork, 600)


@workflow(workflow_id="e2e.everything.sync")
def everything_sync(ctx):
    """What keeps something open: a call, a step with a timeout, steps side by side, a wait."""
    ctx.step.call("ask", ctx.data["url"], raise_for_status=False)
    ctx.step.options(timeout=5).run("bounded", work)
    ctx.step.run("async", awork)
    ctx.step.sleep("nap", 0.1)
    ctx.step.run("last", work)
    return "done"


@workflow(workflow_id="e2e.everything.async")
async def everything_async(ctx):
    await ctx.step.call("ask", ctx.data["url"], raise_for_status=False)
    await asyncio.gather(ctx.step.run("bounded", work), ctx.step.run("beside", work))
    await ctx.step.run("async", awork)
    await ctx.step.sleep("nap", 0.1)
    await ctx.step.run("last", work)
    return "done"
