"""Ways through a world, to be walked again over a real journal."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from math import fsum
from typing import Any, NamedTuple

from tests.faults.model.actors import Action
from tests.faults.model.explorer import Search, steps
from tests.faults.model.row import holds
from tests.faults.model.state import (
    CANCELLING,
    JOINED,
    PAUSED,
    Handler,
    State,
    World,
    first_state,
)

LONGEST = 120
#: What should not happen at once, or nothing is left for later.
SLOW = {
    "event joins": 0.2,
    "event alone": 0.2,
    "sender signals": 0.2,
    "cancels": 0.005,
    "cancels at once": 0.005,
    "pauses": 0.1,
    "resumes": 0.3,
}
FAULT = 0.1
OF_CHILD = "child: "
#: Of so many walks one is chosen.
POOL = 60


class Step(NamedTuple):
    """One action, and the states around it."""

    before: State
    action: Action
    after: State

    @property
    def is_of_child(self) -> bool:
        return str(self.action[0]).startswith(OF_CHILD)

    def of_child(self) -> "Step":
        """The same step as the child's own."""
        assert self.before.child is not None
        assert self.after.child is not None
        action = (self.action[0].removeprefix(OF_CHILD), *self.action[1:])
        return Step(self.before.child, action, self.after.child)


Walk = list[Step]


def random_walks(world: World, *, seed: int, count: int) -> Iterator[Walk]:
    """What a sender has inserted is committed before anybody else does a thing: the replay has
    one connection, and nobody but the sender could tell.
    """
    choice, taken = random.Random(f"{world.name} {seed}"), Counter[Any]()
    for _ in range(count):
        yield list(_random_walk(world, choice, taken))


def _random_walk(world: World, choice: random.Random, taken: Counter[Any]) -> Iterator[Step]:
    """What was seldom done at such a point is done rather."""
    s = first_state(world)
    for _ in range(LONGEST):
        possible = list(steps(world, s))
        if JOINED in s.senders:
            n = s.senders.index(JOINED)
            possible = [(action, t) for action, t in possible if _is_of_sender(action, n)]
        if not possible:
            return
        child = None if s.child is None else (s.child.status, s.child.journal)
        point = (s.journal, s.lease, s.due, s.users, child)
        weights = [_haste(action[0]) / (1 + taken[action[0], point]) for action, _ in possible]
        ((action, t),) = choice.choices(possible, weights)
        taken[action[0], point] += 1
        yield Step(s, action, t)
        s = t


def _haste(name: str) -> float:
    name = name.removeprefix(OF_CHILD)
    return FAULT if name.startswith("F ") else SLOW.get(name, 1.0)


def _is_of_sender(action: Action, n: int) -> bool:
    return action in (("event commits", n), ("F sender dies in its transaction", n))


def way(world: World, *names: str) -> Walk:
    """The one way of these actions."""
    walk, s = list[Step](), first_state(world)
    for name in names:
        ((action, t),) = ((action, t) for action, t in steps(world, s) if action[0] == name)
        walk.append(Step(s, action, t))
        s = t
    return walk


@cache
def telling_walks(world: World, *, seed: int, count: int) -> tuple[Walk, ...]:
    """Chosen from sixty times as many."""
    walks = list(random_walks(world, seed=seed, count=count * POOL))
    shows = [frozenset(_shows(world, step) for step in walk) for walk in walks]
    return tuple(walks[n] for n in most_telling(shows, count))


def most_telling(shows: Sequence[frozenset[Any]], count: int) -> list[int]:
    """Those of many walks that show the most that is seldom seen in them."""
    often = Counter(shown for each in shows for shown in each)
    shown: set[Any] = set()
    chosen: list[int] = []
    for _ in range(count):
        best = max(range(len(shows)), key=lambda n: fsum(1 / often[x] for x in shows[n] - shown))
        shown |= shows[best]
        chosen.append(best)
    return chosen


def _shows(world: World, step: Step) -> Any:
    """What was done, whether a fence held, and what it made of the row."""
    if step.is_of_child:
        return OF_CHILD, _shows(world.of_child, step.of_child())
    s, action, t = step
    fenced = [not holds(world, s, part) for part in action if isinstance(part, Handler)]
    old, new = (s.epoch, s.wake_n, s.journal, s.signals), (t.epoch, t.wake_n, t.journal, t.signals)
    differs = tuple(before != after for before, after in zip(old, new, strict=True))
    kind = action[-1] if action[0] == "receives" else ""
    stands = s.status if s.status in (CANCELLING, PAUSED) else 0
    return action[0], kind, *fenced, differs, t.owed, stands


def covering_walks(world: World) -> Iterator[Walk]:
    """Each step that is possible anywhere in the world is in at least one of them."""
    search = Search(world)
    search.run()
    left = {at: dict(enumerate(steps(world, s))) for at, s in enumerate(search.states)}
    for at in range(len(search.states)):
        while left[at]:
            yield [*_way_to(search, at), *_on_from(search, at, left)]


def _way_to(search: Search, at: int) -> Walk:
    way: Walk = []
    while at:
        before = search.came_from[at]
        way.append(Step(search.states[before], search.came_by[at], search.states[at]))
        at = before
    return way[::-1]


def _on_from(search: Search, at: int, left: dict[int, dict[int, tuple[Action, State]]]) -> Walk:
    """Along steps that were not walked yet, as far as they go."""
    way: Walk = []
    while left[at] and len(way) < LONGEST:
        _, (action, t) = left[at].popitem()
        way.append(Step(search.states[at], action, t))
        at = search.number[t]
    return way
