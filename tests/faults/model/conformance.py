"""A walk of the model over a real journal: every action as its transition, every state compared.

The clock is the journal's and moves by hours from one action to the next, so that every age the
code asks for has passed. What the model says passes at a step (the timer, a lease) is given its
time when it is set, because the walk is known beforehand; all else never passes.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any

from django_hookflow.core.transitions import Cancel, Fence
from tests.faults.model.projection import row_of, state_of
from tests.faults.model.senders import Senders
from tests.faults.model.state import ABSENT, Handler, World
from tests.faults.model.walks import Step, Walk
from tests.journals.bench import START, Bench

TICK = timedelta(hours=4)
MARGIN = timedelta(hours=1)
NEVER = START + timedelta(days=3650)


TIMER_PASSES = ("timer passes",)
LEASE_ENDS = ("lease expires", "F lease of a live holder expires")


class Disagreement(AssertionError):
    """The journal did something else than the model."""


class Replay:
    """One walk over one journal; ``playing`` knows what to do for each action."""

    def __init__(self, bench: Bench, senders: Senders, world: World, walk: Walk) -> None:
        self.bench = bench
        self.journal = bench.journal
        self.senders = senders
        self.world = world
        self.walk = walk
        self.id = uuid.UUID(int=0)
        self.at = 0
        self.signals: dict[int, Callable[[], object]] = {}
        self.timer_at = self._next(*TIMER_PASSES)

    def run(self, play: Any, unnoticed: Collection[str]) -> Counter[tuple[str, str]]:
        """What was answered to which action, how often.

        After one that the journal does not notice there is nothing new to compare.
        """
        answers: Counter[tuple[str, str]] = Counter()
        for step in self.walk:
            self.at += 1
            self.bench.time = _time(self.at)
            answers[step.action[0], play(self, step)] += 1
            if step.action[0] not in unnoticed:
                self._compare(step)
        if self.id.int:
            self.journal.cancel(Cancel(id=self.id))  # the next walk's sweeper leaves it alone
        return answers

    def _compare(self, step: Step) -> None:
        if step.after.status != ABSENT:
            found = row_of(self.bench, self.id, self.timer_at)
            self.check(found, state_of(self.world, step.after))

    def check(self, found: Any, wanted: Any) -> None:
        if found != wanted:
            way = "\n".join(str(step.action) for step in self.walk[: self.at])
            raise Disagreement(
                f"{self.world.name}:\n{way}\nthe journal: {found}\nthe model:   {wanted}"
            )

    # --- time

    def _next(self, *names: str) -> datetime:
        """Just before the next action of one of these names."""
        for at in range(self.at + 1, len(self.walk) + 1):
            if self.walk[at - 1].action[0] in names:
                return _time(at) - MARGIN
        return NEVER

    def lease(self) -> timedelta:
        """It runs out when the walk says so next, unless it is renewed or released before."""
        return self._next(*LEASE_ENDS) - self.bench.time

    def fence(self, h: Handler) -> Fence:
        return Fence(id=self.id, epoch=h.epoch, lease=self.lease())


def _time(at: int) -> datetime:
    return START + at * TICK
