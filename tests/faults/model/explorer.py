"""The search: breadth first over every interleaving, then backwards from the end for liveness."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.faults.model import laws
from tests.faults.model.actors import (
    Action,
    Steps,
    message_service,
    notes,
    sender,
    sweeper,
    time_passes,
    trigger,
)
from tests.faults.model.family import child_steps, sweep_child
from tests.faults.model.handler import handler
from tests.faults.model.state import ABSENT, PAUSED, State, World, first_state, is_over
from tests.faults.model.users import users

#: How many states between two calls of ``progress``.
EVERY = 100_000


def steps(world: World, s: State) -> Steps:
    """Everything that can happen next."""
    yield from time_passes(world, s)
    yield from trigger(world, s)
    for n in range(len(s.senders)):
        yield from sender(world, s, n)
    if s.users or s.status == PAUSED:
        yield from users(world, s)
    yield from notes(world, s)
    yield from sweeper(world, s)
    yield from message_service(world, s)
    for n in range(len(s.handlers)):
        if not n or s.handlers[n - 1] != s.handlers[n]:
            yield from handler(world, s, n)
    if s.child is not None and s.child.status != ABSENT:
        yield from sweep_child(world, s)
        yield from child_steps(world, s, steps)


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A broken law, and a shortest way to it."""

    law: str
    trace: tuple[Action, ...]

    def __str__(self) -> str:
        return "\n".join([self.law, *(f"  {spell(action)}" for action in self.trace)])


@dataclass(kw_only=True)
class Found:
    """What a search has seen."""

    states: int = 0
    edges: int = 0
    completed: int = 0
    actions: set[str] = field(default_factory=set)
    violations: dict[str, Violation] = field(default_factory=dict)


class TooLarge(Exception):
    """The world has more states than it was given."""


class Search:
    """One search; it ends early once the law ``until`` is found broken.

    ``limit`` is for worlds that may have no end, because a rule is missing in them.
    """

    def __init__(self, world: World, *, until: str = "", limit: int | None = None) -> None:
        self.world = world
        self.until = until
        self.limit = limit
        first = first_state(world)
        self.number: dict[State, int] = {first: 0}
        self.states: list[State] = [first]
        self.came_from: list[int] = [-1]
        self.came_by: list[Action] = [()]
        # Edges without a fault, by their ends.
        self.before: list[list[int]] = [[]]
        self.found = Found()

    def run(self, progress: Callable[[int, int], None] | None = None) -> Found:
        """Explore all of it. Without the collector: nothing here is garbage, or a cycle."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            for at, s in enumerate(self.states):  # which grows meanwhile
                self._expand(at, s)
                if self.until in self.found.violations:
                    break
                if self.limit is not None and at >= self.limit:
                    raise TooLarge(f"{self.world.name}: more than {self.limit:,} states")
                if progress is not None and at % EVERY == EVERY - 1:
                    progress(at + 1, len(self.states))
            else:
                self._check_liveness()
        finally:
            if collecting:
                gc.enable()
        self.found.states = len(self.states)
        return self.found

    def _expand(self, at: int, s: State) -> None:
        world, number, moved = self.world, self.number, False
        for action, t in steps(world, s):
            self.found.edges += 1
            self.found.actions.add(action[0])
            moved = True
            there = number.get(t)
            if there is None:
                there = self._add(t, at, action)
            if t.faults == s.faults:
                self.before[there].append(at)
            for law in laws.of_step(world, s, t):
                self._violated(law, at, action)
        if not moved and not is_over(s):
            self._violated(laws.STUCK, at)

    def _add(self, t: State, at: int, action: Action) -> int:
        there = len(self.states)
        self.number[t] = there
        self.states.append(t)
        self.came_from.append(at)
        self.came_by.append(action)
        self.before.append([])
        for law in laws.of_state(self.world, t):
            self._violated(law, there)
        return there

    def _check_liveness(self) -> None:
        """Whether the end can be reached from everywhere, without a further fault."""
        live = [is_over(s) for s in self.states]
        open_ends = [n for n, ended in enumerate(live) if ended]
        self.found.completed = len(open_ends)
        while open_ends:
            for n in self.before[open_ends.pop()]:
                if not live[n]:
                    live[n] = True
                    open_ends.append(n)
        if not all(live):
            self._violated(laws.HOPELESS, live.index(False))

    def _violated(self, law: str, at: int, *last: Action) -> None:
        if law not in self.found.violations:
            trace = (*self.trace(at), *last)
            self.found.violations[law] = Violation(law=law, trace=trace)

    def trace(self, at: int) -> tuple[Action, ...]:
        """A shortest way to a state."""
        return tuple(reversed(list(self._back_from(at))))

    def _back_from(self, at: int) -> Iterator[Action]:
        while at:
            yield self.came_by[at]
            at = self.came_from[at]


def spell(action: Action) -> str:
    """An action in words; a handler by its wake number and epoch."""
    return " ".join(
        f"[wake {part.wake}, epoch {part.epoch}]" if hasattr(part, "wake") else str(part)
        for part in action
    )
