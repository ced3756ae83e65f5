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
from tests.faults.model.state import ABSENT, Handler, State, World
from tests.faults.model.walks import OF_CHILD, Step, Walk
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

    def __init__(
        self,
        bench: Bench,
        senders: Senders,
        world: World,
        walk: Walk,
        parent: "Replay | None" = None,
    ) -> None:
        self.bench = bench
        self.journal = bench.journal
        self.senders = senders
        self.world = world
        self.walk = walk
        self.id = uuid.UUID(int=0)
        self.at = 0
        self.parent = parent
        self.child: Replay | None = None
        if world.child is not None:
            self.child = Replay(bench, senders, world.of_child, walk, self)
        self.signals: dict[int, Callable[[], object]] = {}
        self.timer_at = self._next(*TIMER_PASSES)

    def run(self, play: Any, unnoticed: Collection[str]) -> Counter[tuple[str, str]]:
        """What was answered to which action, how often.

        After one that the journal does not notice there is nothing new to compare.
        """
        answers: Counter[tuple[str, str]] = Counter()
        for step in self.walk:
            self._go_on()
            who, part = (self.child, step.of_child()) if step.is_of_child else (self, step)
            answers[step.action[0], play(who, part) + _tells(step)] += 1
            if part.action[0] not in unnoticed:
                self._compare(step.after)
        self._leave()
        return answers

    def _go_on(self) -> None:
        self.at += 1
        self.bench.time = _time(self.at)
        if self.child is not None:
            self.child.at = self.at

    def _leave(self) -> None:
        """The next walk's sweeper finds nothing of this one."""
        if self.id.int:
            self.journal.cancel(Cancel(id=self.id, compensate=False))
        if self.child is not None:
            self.child._leave()

    def _compare(self, after: State) -> None:
        if after.status != ABSENT:
            found = row_of(self.bench, self.id, self.timer_at)
            self.check(found, state_of(self.world, after))
        if self.child is not None and after.child is not None:
            self.child._compare(after.child)

    def check(self, found: Any, wanted: Any) -> None:
        if found != wanted:
            way = "\n".join(str(step.action) for step in self.walk[: self.at])
            raise Disagreement(
                f"{self.world.name}:\n{way}\nthe journal: {found}\nthe model:   {wanted}"
            )

    # --- time

    def _next(self, *names: str) -> datetime:
        """Just before the next action of one of these names, the child's if it is one."""
        mark = "" if self.parent is None else OF_CHILD
        for at in range(self.at + 1, len(self.walk) + 1):
            if self.walk[at - 1].action[0] in [mark + name for name in names]:
                return _time(at) - MARGIN
        return NEVER

    def lease(self) -> timedelta:
        """It runs out when the walk says so next, unless it is renewed or released before."""
        return self._next(*LEASE_ENDS) - self.bench.time

    def fence(self, h: Handler) -> Fence:
        return Fence(id=self.id, epoch=h.epoch, lease=self.lease())


def _tells(step: Step) -> str:
    """What a child's step is to its parent."""
    before, after = step.before, step.after
    if not step.is_of_child or after.signals == before.signals:
        return ""
    return ", wakes its parent" if after.wake_n > before.wake_n else ", tells its parent"


def _time(at: int) -> datetime:
    return START + at * TICK
