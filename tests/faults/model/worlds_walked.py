"""What is walked through over the journals: more worlds than are explored, and busier ones."""

from collections.abc import Iterator
from dataclasses import replace

from tests.faults.model.programs import (
    BESIDE,
    FAILS,
    FAILS_ASLEEP,
    FAILS_BESIDE,
    ONE,
    PARENT,
    PARENT_UNDONE,
    RETRIED,
    SEQUENCE,
    STEPS,
    UNDONE_FOREVER,
    Program,
    in_stages,
)
from tests.faults.model.state import CANCEL, PAUSE, RETRY, World
from tests.faults.model.walks import Walk, random_walks
from tests.faults.model.worlds import FAMILIES, VOCABULARY

SEED = 7
#: Through each world.
WALKS = 100


def walks_of(world: World) -> Iterator[Walk]:
    return random_walks(world, seed=SEED, count=WALKS)


def _busier(world: World) -> World:
    """Three faults and two handlers, of the child too: random walks meet what is seldom."""
    child = None if world.child is None else _busier(world.child)
    return replace(world, faults=3, handlers=2, child=child)


#: Beyond the worlds that are explored: the laws are not asked here, so anything may meet.
UNDONE_WAITING = Program(
    name="undone waiting",
    units="AEB",
    body=in_stages("A", "E", "B"),
    length=3,
    events=1,
    timed=True,
    undos="A",
)
MORE_CONTROLS = (
    World(name="all of fails asleep", program=FAILS_ASLEEP, users=PAUSE + CANCEL + RETRY),
    World(name="all of sequence", program=SEQUENCE, users=PAUSE + CANCEL, joined=False),
    World(name="all of beside", program=BESIDE, users=PAUSE + CANCEL, joined=False),
    World(name="all of undone waiting", program=UNDONE_WAITING, users=PAUSE + CANCEL, joined=False),
    World(name="all of failing", program=FAILS_BESIDE, users=PAUSE + CANCEL + RETRY),
    World(name="all of retried", program=RETRIED, users=PAUSE + CANCEL + RETRY),
)


def _family(name: str, program: Program, child: Program, users: str, users_of_child: str) -> World:
    below = World(name=f"{name}'s child", program=child, users=users_of_child)
    return World(name=name, program=program, child=below, users=users, rest=True)


MORE_FAMILIES = (
    _family("undone parent of one", PARENT_UNDONE, ONE, CANCEL, ""),
    _family("undone parent of undone", PARENT_UNDONE, UNDONE_FOREVER, CANCEL, ""),
    _family("parent of failing", PARENT, FAILS, PAUSE, CANCEL),
    _family("parent of paused", PARENT, STEPS, PAUSE + CANCEL, PAUSE + CANCEL),
    _family("parent of retried", PARENT, RETRIED, PAUSE, RETRY),
)
#: What users do to one run; and a parent with its child.
CONTROLS = tuple(_busier(world) for world in (*VOCABULARY, *MORE_CONTROLS))
RELATED = tuple(_busier(world) for world in (*FAMILIES, *MORE_FAMILIES))
