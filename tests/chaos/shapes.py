"""The programs that chaos runs execute: plans, which workflows interpret and the checker knows.

A plan is a list of stages; the steps of one stage are side by side, stages follow each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

#: What a caught failure adds to the result.
CAUGHT = "caught Refused"

Stage = dict[str, Any]


def _run(name: str, rng: Random) -> Stage:
    return {"kind": "run", "id": name, "ms": rng.randint(2, 60)}


def _atomic(name: str, rng: Random) -> Stage:
    return {"kind": "atomic", "id": name, "ms": rng.randint(2, 40)}


def _call(name: str, rng: Random, fail: int = 0) -> Stage:
    return {"kind": "call", "id": name, "ms": rng.randint(2, 40), "fail": fail}


def _sleep(name: str, rng: Random) -> Stage:
    return {"kind": "sleep", "id": name, "seconds": round(rng.uniform(1, 3), 2)}


def _retry(name: str, rng: Random, delay: float) -> Stage:
    return {"kind": "retry", "id": name, "ms": 5, "fail": rng.randint(1, 2), "delay": delay}


def sequence(rng: Random) -> list[Stage]:
    return [_run(f"step-{n}", rng) for n in range(rng.randint(3, 6))]


def loop(rng: Random) -> list[Stage]:
    times = rng.randint(3, 6)
    return [{"kind": "loop", "id": "item", "times": times, "ms": rng.randint(2, 30)},
            _atomic("sum", rng)]  # fmt: skip


def sleeping(rng: Random) -> list[Stage]:
    return [_run("before", rng), _sleep("nap", rng), _atomic("book", rng), _run("after", rng)]


def booking(rng: Random) -> list[Stage]:
    return [_atomic(f"book-{n}", rng) for n in range(rng.randint(2, 4))]


def calling(rng: Random) -> list[Stage]:
    return [_call("ask", rng), _atomic("keep", rng), _call("again", rng, fail=rng.randint(0, 1)),
            _run("last", rng)]  # fmt: skip


def retrying(rng: Random) -> list[Stage]:
    # Up to 5 s are awaited in place, longer delays suspend the run.
    return [_run("before", rng), _retry("flaky", rng, rng.choice([0.1, 0.5, 5.5])),
            _atomic("book", rng)]  # fmt: skip


def catching(rng: Random) -> list[Stage]:
    return [_run("before", rng), {"kind": "caught", "id": "refused"}, _atomic("instead", rng)]


def gathering(rng: Random) -> list[Stage]:
    return [_run("before", rng), {"kind": "gather", "id": "side", "width": rng.randint(2, 4),
            "ms": rng.randint(5, 60)}, _atomic("book", rng), _sleep("nap", rng),
            _run("after", rng)]  # fmt: skip


SYNC = (sequence, loop, sleeping, booking, calling, retrying, catching)
ASYNC = (*SYNC, gathering, gathering)


NAMES = [shape.__name__ for shape in dict.fromkeys(ASYNC)]


def choose(rng: Random, among: Sequence[str] = ()) -> tuple[str, str, list[Stage]]:
    """A workflow id, the name of a shape, and a plan of that shape; ``among`` names shapes."""
    colour = rng.choice(["sync", "async"])
    known = ASYNC if colour == "async" else SYNC
    shapes = [shape for shape in known if shape.__name__ in among]
    if not shapes:  # any; or a shape that only the other colour has
        shapes = [*known]
    shape = rng.choice(shapes)
    return f"chaos.{colour}", shape.__name__, shape(rng)


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """One step that has to be in the journal: its stage, and how it has to end."""

    stage: int
    key: str
    kind: str
    #: Attempts that fail as planned; their bodies start and have no effect.
    fail: int = 0
    #: Seconds: of a sleep, or between the attempts of a step that is tried again.
    seconds: float = 0.0


def planned(plan: Sequence[Stage]) -> list[Planned]:
    """The steps of a plan, in order."""
    found = []
    stage = 0
    for each in plan:
        if each["kind"] == "loop":
            keys = [f"{each['id']}#{n + 1}" for n in range(each["times"])]
            found += [Planned(stage=stage + n, key=key, kind="run") for n, key in enumerate(keys)]
            stage += each["times"]
            continue
        if each["kind"] == "gather":
            names = (f"{each['id']}-{n}#1" for n in range(each["width"]))
            found += [Planned(stage=stage, key=name, kind="run") for name in names]
        else:
            seconds = each.get("seconds", each.get("delay", 0.0))
            found.append(Planned(stage=stage, key=f"{each['id']}#1", kind=each["kind"],
                                 fail=each.get("fail", 0), seconds=seconds))  # fmt: skip
        stage += 1
    return found
