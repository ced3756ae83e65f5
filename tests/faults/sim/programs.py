"""Workflows as data: what a body asks for, what must come of it, and random ones.

A :class:`Step` fails its first ``fails`` attempts. One that uses up its attempts is caught by
the body (``catch``) or ends the run; the latter succeeds once the world is ``healed``, which is
what somebody does before they retry a failed run. A :class:`Child` is a program of its own.

Longer than other modules because what an op is stands beside what it does and comes to.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Union

from django_hookflow.core.retry import RetryPolicy
from django_hookflow.engine.place import current_step
from django_hookflow.exceptions import EventTimeout, StepFailed
from tests.faults.sim.ledger import Ledger, Violation
from tests.faults.sim.undos import on_failure, undo, undo_async

API = "http://api.example"


@dataclass(frozen=True)
class Step:
    id: str
    how: str = "async"  # async, def, atomic or call
    seconds: float = 0.0
    fails: int = 0
    attempts: int = 3
    delay: float = 1.0
    catch: bool = True
    #: ``None``, or how many attempts of its compensation fail.
    undo: int | None = None

    @property
    def gives_up(self) -> bool:
        return self.fails >= self.attempts


@dataclass(frozen=True)
class Sleep:
    id: str
    seconds: float


@dataclass(frozen=True)
class Loop:
    times: int
    body: tuple["Op", ...]


@dataclass(frozen=True)
class Gather:
    branches: tuple[tuple["Op", ...], ...]


@dataclass(frozen=True)
class Race:
    branches: tuple[tuple["Op", ...], ...]


@dataclass(frozen=True)
class Hiccup:
    """The body itself runs out of memory, once."""

    id: str


@dataclass(frozen=True)
class WaitEvent:
    """Its timeout is caught. Without one, somebody has to send enough."""

    id: str
    name: str
    timeout: float | None = None


@dataclass(frozen=True)
class Child:
    id: str
    program: "Program"
    catch: bool = True
    undo: int | None = None


@dataclass(frozen=True)
class Children:
    """A map over a workflow, whose runs do not fail."""

    id: str
    program: "Program"
    count: int
    concurrency: int
    catch: bool = True


Op = Union[Step, Sleep, Loop, Gather, Race, Hiccup, WaitEvent, Child, Children]


@dataclass(frozen=True)
class Program:
    """``is_async`` is the workflow's colour; a ``def`` body has no branches.

    ``on_failure`` is how many of its attempts fail, ``None`` without one; ``timeout`` is the
    workflow's, in seconds.
    """

    ops: tuple[Op, ...]
    is_async: bool = True
    on_failure: int | None = None
    timeout: float | None = None


class Unhealed(Exception):
    """The attempt fails, as the program says."""


# --- what a body does


class Bodies:
    """The workflow functions of a program, with the steps they run.

    It is also the workflow as the driver and a parent see it; ``children`` are those it invokes.
    """

    version = ""
    retry = None
    result_hint = Any

    def __init__(
        self,
        program: Program,
        ledger: Ledger,
        effects: Any,
        workflow_id: str,
        parent: Union["Bodies", None] = None,
    ) -> None:
        self.program = program
        self.ledger = ledger
        self.effects = effects
        self.workflow_id = workflow_id
        self.root: Bodies = self if parent is None else parent.root
        self.is_healed = False
        self.is_async = program.is_async
        self.timeout = None if program.timeout is None else timedelta(seconds=program.timeout)
        self.on_failure = None if program.on_failure is None else on_failure(program.on_failure)
        self.children = {
            op.id: Bodies(op.program, ledger, effects, f"{workflow_id}/{op.id}", self)
            for op in all_ops(program.ops)
            if isinstance(op, (Child, Children))
        }
        self._hiccups: set[str] = set()
        # A step is told which one it is by its id: text is quickly compared with what it was.
        self._steps = {op.id: op for op in all_ops(program.ops) if isinstance(op, Step)}

    @property
    def fn(self) -> Any:
        return self._async_body if self.program.is_async else self._def_body

    @property
    def healed(self) -> bool:
        """Whether what ended the run the first time is mended, of its children too."""
        return self.root.is_healed

    def everything(self) -> Iterator["Bodies"]:
        """It and all that it may invoke, and they."""
        yield self
        for child in self.children.values():
            yield from child.everything()

    async def _async_body(self, ctx: Any) -> Any:
        return await self._ops(ctx, self.program.ops)

    async def _ops(self, ctx: Any, ops: tuple[Op, ...]) -> list[Any]:
        return [await self._op(ctx, op) for op in ops]

    def _hiccup(self, op: Hiccup) -> None:
        if op.id not in self._hiccups:
            self._hiccups.add(op.id)
            raise MemoryError(op.id)

    async def _op(self, ctx: Any, op: Op) -> Any:
        if isinstance(op, Hiccup):
            return self._hiccup(op)
        if isinstance(op, Step):
            try:
                value = await self._request(ctx, op)
                return value.data if op.how == "call" else value
            except StepFailed as error:
                return self._caught(op, error)
        if isinstance(op, Sleep):
            return await ctx.step.sleep(op.id, op.seconds)
        if isinstance(op, Loop):
            return [await self._ops(ctx, op.body) for _ in range(op.times)]
        if isinstance(op, (WaitEvent, Child, Children)):
            try:
                return await self._elsewhere(ctx, op)
            except (EventTimeout, StepFailed) as error:
                return self._passed(op, error)
        branches = [asyncio.ensure_future(self._ops(ctx, ops)) for ops in op.branches]
        if isinstance(op, Gather):
            return list(await asyncio.gather(*branches))
        await asyncio.wait(branches, return_when=asyncio.FIRST_COMPLETED)
        first = next(n for n, branch in enumerate(branches) if branch.done())
        for branch in branches:
            branch.cancel()
        return [first, branches[first].result()]

    def _def_body(self, ctx: Any) -> Any:
        return self._def_ops(ctx, self.program.ops)

    def _def_ops(self, ctx: Any, ops: tuple[Op, ...]) -> list[Any]:
        return [self._def_op(ctx, op) for op in ops]

    def _def_op(self, ctx: Any, op: Op) -> Any:
        if isinstance(op, Hiccup):
            return self._hiccup(op)
        if isinstance(op, Step):
            try:
                value = self._request(ctx, op)
                return value.data if op.how == "call" else value
            except StepFailed as error:
                return self._caught(op, error)
        if isinstance(op, Sleep):
            return ctx.step.sleep(op.id, op.seconds)
        if isinstance(op, (WaitEvent, Child, Children)):
            try:
                return self._elsewhere(ctx, op)
            except (EventTimeout, StepFailed) as error:
                return self._passed(op, error)
        assert isinstance(op, Loop), "a def body has no branches"
        return [self._def_ops(ctx, op.body) for _ in range(op.times)]

    def _elsewhere(self, ctx: Any, op: Union[WaitEvent, Child, Children]) -> Any:
        """Ask for what others have to do."""
        if isinstance(op, WaitEvent):
            return ctx.step.wait_for_event(op.id, op.name, op.timeout)
        workflow = self.children[op.id]
        if isinstance(op, Children):
            return ctx.step.map(op.id, workflow, range(op.count), concurrency=op.concurrency)
        return _undone(ctx.step, op).invoke(op.id, workflow)

    def _passed(self, op: Union[WaitEvent, Child, Children], error: Exception) -> Any:
        if isinstance(op, WaitEvent):
            return f"{op.id} timed out"
        if not op.catch:
            raise error
        return f"caught {op.id}"

    def _request(self, ctx: Any, op: Step) -> Any:
        step = _undone(ctx.step.options(retry=_policy(op.attempts, op.delay)), op)
        if op.how == "call":
            return step.call(op.id, f"{API}/{op.fails}/{op.id}", method="POST")
        if op.how == "atomic":
            return step.atomic(op.id, self._atomic, op.id)
        return step.run(op.id, self._in_async if op.how == "async" else self._in_def, op.id)

    def _caught(self, op: Step, error: StepFailed) -> Any:
        if not op.catch:
            raise error
        return f"caught {error.step_id}"

    # --- what a step does

    async def _in_async(self, id: str) -> Any:
        await asyncio.sleep(self._steps[id].seconds)
        return self._in_def(id)

    def _in_def(self, id: str) -> Any:
        self.ledger.write(current_step())
        return self._outcome(id)

    def _atomic(self, id: str) -> Any:
        self.effects.write(current_step())
        return self._outcome(id)

    def _outcome(self, id: str) -> Any:
        op, info = self._steps[id], current_step()
        if info.attempt <= op.fails and not (self.healed and op.gives_up and not op.catch):
            raise Unhealed(op.id)
        return [info.step_id, info.occurrence]


def _undone(step: Any, op: Union[Step, Child]) -> Any:
    if op.undo is None:
        return step
    return step.options(compensate=(undo if len(op.id) % 2 else undo_async, op.undo))


def all_ops(ops: tuple[Op, ...]) -> Iterator[Op]:
    """Those in branches and loops too, but not what children do."""
    for op in ops:
        yield op
        if isinstance(op, Loop):
            yield from all_ops(op.body)
        elif isinstance(op, (Gather, Race)):
            for branch in op.branches:
                yield from all_ops(branch)


@cache
def _policy(attempts: int, delay: float) -> RetryPolicy:
    return RetryPolicy(max_attempts=attempts, initial_delay=delay, jitter=False)


# --- what must come of it


class Fatal(Exception):
    """The run fails at this step."""


def expected(program: Program, *, healed: bool) -> Any:
    """The result, where ``...`` stands for what a race decides; raises :class:`Fatal`."""
    return _expected(program.ops, Counter(), healed)


def _expected(ops: tuple[Op, ...], seen: Counter[str], healed: bool) -> list[Any]:
    return [_expect(op, seen, healed) for op in ops]


def _expect(op: Op, seen: Counter[str], healed: bool) -> Any:
    if isinstance(op, Step):
        seen[op.id] += 1
        if not op.gives_up or (healed and not op.catch):
            return [op.id, seen[op.id]]
        if not op.catch:
            raise Fatal(op.id)
        return f"caught {op.id}"
    if isinstance(op, (Sleep, Hiccup)):
        return None
    if isinstance(op, Loop):
        return [_expected(op.body, seen, healed) for _ in range(op.times)]
    if isinstance(op, (Race, WaitEvent)):
        return ...
    if isinstance(op, Children):
        return [expected(op.program, healed=healed)] * op.count
    if isinstance(op, Child):
        try:
            expected(op.program, healed=False)
        except Fatal:
            if not healed:
                if op.catch:
                    return f"caught {op.id}"
                raise Fatal(op.id) from None
            if op.catch:
                return ...  # it may have failed before the world was healed
        return expected(op.program, healed=healed)
    # Every branch is looked at: the one that fails may be any.
    return [_expected(branch, seen, healed) for branch in op.branches]


def fatal_steps(ops: tuple[Op, ...]) -> set[str]:
    """Where the run may fail: of several side by side, at any."""
    found = {op.id for op in all_ops(ops) if isinstance(op, Step) and op.gives_up and not op.catch}
    for op in all_ops(ops):
        if isinstance(op, Child) and not op.catch and fatal_steps(op.program.ops):
            found.add(op.id)
    return found


def check_result(want: Any, got: Any) -> None:
    """Compare, passing over what a race decided."""
    if want is ...:
        return
    if isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        for one, other in zip(want, got, strict=True):
            check_result(one, other)
    elif want != got:
        raise Violation(f"expected {want!r}, got {got!r}")


def patience(ops: tuple[Op, ...]) -> float:
    """Virtual seconds that the sleeps in it may take, one after the other."""
    total = 0.0
    for op in ops:
        if isinstance(op, Sleep):
            total += op.seconds
        elif isinstance(op, Loop):
            total += op.times * patience(op.body)
        elif isinstance(op, (Gather, Race)):
            total += sum(patience(branch) for branch in op.branches)
        elif isinstance(op, WaitEvent):
            total += op.timeout or 0
        elif isinstance(op, Child):
            total += patience(op.program.ops)
        elif isinstance(op, Children):
            total += op.count * patience(op.program.ops)
    return total


# --- random ones


def random_program(rng: random.Random) -> Program:
    is_async = rng.random() < 0.7
    names = (f"s{n}" for n in range(1000))
    ops = tuple(_random_op(rng, names, branches=is_async) for _ in range(rng.randint(1, 5)))
    if rng.random() < 0.2:
        ops += (Step(next(names), fails=9, attempts=rng.randint(1, 2), catch=False),)
    return Program(ops, is_async)


def _random_op(rng: random.Random, names: Iterator[str], *, branches: bool, depth: int = 0) -> Op:
    shapes = ["step"] * 6 + ["sleep"] * 2 + ["loop"] * (depth < 2)
    shapes += ["gather", "gather", "race"] * (branches and depth < 2)
    shape = rng.choice(shapes)
    if shape == "step":
        return _random_step(rng, next(names))
    if shape == "sleep":
        return Sleep(next(names), rng.choice((0, 1, 1.5, 3, 40, 90_000)))

    def inner() -> tuple[Op, ...]:
        count = rng.randint(1, 2)
        more = {"branches": branches, "depth": depth + 1}
        return tuple(_random_op(rng, names, **more) for _ in range(count))

    if shape == "loop":
        return Loop(rng.randint(2, 3), inner())
    arms = tuple(inner() for _ in range(rng.randint(2, 3)))
    return Gather(arms) if shape == "gather" else Race(arms)


def _random_step(rng: random.Random, name: str) -> Step:
    fails = rng.choice((0, 0, 0, 1, 2, 9))
    return Step(
        name,
        how=rng.choice(("async", "async", "def", "atomic", "call")),
        seconds=rng.choice((0, 0, 0.1, 2, 15)),
        fails=min(fails, 2) if fails else 0,
        attempts=rng.choice((2, 3)),
        delay=rng.choice((0.5, 4, 30)),
    )
