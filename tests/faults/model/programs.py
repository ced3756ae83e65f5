"""What a workflow asks for, given the outcomes that were handed to it, in their order.

A unit is a letter: steps with an effect outside (A, C), atomic steps (B, D, F), a sleep (T),
waits for events of one name (E, G). A wait that timed out has the outcome ``x`` in E's place.
A step that failed for good has the outcome ``!``, and ``-`` once that is superseded by a retry.
A child run (K) that failed or was cancelled has the outcome ``y``. The compensation of A is
``a``, a step like any other.
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
CHILD = "K"
CHILD_FAILED = "y"
FAILURE = "!"
SUPERSEDED = "-"
UNDO = {unit: unit.lower() for unit in WORK}
UNDOING = "".join(UNDO.values())


class Asked(NamedTuple):
    """What is outstanding: units to execute, a sleep, waits for events; or one of the two ends."""

    work: str
    sleep: bool
    events: str
    end: bool
    fails: bool = False
    child: bool = False


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
    undos: str = ""  # the units that have a compensation
    may_fail: str = ""  # the unit that may fail for good, until it is retried

    @cached_property
    def work(self) -> str:
        """The units that have an effect, in a fixed order, and their compensations."""
        work = "".join(unit for unit in self.units if unit in WORK)
        return work + self.undos.lower()

    def __hash__(self) -> int:
        return hash(self.name)


@cache
def asked(program: Program, handed: str) -> Asked:
    done = forward(handed)
    if FAILURE in done:  # and the body does not catch it
        return Asked(work="", sleep=False, events="", end=False, fails=True)
    open_units = [unit for unit in program.body(done) if unit not in done]
    return Asked(
        work="".join(unit for unit in open_units if unit in WORK),
        sleep=SLEEP in open_units,
        events="".join(unit for unit in open_units if unit in EVENTS),
        end=not open_units,
        child=CHILD in open_units,
    )


@cache
def forward(journal: str) -> str:
    """The outcomes that the body is given."""
    done = journal.replace(TIMEOUT, "E").replace(SUPERSEDED, "").replace(CHILD_FAILED, CHILD)
    return "".join(unit for unit in done if unit not in UNDOING)


def undone(journal: str) -> str:
    """The compensations. A sleep may end among them: whoever claims a failing run fires it."""
    return "".join(unit for unit in journal if unit in UNDOING)


@cache
def next_undo(program: Program, journal: str, pending: str, *, oldest: bool = False) -> str:
    """The compensation whose turn it is, or nothing.

    Unknown outcomes first: what nobody was told of, nothing else was built on. Then by seq.
    """
    recorded = [unit for unit in journal if unit in program.undos]
    order = [*recorded, *pending]
    if not oldest:
        order.reverse()
    left = (UNDO[unit] for unit in order if UNDO[unit] not in journal)
    return next(left, "")


@cache
def fits(program: Program, journal: str) -> bool:
    """Whether a replay asks for each outcome before it has its turn."""
    done = forward(journal)
    if len(set(journal.replace(SUPERSEDED, ""))) != len(journal.replace(SUPERSEDED, "")):
        return False
    if _goes_on_undone(journal):
        return False
    done = done.replace(FAILURE, program.may_fail)
    return all(unit in program.body(done[:n]) for n, unit in enumerate(done))


def _goes_on_undone(journal: str) -> bool:
    """Whether the body went on after a compensation."""
    kept = journal.replace(SLEEP, "")
    return kept.rstrip(UNDOING) != "".join(unit for unit in kept if unit not in UNDOING)


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
#: Two steps outside, one after the other.
STEPS = Program(name="steps", units="AC", body=in_stages("A", "C"), length=2)
#: A sleep between two of them.
ASLEEP = Program(name="asleep", units="ATB", body=in_stages("A", "T", "B"), length=3)
#: Each with a compensation: outside, after a sleep, and atomic.
UNDONE = Program(name="undone", units="ATB", body=in_stages("A", "T", "B"), length=3, undos="AB")
#: Two at once with compensations.
UNDONE_PAIR = Program(
    name="undone pair", units="AC", body=in_stages("AC"), length=2, undos="AC", parallel=True
)
#: Two with compensations, and then one that may fail.
FAILS = Program(
    name="fails", units="ABC", body=in_stages("A", "B", "C"), length=3, undos="AB", may_fail="C"
)
#: One with a compensation beside one that may fail.
FAILS_BESIDE = Program(
    name="fails beside",
    units="AC",
    body=in_stages("AC"),
    length=2,
    undos="A",
    may_fail="C",
    parallel=True,
)
#: The same beside a sleep, which may end after the run has failed.
FAILS_ASLEEP = Program(
    name="fails asleep",
    units="ATC",
    body=lambda done: "ATC" if "A" in done else "AT",
    length=3,
    undos="A",
    may_fail="C",
    parallel=True,
)
#: A step, one that may fail, and one more.
RETRIED = Program(
    name="retried", units="ACB", body=in_stages("A", "C", "B"), length=3, may_fail="C"
)
#: A child run, and nothing else; or after a step that has a compensation.
PARENT = Program(name="parent", units="K", body=in_stages("K"), length=1)
PARENT_UNDONE = Program(
    name="parent undone", units="AK", body=in_stages("A", "K"), length=2, undos="A"
)
#: What a child does: one atomic step; something without an end.
ONE = Program(name="one", units="B", body=in_stages("B"), length=1)
FOREVER = Program(name="forever", units="E", body=in_stages("E"), length=1)
#: A child that has something to compensate when it is cancelled.
UNDONE_FOREVER = Program(
    name="undone forever", units="AE", body=in_stages("A", "E"), length=2, undos="A"
)
#: A child beside a step; the body returns as soon as the step is done.
ABANDONS = Program(
    name="abandons",
    units="AK",
    body=lambda done: "A" if "A" in done else "AK",
    length=1,
    parallel=True,
)
