"""Code that changes under a running run: it goes on as recorded, or nothing is executed.

A program is a list of steps. It runs up to one of its sleeps, is edited at random, and goes on.
The oracle: what is recorded has to be asked for in the same order, with the same kind and callee,
and with the same arguments where a step id repeats.
"""

import asyncio
import os
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_hookflow.core.transitions import Claimed
from django_hookflow.engine.publishing import find_work, publish_owed
from django_hookflow.journals.memory import MemoryJournal
from tests.engine.harness import World


@dataclass(frozen=True)
class Op:
    """A sleep has no callee. ``argument`` is what a step's function is given and returns."""

    id: str
    callee: str = "one"
    argument: int = 0

    @property
    def is_sleep(self) -> bool:
        return self.callee == "sleep"


class Shop:
    """The steps of a program, counted outside of the engine."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, int]] = []
        self.ops: list[Op] = []

    def one(self, id: str, argument: int) -> list[object]:
        self.ran.append((id, argument))
        return ["one", argument]

    def two(self, id: str, argument: int) -> list[object]:
        self.ran.append((id, argument))
        return ["two", argument]

    async def body(self, ctx):
        """The same workflow before and after a deploy: what it does is what ``ops`` says."""
        results = []
        for op in self.ops:
            if op.is_sleep:
                results.append(await ctx.step.sleep(op.id, 60))
            else:
                fn = {"one": self.one, "two": self.two}[op.callee]
                results.append(await ctx.step.run(op.id, fn, op.id, op.argument))
        return results


def value(op: Op) -> list[object] | None:
    return None if op.is_sleep else [op.callee, op.argument]


def fits(recorded: list[Op], edited: list[Op]) -> bool:
    """Whether the edited program asks for all that is recorded, in its order."""
    if len(edited) < len(recorded):
        return False
    start = edited[: len(recorded)]
    if [(op.id, op.callee) for op in start] != [(op.id, op.callee) for op in recorded]:
        return False
    repeats = Counter(op.id for op in recorded)
    return all(
        old.argument == new.argument
        for old, new in zip(recorded, start, strict=True)
        if repeats[old.id] > 1
    )


# --- programs and edits by chance

IDS = st.sampled_from("abcdefgh")
STEPS = st.builds(Op, IDS, st.sampled_from(["one", "two"]), st.integers(0, 3))


@st.composite
def programs(draw: st.DrawFn) -> list[Op]:
    """Some steps, a sleep, some more; an id that repeats is a loop over one callee."""
    callees: dict[str, str] = {}
    ops = [
        replace(op, callee=callees.setdefault(op.id, op.callee))
        for op in draw(st.lists(STEPS, min_size=1, max_size=7))
    ]
    ops.insert(draw(st.integers(0, len(ops))), Op("nap", "sleep"))
    return ops


KINDS = ["rename", "swap", "remove", "insert", "append", "callee", "argument"]


def is_told_late(op: Op, ops: list[Op]) -> bool:
    """Recorded once and repeated later: that its argument differs is noticed at the repeat only."""
    slept = next(n for n, each in enumerate(ops) if each.is_sleep)
    ids = [each.id for each in ops]
    return ids[:slept].count(op.id) == 1 < ids.count(op.id)


@st.composite
def edits(draw: st.DrawFn, ops: list[Op]) -> list[Op]:
    """One to three edits; new ids are new, so that no edit makes an id of the program repeat."""
    edited, fresh = list(ops), iter("uvwxyz")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(edited) - 1)))
        kind = draw(
            st.sampled_from(["rename", "swap", "remove", "insert", "append", "callee", "argument"])
        )
        if kind == "append":
            edited.append(Op(next(fresh), "one", 9))
        elif kind == "insert":
            edited.insert(at, Op(next(fresh), "two", 9))
        elif not edited or edited[at].is_sleep:
            continue
        elif kind == "rename":
            edited[at] = replace(edited[at], id=next(fresh))
        elif kind == "swap" and at + 1 < len(edited):
            edited[at], edited[at + 1] = edited[at + 1], edited[at]
        elif kind == "remove":
            del edited[at]
        elif kind == "callee":
            edited[at] = replace(edited[at], callee="two" if edited[at].callee == "one" else "one")
        elif kind == "argument" and not is_told_late(edited[at], ops):
            edited[at] = replace(edited[at], argument=edited[at].argument + 1)
    return edited


# --- the test


def wake(world: World) -> None:
    """Let the sweeper find it, as it finds a blocked run after a while."""
    world.clock.skip(timedelta(hours=2).total_seconds())
    publish_owed(
        world.journal, world.transport, find_work(world.journal), max_delay=timedelta(days=7)
    )
    asyncio.run(world.deliver_next())


def finish(world: World, run: object) -> None:
    for _ in range(4):
        if world.row(run).status == "completed" or world.row(run).blocked:
            return
        wake(world)


def check(ops: list[Op], edited: list[Op], world: World | None = None) -> None:
    world, shop = world or World(), Shop()
    shop.ops = ops
    run = world.trigger(shop.body)
    asyncio.run(world.deliver_next())
    slept = next(n for n, op in enumerate(ops) if op.is_sleep)
    recorded, before = ops[: slept + 1], list(shop.ran)
    assert before == [(op.id, op.argument) for op in ops[:slept]]

    shop.ops = edited
    wake(world)
    finish(world, run)
    row = world.row(run)
    if fits(recorded, edited):
        rest = edited[len(recorded) :]
        assert (row.status, row.blocked) == ("completed", "")
        assert row.result == [value(op) for op in [*recorded, *rest]]
        assert shop.ran == [*before, *((op.id, op.argument) for op in rest if not op.is_sleep)]
        return
    assert row.status == "suspended"
    assert "expected" in row.blocked
    assert "got" in row.blocked
    assert shop.ran == before, "something was executed on a mismatch"

    shop.ops = ops  # the deploy is taken back: the run heals by itself
    wake(world)
    finish(world, run)
    row = world.row(run)
    assert (row.status, row.blocked) == ("completed", "")
    assert row.result == [value(op) for op in ops]
    assert shop.ran == [(op.id, op.argument) for op in ops if not op.is_sleep]


def test_an_argument_that_differs_is_told_at_the_repeat_before_that_is_executed() -> None:
    """What comes before the repeat fits, and is executed; the repeat is not."""
    world, shop = World(), Shop()
    shop.ops = [Op("a"), Op("nap", "sleep"), Op("b"), Op("a")]
    run = world.trigger(shop.body)
    asyncio.run(world.deliver_next())
    shop.ops = [Op("a", argument=1), *shop.ops[1:]]
    wake(world)
    assert "arguments" in world.row(run).blocked
    assert shop.ran == [("a", 0), ("b", 0)]


@settings(max_examples=200, deadline=None, derandomize=os.environ.get("CI") == "true")
@given(st.data())
def test_an_edited_program_goes_on_as_recorded_or_executes_nothing(data: st.DataObject) -> None:
    ops = data.draw(programs())
    check(ops, data.draw(edits(ops)))


class Forgetful(MemoryJournal):
    """A claim does not read the first outcome."""

    def claim(self, transition):
        answer = super().claim(transition)
        return (
            replace(answer, entries=answer.entries[1:]) if isinstance(answer, Claimed) else answer
        )


class ForgetfulWorld(World):
    journal_class = Forgetful


def test_a_planted_bug_is_found() -> None:
    ops = [Op("a"), Op("nap", "sleep"), Op("b")]
    check(ops, ops)
    with pytest.raises(AssertionError):
        check(ops, ops, ForgetfulWorld())
