"""What goes wrong in one seed, and when; nothing after ``until`` virtual seconds."""

import random
from collections import Counter
from dataclasses import dataclass, field, fields


@dataclass(kw_only=True)
class Faults:
    """Chances are per opportunity, times are virtual seconds.

    ``crashes`` are visits of crash points, counted over all processes, at which one dies;
    ``zombies`` are bodies of steps, likewise, after which one freezes for longer than its lease.
    """

    until: float = 0.0
    crashes: tuple[int, ...] = ()
    zombies: tuple[int, ...] = ()
    kills: tuple[float, ...] = ()
    freezes: tuple[tuple[float, float], ...] = ()
    stops: tuple[float, ...] = ()
    outages: tuple[tuple[float, float], ...] = ()
    jumps: tuple[tuple[float, float], ...] = ()
    lost_messages: tuple[int, ...] = ()
    lost: float = 0.0
    doubled: float = 0.0
    delayed: float = 0.0
    early: float = 0.0
    refused: float = 0.0
    answer_lost: float = 0.0
    cut: float = 0.0
    cancels: float = 0.0
    drift: float = 0.0
    happened: Counter[str] = field(default_factory=Counter)

    def note(self, what: str) -> None:
        self.happened[what] += 1

    @property
    def disruptions(self) -> int:
        """How often a process may have lost its hold of a run between an effect and its record."""
        return sum(self.happened[what] for what in ("death", "freeze", "outage", "jump", "retry"))

    def __str__(self) -> str:
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "happened"}
        return ", ".join(f"{name}={value}" for name, value in named.items() if value)


def random_faults(rng: random.Random) -> Faults:
    """Each kind in about a third of the seeds, so that they meet in all combinations."""

    def some(chance: float, most: int) -> int:
        return rng.randint(1, most) if rng.random() < chance else 0

    def at() -> float:
        return rng.uniform(0, 60) if rng.random() < 0.8 else rng.uniform(0, 4000)

    def share() -> float:
        return rng.choice((0.05, 0.2, 0.5)) if rng.random() < 0.3 else 0.0

    return Faults(
        until=5000.0,
        crashes=tuple(rng.randint(1, 200) for _ in range(some(0.5, 4))),
        zombies=tuple(rng.randint(1, 12) for _ in range(some(0.3, 3))),
        kills=tuple(at() for _ in range(some(0.35, 3))),
        freezes=tuple((at(), rng.uniform(5, 150)) for _ in range(some(0.35, 3))),
        stops=tuple(at() for _ in range(some(0.25, 2))),
        outages=tuple((at(), rng.uniform(0.5, 90)) for _ in range(some(0.2, 1))),
        jumps=tuple((at(), rng.choice((-3600, -30, 30, 3600))) for _ in range(some(0.2, 2))),
        lost=share(),
        doubled=share(),
        delayed=share(),
        early=share(),
        refused=share(),
        answer_lost=share(),
        cut=share(),
        cancels=0.15 if rng.random() < 0.2 else 0.0,
        drift=rng.choice((0.0, 0.0, 0.02)),
    )
