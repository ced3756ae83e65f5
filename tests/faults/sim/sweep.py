"""The crash sweep: a process dies at every crash point that a workflow passes, one after another.

Nothing here is left to chance: one process at a time, no lag, and the same program passes the
same points each time, so "die at the 17th" is a case, and "then at the 30th" another.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from tests.faults.sim.faults import Faults
from tests.faults.sim.programs import (
    Child,
    Children,
    Gather,
    Hiccup,
    Loop,
    Program,
    Race,
    Sleep,
    Step,
    WaitEvent,
)
from tests.faults.sim.stores import MemoryStore, Store
from tests.faults.sim.world import World


def step(id: str, how: str = "async", **more: object) -> Step:
    return Step(id, how=how, **more)  # type: ignore[arg-type]  # as its fields say


NEVER = {"fails": 9, "attempts": 1}
#: A failure whose next attempt is awaited in the delivery, and one that suspends the run.
SOON = {"fails": 1, "delay": 1.0}
LATE = {"fails": 2, "delay": 30.0}

THREE = (step("a"), step("b", "def"), step("c", "atomic"))
BRANCHES = ((step("a", seconds=1), step("b")), (step("c", "def"),), (Sleep("d", 20),))

_BOTH = {
    "sequence": THREE,
    "atomics": (step("a", "atomic"), step("b", "atomic"), step("c", "atomic")),
    "loop": (Loop(3, (step("a"), step("b", "atomic"))),),
    "sleep": (step("a"), Sleep("b", 30), step("c")),
    "long-sleep": (step("a"), Sleep("b", 8 * 86_400.0), step("c", "atomic")),
    "sleeps-in-a-loop": (Loop(3, (Sleep("a", 10), step("b"))),),
    "retry-in-place": (step("a", **SOON), step("b", "def", **SOON)),
    "late-retry": (step("a", **LATE), step("b")),
    "atomic-retry": (step("a", "atomic", **LATE), step("b", "atomic", **SOON)),
    "caught": (step("a", **NEVER), step("b"), step("c", "atomic", **NEVER), step("d")),
    "fails": (step("a"), step("b", "atomic"), step("c", catch=False, **NEVER)),
    "call": (step("a", "call"), step("b", "call", **SOON), step("c", "call", **LATE)),
    "all-kinds": (step("a", "call"), *THREE[1:], Sleep("d", 5), step("e", **LATE)),
}
_BRANCHED = {
    "parallel": (Gather(BRANCHES), step("e")),
    "parallel-atomics": (Gather(((step("a", "atomic"),), (step("b", "atomic"),))), step("c")),
    "parallel-retries": (
        Gather(
            ((step("a", **LATE),), (step("b", **SOON), step("c"))),
        ),
    ),
    "parallel-sleeps": (Gather(((Sleep("a", 30),), (Sleep("b", 10), step("c")))), step("d")),
    "race": (Race(((step("a", seconds=1),), (step("b", seconds=3),))), step("c", "atomic")),
    "race-with-a-sleep": (Race(((step("a", seconds=9),), (Sleep("b", 4),))), step("c")),
    "nested": (Gather(((Loop(2, (step("x"), Sleep("y", 8))),), (Gather(BRANCHES[:2]),))),),
}

#: Where somebody does something meanwhile, or something but a crash happens.
_TOLD = {
    "cancelled": (step("a"), Sleep("b", 30), step("c"), Sleep("d", 900), step("e")),
    "told": (step("a"), Sleep("b", 60), step("c")),
    "retried": (step("a"), step("b", "atomic"), step("c", catch=False, **NEVER)),
    "lost": (step("a"), Sleep("b", 30), step("c")),
    "hiccup": (step("a"), Hiccup("b"), step("c")),
    "used-up": (*THREE, step("d", "call"), Loop(2, (step("e"), step("f", "def")))),
}

CHILD = Program((step("a"), Sleep("b", 20)))
QUICK = Program((step("a", "def"),), is_async=False)
FAILING = Program((step("a", undo=0), step("b", catch=False, **NEVER)), is_async=False)
UNDONE = (step("a", undo=0), step("bb", "atomic", undo=1), step("c"))

#: Where a run waits for people or for other runs, or is undone; what people
#: do meanwhile is in ``SCRIPTS``.
_VOCABULARY = {
    "mail-early": (step("a"), Sleep("b", 60), WaitEvent("c", "x"), WaitEvent("d", "x")),
    "mail-late": (step("a"), WaitEvent("b", "x"), step("c", "atomic")),
    "mail-unseen": (WaitEvent("a", "x"), step("b")),
    "no-mail": (WaitEvent("a", "x", 15.0), step("b"), WaitEvent("c", "x", 0.0)),
    "child": (step("a"), Child("b", CHILD), step("c")),
    "child-fails": (Child("a", FAILING), step("c")),
    "compensated": (*UNDONE, step("d", catch=False, **NEVER)),
    "cancel-compensated": (*UNDONE, Sleep("d", 900), step("e")),
}
#: In one colour: what they ask for has been asked for in both.
_VOCABULARY_ONCE = {
    "map": (Children("a", QUICK, 2, 2), step("b")),
    "drop-compensated": (*UNDONE, Sleep("d", 900), step("e")),
    "cancel-child": (Child("a", Program((step("a", undo=0), Sleep("b", 900))), undo=0),),
    "paused": (step("a"), Sleep("b", 40), step("c"), Sleep("d", 30)),
    "mail-race": (Race(((WaitEvent("a", "x"),), (Sleep("b", 40),))), step("c")),
    "children": (Gather(((Child("a", CHILD),), (Child("b", QUICK),))), step("c")),
    "compensated-branches": (
        Gather(((step("a", undo=0), Sleep("b", 30)), (step("c", "call", undo=0),))),
        step("d", catch=False, **NEVER),
    ),
    "cancel-branches": (
        Gather(((step("a", undo=0, seconds=45),), (step("b", undo=1), Sleep("c", 90)))),
    ),
}
_TELLING = {
    "on-failure": Program((step("a", undo=0), step("b", catch=False, **NEVER)), on_failure=1),
    "retried-on-failure": Program(
        (step("a"), step("b", catch=False, **NEVER)), is_async=False, on_failure=0
    ),
    "too-late": Program((step("a", undo=0), WaitEvent("b", "y")), on_failure=0, timeout=100.0),
}

PROGRAMS: dict[str, Program] = {
    **{name: Program(ops) for name, ops in {**_VOCABULARY, **_VOCABULARY_ONCE}.items()},
    **{f"{name}-def": Program(ops, is_async=False) for name, ops in _VOCABULARY.items()},
    **_TELLING,
    **{name: Program(ops) for name, ops in {**_BOTH, **_BRANCHED}.items()},
    **{f"{name}-def": Program(ops, is_async=False) for name, ops in _BOTH.items()},
    **{f"{name}-def": Program(ops, is_async=False) for name, ops in _TOLD.items()},
    **{name: Program(ops) for name, ops in _TOLD.items()},
    "cancelled-parallel": Program((Gather(((Sleep("a", 90),), (Sleep("b", 30), step("c")))),)),
    "retried-parallel": Program(
        (Gather(((step("a"), step("b", catch=False, **NEVER)), (step("c", "atomic"),))),)
    ),
}
SCRIPTS = {
    "cancelled": ((60.0, "cancel"),),
    "told": ((30.0, "event"), (40.0, "event")),
    "retried": ((0.0, "retry"),),
    "retried-on-failure": ((0.0, "retry"),),
    "mail-early": ((21.0, "event"), (22.0, "event")),
    "mail-late": ((30.0, "event"), (31.0, "event")),
    "mail-unseen": ((30.0, "unseen"),),
    "mail-race": ((30.0, "event"),),
    "cancel-compensated": ((60.0, "cancel"),),
    "drop-compensated": ((60.0, "drop"),),
    "cancel-child": ((60.0, "cancel"),),
    "cancel-branches": ((40.0, "cancel"),),
    "paused": ((30.0, "pause"), (90.0, "resume")),
}


#: Longer than any of them takes, in virtual seconds.
FOREVER = 40_000_000.0


@dataclass(frozen=True)
class Case:
    """Die at these visits of crash points, in this order."""

    program: str
    crashes: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.program} " + " then ".join(map(str, self.crashes))


def world_of(case: Case, make_store: Callable[..., Store] = MemoryStore) -> World:
    """A calm world: what happens in it is the case's doing alone."""
    name = case.program.removesuffix("-def").removesuffix("-parallel")
    lost = (2,) if name == "lost" else ()
    return World(
        seed=0,
        rng=random.Random(0),
        faults=Faults(until=FOREVER, crashes=case.crashes, lost_messages=lost),
        programs=[PROGRAMS[case.program]],
        make_store=make_store,
        host_count=1,
        lease=timedelta(seconds=30),
        lagging=0.0,
        noise=False,
        giving_up=0.0,
        sweep_every=1800.0,
        script=SCRIPTS.get(name, ()),
        delivery_seconds=0.0 if name == "used-up" else 20.0,
    )


def points_of(case: Case, make_store: Callable[..., Store] = MemoryStore) -> list[str]:
    """The crash points that a program passes after the case's crashes, by number of visit."""
    world = world_of(case, make_store)
    world.simulate()
    return world.passed


def singles(program: str) -> list[Case]:
    """A case for every visit of every point."""
    points = points_of(Case(program))
    return [Case(program, (visit,)) for visit in range(1, len(points) + 1)]


def then(case: Case) -> list[Case]:
    """A case for every later visit: what comes after the first death is another sequence."""
    points = points_of(case)
    return [
        replace(case, crashes=(*case.crashes, visit))
        for visit in range(case.crashes[-1] + 1, len(points) + 1)
    ]
