"""What is explored: by default each program with any one fault, longer with two handlers always."""

from dataclasses import replace

from tests.faults.model.programs import (
    ABANDONS,
    ASLEEP,
    BESIDE,
    FAILS,
    FAILS_ASLEEP,
    FAILS_BESIDE,
    FOREVER,
    MAILBOX,
    ONE,
    PAIR,
    PARENT,
    PARENT_UNDONE,
    RACE,
    RETRIED,
    SEQUENCE,
    SILENT,
    STEPS,
    TIMED,
    UNDONE,
    UNDONE_FOREVER,
    UNDONE_PAIR,
    Program,
)
from tests.faults.model.state import CANCEL, DELIVERY_FAULTS, END, PAUSE, RETRY, World

#: What takes long with two handlers at once has one by default: no two deliveries overlap there.
WORLDS = (
    World(name="sequence", program=SEQUENCE),
    World(name="beside", program=BESIDE, handlers=1),
    World(name="pair", program=PAIR),
    World(name="race", program=RACE),
    World(name="timed", program=TIMED),
    World(name="silent", program=SILENT),
    World(name="mailbox", program=MAILBOX, handlers=1),
    World(name="notes", program=TIMED, notes_late=True, handlers=1),
    # Without a sweeper, what can go wrong while a message is being delivered heals by itself.
    World(name="unswept", program=SEQUENCE, sweeper=False, kinds=DELIVERY_FAULTS),
    World(name="unswept pair", program=PAIR, sweeper=False, kinds=DELIVERY_FAULTS),
)


def _unswept(name: str, program: Program, users: str) -> World:
    return World(name=name, program=program, users=users, sweeper=False, kinds=DELIVERY_FAULTS)


#: What befalls a holder of the run.
HOLDERS = frozenset({"crash", "stop"})

#: What users do from outside, each once, at any moment.
VOCABULARY = (
    World(name="paused steps", program=STEPS, users=PAUSE),
    World(name="paused asleep", program=ASLEEP, users=PAUSE, handlers=1),
    World(
        name="paused waiting", program=TIMED, users=PAUSE, joined=False, kinds=HOLDERS, handlers=1
    ),
    World(name="cancelled", program=UNDONE, users=CANCEL),
    World(name="cancelled pair", program=UNDONE_PAIR, users=CANCEL),
    World(name="cancelled paused", program=UNDONE, users=CANCEL + PAUSE, handlers=1),
    World(name="ended", program=UNDONE, users=END),
    World(name="failed", program=FAILS),
    World(name="failed beside", program=FAILS_BESIDE, handlers=1, users=CANCEL),
    World(name="failed asleep", program=FAILS_ASLEEP, handlers=1, kinds=HOLDERS, users=RETRY),
    World(name="failed paused", program=FAILS_BESIDE, handlers=1, users=PAUSE),
    World(name="retried", program=RETRIED, users=RETRY),
    World(name="retried paused", program=RETRIED, users=RETRY + PAUSE, handlers=1),
    _unswept("unswept paused", STEPS, PAUSE),
    _unswept("unswept cancelled", UNDONE, CANCEL),
    _unswept("unswept retried", RETRIED, RETRY),
)

#: A child that ends by itself, one that only a cancel can end, one that somebody cancels.
CHILD = World(name="child", program=ONE, handlers=1)
ENDLESS = World(name="endless child", program=FOREVER, handlers=1)
CANCELLED = World(name="cancelled child", program=FOREVER, handlers=1, users=CANCEL)

FAMILIES = (
    World(name="parent", program=PARENT, child=CHILD, handlers=1),
    World(name="parent of cancelled", program=PARENT, child=CANCELLED, handlers=1),
    World(
        name="cancelled parent",
        program=PARENT,
        child=ENDLESS,
        handlers=1,
        users=CANCEL,
        rest=True,
    ),
    World(
        name="undone parent",
        program=PARENT_UNDONE,
        child=ENDLESS,
        handlers=1,
        users=CANCEL,
        rest=True,
    ),
    World(
        name="parent of undone",
        program=PARENT,
        child=World(name="undone child", program=UNDONE_FOREVER, handlers=1),
        handlers=1,
        users=CANCEL,
        rest=True,
    ),
    World(name="abandoned child", program=ABANDONS, child=ENDLESS, handlers=1),
    World(
        name="unswept parent",
        program=PARENT,
        child=CHILD,
        sweeper=False,
        kinds=DELIVERY_FAULTS,
    ),
    World(
        name="paused parent", program=PARENT, child=CHILD, handlers=1, users=PAUSE, kinds=HOLDERS
    ),
)

LONGER = tuple(replace(world, handlers=2) for world in WORLDS)
