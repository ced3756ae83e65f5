"""The workflows of chaos runs: each interprets the plan that it is started with.

Every body tells the ledger its start, its effect and its end, with a note that is different in
every execution; the note is the step's result, so that the journal says which execution counted.
"""

import asyncio
import os
import time

from django_hookflow import RetryPolicy, StepFailed, workflow
from django_hookflow.conf import options
from tests.app.models import Effect
from tests.chaos import plants
from tests.chaos.ledger import Body
from tests.chaos.shapes import CAUGHT

TWICE = RetryPolicy(max_attempts=2, initial_delay=0.1, jitter=False)


class Flaky(Exception):
    """Raised by the attempts that are to fail."""


class Refused(Exception):
    """Raised by every attempt."""


def work(ms, fail=0):
    body = Body()
    time.sleep(ms / 1000)
    if body.attempt <= fail:
        raise Flaky(f"attempt {body.attempt}")
    body.tell("effect")
    time.sleep(ms / 2000)  # a kill between the effect and its record is to be likely
    body.tell("end")
    return body.note


async def awork(ms, fail=0):
    body = Body()
    await asyncio.sleep(ms / 1000)
    if body.attempt <= fail:
        raise Flaky(f"attempt {body.attempt}")
    body.tell("effect")
    await asyncio.sleep(ms / 2000)
    body.tell("end")
    return body.note


def refuse():
    Body()
    raise Refused("never")


def book(ms):
    """An atomic body: its effect is a row, which nothing keeps from being there twice."""
    body = Body()
    row = Effect(run_id=body.run, step=body.key, note=body.note)
    row.save(using=options.database)
    time.sleep(ms / 1000)
    body.tell("end")
    return body.note


def request(run_id, stage):
    """The arguments of a call to the ledger."""
    asked = {"run": run_id, "key": f"{stage['id']}#1", "ms": stage["ms"], "fail": stage["fail"]}
    # Whoever sends it is named, although it differs in each replay: the checker has to know
    # which process to look at. The arguments of a step id that does not repeat may differ.
    headers = {"X-Process": str(os.getpid())}
    return (os.environ["HOOKFLOW_CHAOS_CALLS"], "POST", asked, headers)


def policy(stage):
    return RetryPolicy(
        max_attempts=stage["fail"] + 1, initial_delay=stage["delay"], backoff=1, jitter=False
    )


@workflow(workflow_id="chaos.sync")
def chaos_sync(ctx):
    plants.outside(ctx)
    got = {}
    for stage in ctx.data["plan"]:
        kind, name, ms = stage["kind"], stage["id"], stage.get("ms")
        if kind == "run":
            got[f"{name}#1"] = ctx.step.run(name, work, ms)
        elif kind == "loop":
            for n in range(stage["times"]):
                got[f"{name}#{n + 1}"] = ctx.step.run(name, work, ms)
        elif kind == "sleep":
            ctx.step.sleep(name, stage["seconds"])
        elif kind == "atomic":
            got[f"{name}#1"] = ctx.step.atomic(name, book, ms)
        elif kind == "retry":
            patient = ctx.step.options(retry=policy(stage))
            got[f"{name}#1"] = patient.run(name, work, ms, stage["fail"])
        elif kind == "call":
            got[f"{name}#1"] = ctx.step.call(name, *request(ctx.run_id, stage)).data["note"]
        elif kind == "caught":
            try:
                ctx.step.options(retry=TWICE).run(name, refuse)
            except StepFailed as error:
                got[f"{name}#1"] = CAUGHT if error.is_a(Refused) else repr(error)
    return got


@workflow(workflow_id="chaos.async")
async def chaos_async(ctx):
    plants.outside(ctx)
    got = {}
    for stage in ctx.data["plan"]:
        kind, name, ms = stage["kind"], stage["id"], stage.get("ms")
        if kind == "run":
            got[f"{name}#1"] = await ctx.step.run(name, awork, ms)
        elif kind == "loop":
            for n in range(stage["times"]):
                got[f"{name}#{n + 1}"] = await ctx.step.run(name, awork, ms)
        elif kind == "gather":
            names = [f"{name}-{n}" for n in range(stage["width"])]
            # Of both colours, side by side.
            bodies = [awork if n % 2 else work for n in range(stage["width"])]
            steps = (ctx.step.run(each, fn, ms) for each, fn in zip(names, bodies, strict=True))
            notes = await asyncio.gather(*steps)
            got |= {f"{each}#1": note for each, note in zip(names, notes, strict=True)}
        elif kind == "sleep":
            await ctx.step.sleep(name, stage["seconds"])
        elif kind == "atomic":
            got[f"{name}#1"] = await ctx.step.atomic(name, book, ms)
        elif kind == "retry":
            patient = ctx.step.options(retry=policy(stage))
            got[f"{name}#1"] = await patient.run(name, awork, ms, stage["fail"])
        elif kind == "call":
            answer = await ctx.step.call(name, *request(ctx.run_id, stage))
            got[f"{name}#1"] = answer.data["note"]
        elif kind == "caught":
            try:
                await ctx.step.options(retry=TWICE).run(name, refuse)
            except StepFailed as error:
                got[f"{name}#1"] = CAUGHT if error.is_a(Refused) else repr(error)
    return got
