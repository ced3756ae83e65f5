"""What is explored: by default each program with any one fault, longer with two handlers always."""

from dataclasses import replace

from tests.faults.model.programs import BESIDE, MAILBOX, PAIR, RACE, SEQUENCE, SILENT, TIMED
from tests.faults.model.state import DELIVERY_FAULTS, World

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

LONGER = tuple(replace(world, handlers=2) for world in WORLDS)
