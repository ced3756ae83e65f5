"""What a workflow asks for, given the outcomes that were handed to it, in their order.

A unit is a letter: steps with an effect outside (A, C), atomic steps (B, D, F), a sleep (T),
waits for events of one name (E, G). A wait that timed out has the outcome ``x`` in E's place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

EXTERNAL = "AC"
ATOMIC = "BDF"
WORK = EXTERNAL + ATOMIC
SLEEP = "T"
EVENTS = "EG"
TIMEOUT = "x"


class Asked(NamedTuple):
    """What is outstanding: units to execute, a sleep, waits for events; or the end."""

    work: str
    sleep: bool
    events: str
    end: bool


@dataclass(frozen=True, kw_only=True)
class Program:
    """A workflow's function. ``body`` gives all units that it has asked for so far."""

    name: str
    body: Callable[[str], str]
    length: int
    events: int = 0
    timed: bool = False
    parallel: bool = False
    units: str

    @cached_property
    def work(self) -> str:
        """The units that have an effect, in a fixed order."""
        return "".join(unit for unit in self.units if unit in WORK)

    def __hash__(self) -> int:
        return hash(self.name)


@cache
def asked(program: Program, handed: str) -> Asked:
    done = handed.replace(TIMEOUT, "E")
    open_units = [unit for unit in program.body(done) if unit not in done]
    return Asked(
        work="".join(unit for unit in open_units if unit in WORK),
        sleep=SLEEP in open_units,
        events="".join(unit for unit in open_units if unit in EVENTS),
        end=not open_units,
    )


@cache
def fits(program: Program, journal: str) -> bool:
    """Whether a replay asks for each outcome before it has its turn."""
    done = journal.replace(TIMEOUT, "E")
    if len(set(done)) != len(done):
        return False
    return all(unit in program.body(done[:n]) for n, unit in enumerate(done))


def in_stages(*stages: str) -> Callable[[str], str]:
    """Units of a stage are asked for together, once all of the stage before were handed over."""

    def body(done: str) -> str:
        wanted = ""
        for stage in stages:
            wanted += stage
            if not set(stage) <= set(done):
                break
        return wanted

    return body


def first_decides(done: str) -> str:
    """Two at once; whichever is handed over first decides what comes next."""
    return "AC" + {"A": "D", "C": "F", "": ""}[done[:1]]


SEQUENCE = Program(
    name="sequence", units="ATEB", body=in_stages("A", "T", "E", "B"), length=4, events=1
)
#: A step beside a wait for an event and a sleep.
BESIDE = Program(
    name="beside", units="AETB", body=in_stages("AET", "B"), length=4, events=1, parallel=True
)
#: Two steps at once, and what is handed over first decides.
RACE = Program(name="race", units="ACDF", body=first_decides, length=3, parallel=True)
#: Two events of one name, two waits, one after the other.
MAILBOX = Program(name="mailbox", units="EGB", body=in_stages("E", "G", "B"), length=3, events=2)
#: A wait with a timeout.
TIMED = Program(name="timed", units="EB", body=in_stages("E", "B"), length=2, events=1, timed=True)
#: The same, and nobody sends anything.
SILENT = Program(name="silent", units="EB", body=in_stages("E", "B"), length=2, timed=True)
#: A step, an atomic step and a wait at once.
PAIR = Program(name="pair", units="ABE", body=in_stages("ABE"), length=3, events=1, parallel=True)
