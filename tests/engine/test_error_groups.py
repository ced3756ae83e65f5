"""What a TaskGroup raises is judged, and told, as what its members are."""

import asyncio
import builtins
import sys
from typing import Any

import pytest

from django_hookflow import TerminalError
from django_hookflow.exceptions import StepFailed

if sys.version_info < (3, 11):
    pytest.skip("there are no exception groups before Python 3.11", allow_module_level=True)

ExceptionGroup: Any = builtins.ExceptionGroup  # type: ignore[attr-defined]  # 3.10 is checked


class Declined(TerminalError):
    pass


async def fails(*errors):
    async def one(error):
        await asyncio.sleep(0)
        raise error

    async with asyncio.TaskGroup() as group:
        for error in errors:
            group.create_task(one(error))


def test_a_step_s_group_of_one_is_told_as_that_one(world):
    attempts = []

    async def step():
        attempts.append(1)
        await fails(Declined("stolen"))

    async def body(ctx):
        try:
            await ctx.step.run("charge", step)
        except StepFailed as error:
            groups = error.is_a(ExceptionGroup)
            return [error.message, error.is_a(Declined), groups, error.error_type]

    row = world.run(body)
    assert row.result == ["stolen", True, True, f"{__name__}.Declined"]
    assert not world.usual or attempts == [1]


def test_a_step_s_group_of_two_names_both(world):
    async def body(ctx):
        once = ctx.step.options(retry=world.once)
        try:
            await once.run("charge", fails, ValueError("no"), KeyError("k"))
        except StepFailed as error:
            return [error.message, error.is_a(ValueError), error.is_a(KeyError), error.error_type]

    message, *told = world.run(body).result
    assert told == [True, True, "ExceptionGroup"]
    assert "ValueError: no" in message
    assert "KeyError: 'k'" in message


def test_a_run_that_a_group_ends_names_the_step(world):
    async def body(ctx):
        once = ctx.step.options(retry=world.once)
        async with asyncio.TaskGroup() as group:
            group.create_task(once.run("charge", fails, ValueError("no")))

    error = world.run(body).error
    assert (error.type, error.message, error.step) == ("ValueError", "no", "charge")
