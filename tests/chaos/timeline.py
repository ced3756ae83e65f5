"""What happens when in a chaos run: made of one seed before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

#: The part of the time in which runs are started; in the rest only faults go on.
STARTING = 0.92
#: Seconds, unless asked for otherwise: as short as it can be on a machine whose processors all are
#: busy. A holder renews its lease every third of it.
LEASE = 3.0


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """How much of everything."""

    runs: int
    kills: int
    cuts: int
    stops: int
    drops: int
    duplicates: int
    #: Publish requests that are answered 500: half of them after the messages were taken.
    refusals: int
    #: Deaths of the server with all its workers, and of QStash.
    hosts: int
    restarts: int
    seconds: float


@dataclass(frozen=True, order=True, slots=True)
class Event:
    """One thing to do, so many seconds after the beginning."""

    at: float
    what: str
    count: int = 1
    seconds: float = 0.0
    pid: int = 0


def patience(lease: float) -> float:
    """Seconds that QStash waits for an answer.

    More than the lease, and less than a stopped process may be stopped for: its runs are taken
    over meanwhile.
    """
    return lease + 4


def timeline(amounts: Amounts, rng: Random, lease: float) -> list[Event]:
    """The events in order; faults of a kind are spread over the whole time."""
    seconds = amounts.seconds
    events = _waves(amounts.runs, seconds * STARTING)
    for what, count in (
        ("kill", amounts.kills), ("cut", amounts.cuts), ("host", amounts.hosts),
        ("restart", amounts.restarts),
    ):  # fmt: skip
        events += [Event(at, what) for at in _spread(count, seconds, rng)]
    for at in _spread(amounts.stops, seconds, rng):
        # Shorter than anybody needs to take the runs over, or long enough for that.
        long = patience(lease) + 2
        length = rng.choice([rng.uniform(lease, lease + 1), rng.uniform(long, long + 1)])
        events.append(Event(at, "stop", seconds=length))
    for what, count in (
        ("drop", amounts.drops), ("duplicate", amounts.duplicates),
        ("refuse", amounts.refusals // 2), ("forget", amounts.refusals - amounts.refusals // 2),
    ):  # fmt: skip
        # Messages that are lost near the end are found lost half a minute later.
        events += [Event(at, what) for at in _spread(count, seconds * 0.8, rng)]
    return sorted(events)


def _waves(runs: int, seconds: float) -> list[Event]:
    number = max(1, round(seconds / 2))
    sizes = [runs // number + (n < runs % number) for n in range(number)]
    return [Event(n * seconds / number, "start", size) for n, size in enumerate(sizes) if size]


def _spread(count: int, seconds: float, rng: Random) -> list[float]:
    """So many moments, one in each of equal spans; none in the first second."""
    return [1 + (n + rng.random()) * (seconds - 1) / count for n in range(count)]
