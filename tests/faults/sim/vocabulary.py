"""Random programs, made to wait for events, to invoke others, and to be undone."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tests.faults.sim.programs import (
    Child,
    Children,
    Fatal,
    Gather,
    Loop,
    Op,
    Program,
    Race,
    Step,
    WaitEvent,
    expected,
    random_program,
)

#: Children have children, but not for ever.
MAX_DEPTH = 2


def enriched(program: Program, rng: random.Random, *, depth: int = 0) -> Program:
    """The same program with more in it; only those that nobody invoked wait for people."""
    names = (f"v{n}" for n in range(1000))
    return replace(
        program,
        ops=_enriched(program.ops, rng, names, depth),
        on_failure=rng.choice((None, None, 0, 1)),
        timeout=rng.choice((None, None, None, 5.0, 100.0, 5000.0)) if depth == 0 else None,
    )


def _enriched(
    ops: tuple[Op, ...], rng: random.Random, names: Iterator[str], depth: int
) -> tuple[Op, ...]:
    made: list[Op] = []
    for op in ops:
        if rng.random() < 0.25:
            made.append(_new(rng, names, depth))
        made.append(_more(op, rng, names, depth))
    return tuple(made)


def _more(op: Op, rng: random.Random, names: Iterator[str], depth: int) -> Op:
    if isinstance(op, Step) and rng.random() < 0.4:
        return replace(op, undo=rng.choice((0, 0, 1, 2)))
    if isinstance(op, Loop):
        return replace(op, body=_enriched(op.body, rng, names, MAX_DEPTH))
    if isinstance(op, (Gather, Race)):
        branches = tuple(_enriched(branch, rng, names, depth) for branch in op.branches)
        if isinstance(op, Race):  # whose winner nobody knows, nor whether it fails
            branches = tuple(tuple(map(_caught, branch)) for branch in branches)
        return replace(op, branches=branches)
    return op


def _caught(op: Op) -> Op:
    if isinstance(op, Child):
        return replace(op, catch=True)
    if isinstance(op, (Gather, Race)):
        return replace(op, branches=tuple(tuple(map(_caught, arm)) for arm in op.branches))
    return op


def _new(rng: random.Random, names: Iterator[str], depth: int) -> Op:
    """Within a loop an event only, and within a child never: nobody sends it any."""
    if depth == 0 and rng.random() < 0.5:
        timeout = rng.choice((None, None, 1.0, 30.0, 600.0))
        return WaitEvent(next(names), rng.choice(("m", "n")), timeout)
    if depth >= MAX_DEPTH:
        return Step(next(names), undo=0)
    program = enriched(random_program(rng), rng, depth=depth + 1)
    if rng.random() < 0.3 and _is_well(program):
        return Children(next(names), program, rng.randint(0, 4), rng.randint(1, 3))
    undo = rng.choice((None, None, 0, 1))
    return Child(next(names), program, catch=rng.random() < 0.7, undo=undo)


def _is_well(program: Program) -> bool:
    try:
        expected(program, healed=False)
    except Fatal:
        return False
    return True


def awaited(ops: tuple[Op, ...], times: int = 1) -> Counter[str]:
    """How many events of each name it waits for at most."""
    total: Counter[str] = Counter()
    for op in ops:
        if isinstance(op, WaitEvent):
            total[op.name] += times
        elif isinstance(op, Loop):
            total += awaited(op.body, times * op.times)
        elif isinstance(op, (Gather, Race)):
            for branch in op.branches:
                total += awaited(branch, times)
    return total
