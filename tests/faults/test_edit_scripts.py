"""Code that changes under a running run: it goes on as recorded, or nothing is executed.

A program is a list of stages, each a step or several side by side. It runs up to its first sleep
or late retry, is edited at random, and goes on. The oracle: what is recorded has to be asked for
in the same order, with the same kind and callee, and with the same arguments where a step id
repeats.
"""

import asyncio
import os
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_hookflow.core.retry import RetryPolicy
from django_hookflow.core.transitions import Claimed
from django_hookflow.engine.publishing import find_work, publish_owed
from django_hookflow.journals.memory import MemoryJournal
from tests.engine.harness import World

LATE = RetryPolicy(initial_delay=60, jitter=False)


@dataclass(frozen=True)
class Op:
    """A sleep has no callee; ``argument`` is what a step's function is given and returns.

    ``fails`` tells that its first attempt does, with a retry that is a delivery of its own.
    """

    id: str
    callee: str = "one"
    argument: int = 0
    fails: bool = False

    @property
    def is_sleep(self) -> bool:
        return self.callee == "sleep"


Program = list[list[Op]]


def flat(program: Program) -> list[Op]:
    return [op for stage in program for op in stage]


class Shop:
    """The steps of a program, counted outside of the engine."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, int]] = []
        self.failed: set[str] = set()
        self.program: Program = []

    def one(self, id: str, argument: int, fails: bool) -> list[object]:
        if fails and id not in self.failed:
            self.failed.add(id)
            raise OSError("not now")
        self.ran.append((id, argument))
        return ["one", argument]

    def two(self, id: str, argument: int, fails: bool) -> list[object]:
        return ["two", self.one(id, argument, fails)[1]]

    def asked(self, step, op: Op):
        if op.is_sleep:
            return step.sleep(op.id, 60)
        fn = {"one": self.one, "two": self.two}[op.callee]
        return step.options(retry=LATE).run(op.id, fn, op.id, op.argument, op.fails)

    async def body(self, ctx):
        """The same workflow before and after a deploy: what it does is what ``program`` says."""
        results = []
        for stage in self.program:
            results += await asyncio.gather(*(self.asked(ctx.step, op) for op in stage))
        return results

    def plain_body(self, ctx):
        return [self.asked(ctx.step, op) for op in flat(self.program)]


def value(op: Op) -> list[object] | None:
    return None if op.is_sleep else [op.callee, op.argument]


@dataclass(frozen=True)
class Row:
    """A row of the journal as the oracle needs it; ``seq`` is None while it is pending."""

    op: Op
    seq: int | None


def fits(journal: dict[str, Row], edited: Program) -> bool:
    """Whether the edited program asks for all that is recorded, in its order.

    A second description of the rule, by stages: what is asked for together is known together.
    """
    queue = sorted((row.seq, key) for key, row in journal.items() if row.seq is not None)
    asked: dict[str, Op] = {}
    repeats, handed = Counter(row.op.id for row in journal.values()), set()
    seen: Counter[str] = Counter()
    for stage in edited:
        keys = []
        for op in stage:
            seen[op.id] += 1
            keys.append(f"{op.id}#{seen[op.id]}")
            asked[keys[-1]] = op
        for key, op in asked.items():
            old = journal[key].op if key in journal else op
            if old.callee != op.callee:
                return False
            if max(repeats[op.id], seen[op.id]) > 1 and old.argument != op.argument:
                return False
        while queue and queue[0][1] in asked:
            handed.add(queue.pop(0)[1])
        if not handed.issuperset(keys):
            return not queue
    return not queue


# --- programs and edits by chance

IDS = st.sampled_from("abcdefgh")
STEPS = st.builds(Op, IDS, st.sampled_from(["one", "two"]), st.integers(0, 3))


@st.composite
def programs(draw: st.DrawFn, branches: bool) -> Program:
    """Some stages with a sleep and late retries; an id that repeats is a loop over one callee."""
    callees: dict[str, str] = {}
    sizes = st.integers(1, 3 if branches else 1)
    program = [
        [
            replace(op, callee=callees.setdefault(op.id, op.callee))
            for op in draw(st.lists(STEPS, min_size=size, max_size=size))
        ]
        for size in draw(st.lists(sizes, min_size=1, max_size=5))
    ]
    late = draw(st.sets(IDS, max_size=2))
    program = [[replace(op, fails=op.id in late) for op in stage] for stage in program]
    nap = Op("nap", "sleep")
    if branches and draw(st.booleans()):
        draw(st.sampled_from(program)).append(nap)
    else:
        program.insert(draw(st.integers(0, len(program))), [nap])
    return program


KINDS = ["rename", "swap", "remove", "insert", "append", "callee", "argument"]


@st.composite
def edits(draw: st.DrawFn, program: Program) -> Program:
    """One to three edits; new ids are new, so that no edit makes an id of the program repeat."""
    edited, fresh = [list(stage) for stage in program], iter("uvwxyz")
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(KINDS))
        if kind == "append":
            edited.append([Op(next(fresh))])
            continue
        stage = draw(st.sampled_from(edited))
        at = draw(st.integers(0, max(0, len(stage) - 1)))
        if kind == "insert":
            stage.insert(at, Op(next(fresh), "two", 9))
        elif kind == "swap":  # items of a loop as well as steps
            other = draw(st.sampled_from(edited))
            if stage and other:
                stage[at], other[0] = other[0], stage[at]
        elif not stage or stage[at].is_sleep:
            continue
        elif kind == "rename":
            stage[at] = replace(stage[at], id=next(fresh))
        elif kind == "remove":
            del stage[at]
        elif kind == "callee":
            stage[at] = replace(stage[at], callee="two" if stage[at].callee == "one" else "one")
        elif kind == "argument":
            stage[at] = replace(stage[at], argument=stage[at].argument + 1)
    return edited


def is_told_late(journal: dict[str, Row], edited: Program) -> bool:
    """Whether the argument of a row differs, alone of its id, and the id repeats in the program.

    It is noticed at the repeat only, and what comes before that is executed.
    """
    first: dict[str, Op] = {}
    for op in flat(edited):
        first.setdefault(op.id, op)
    ids = Counter(op.id for op in flat(edited))
    return any(
        key == f"{row.op.id}#1"
        and ids[row.op.id] > 1
        and first[row.op.id].argument != row.op.argument
        for key, row in journal.items()
    )


# --- the test


def wake(world: World) -> None:
    """Let the sweeper find it, as it finds a blocked run after a while."""
    world.clock.skip(timedelta(hours=2).total_seconds())
    publish_owed(
        world.journal, world.transport, find_work(world.journal), max_delay=timedelta(days=7)
    )
    asyncio.run(world.deliver_next())


def finish(world: World, run: object) -> None:
    for _ in range(12):
        if world.row(run).status == "completed" or world.row(run).blocked:
            return
        wake(world)


def recorded(world: World, program: Program) -> dict[str, Row]:
    seen: Counter[str] = Counter()
    ops: dict[str, Op] = {}
    for op in flat(program):
        seen[op.id] += 1
        ops[f"{op.id}#{seen[op.id]}"] = op
    entries = world.steps()
    fires = len(entries)  # the sleep will, by the very claim that meets the edited program
    return {
        entry.key: Row(ops[entry.key], fires if ops[entry.key].is_sleep else entry.seq)
        for entry in entries
    }


def as_recorded(journal: dict[str, Row], edited: Program) -> list[Op]:
    """What an edited program comes to: what has an outcome stays as it was."""
    seen: Counter[str] = Counter()
    done = []
    for op in flat(edited):
        seen[op.id] += 1
        row = journal.get(f"{op.id}#{seen[op.id]}")
        done.append(op if row is None or row.seq is None else row.op)
    return done


def check(
    program: Program, edited: Program, world: World | None = None, *, plain: bool = False
) -> None:
    world, shop = world or World(), Shop()
    shop.program = program
    run = world.trigger(shop.plain_body if plain else shop.body)
    asyncio.run(world.deliver_next())
    journal, before = recorded(world, program), list(shop.ran)
    ended = [row.op for row in journal.values() if row.seq is not None and not row.op.is_sleep]
    assert sorted(before) == sorted((op.id, op.argument) for op in ended)

    shop.program = edited
    wake(world)
    finish(world, run)
    row = world.row(run)
    if is_told_late(journal, edited):
        assert row.status != "completed", "another item under this one's idempotency key"
        return
    if fits(journal, edited):
        assert (row.status, row.blocked) == ("completed", "")
        done = as_recorded(journal, edited)
        assert row.result == [value(op) for op in done]
        assert Counter(shop.ran) == Counter((op.id, op.argument) for op in done if not op.is_sleep)
        return
    assert row.status == "suspended"
    assert "expected" in row.blocked
    assert "got" in row.blocked
    assert shop.ran == before, "something was executed on a mismatch"

    shop.program = program  # the deploy is taken back: the run heals by itself
    wake(world)
    finish(world, run)
    row = world.row(run)
    assert (row.status, row.blocked) == ("completed", "")
    assert row.result == [value(op) for op in flat(program)]
    assert Counter(shop.ran) == Counter(
        (op.id, op.argument) for op in flat(program) if not op.is_sleep
    )


def test_an_argument_that_differs_is_told_at_the_repeat_before_that_is_executed() -> None:
    """What comes before the repeat fits, and is executed; the repeat is not."""
    world, shop = World(), Shop()
    shop.program = [[Op("a")], [Op("nap", "sleep")], [Op("b")], [Op("a")]]
    run = world.trigger(shop.body)
    asyncio.run(world.deliver_next())
    shop.program = [[Op("a", argument=1)], *shop.program[1:]]
    wake(world)
    assert "arguments" in world.row(run).blocked
    assert shop.ran == [("a", 0), ("b", 0)]


def test_items_swapped_under_a_pending_retry_do_not_pass_for_each_other() -> None:
    """The retry is asked for before anybody knows that its id repeats; the repeat is refused."""
    world, shop = World(), Shop()
    shop.program = [[Op("a", argument=1, fails=True)], [Op("a", argument=2)]]
    run = world.trigger(shop.body)
    asyncio.run(world.deliver_next())
    swapped = [[Op("a", argument=2)], [Op("a", argument=1)]]
    for program in (swapped, shop.program, swapped):
        shop.program = program
        wake(world)
        assert "different arguments under one idempotency key" in world.row(run).blocked
        assert shop.ran == [("a", 2)], "the item that may have been done already went out again"


def test_a_retry_may_come_with_a_corrected_argument() -> None:
    world, shop = World(), Shop()
    shop.program = [[Op("a", argument=1, fails=True)], [Op("b")]]
    run = world.trigger(shop.body)
    asyncio.run(world.deliver_next())
    shop.program = [[Op("a", argument=2)], [Op("b")]]
    wake(world)
    assert world.row(run).result == [["one", 2], ["one", 0]]


@pytest.mark.parametrize("plain", [False, True], ids=["async", "def"])
@settings(max_examples=200, deadline=None, derandomize=os.environ.get("CI") == "true")
@given(data=st.data())
def test_an_edited_program_goes_on_as_recorded_or_executes_nothing(
    data: st.DataObject, plain: bool
) -> None:
    program = data.draw(programs(branches=not plain))
    edited = data.draw(edits(program))
    if plain:
        edited = [[op] for op in flat(edited)]
    check(program, edited, plain=plain)


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
    program = [[Op("a")], [Op("nap", "sleep")], [Op("b")]]
    check(program, program)
    with pytest.raises(AssertionError):
        check(program, program, ForgetfulWorld())
