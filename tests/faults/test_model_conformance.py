"""The real journals do what the model does: its walks, action by action, state by state."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings

from django_hookflow.core.transitions import Signal, Suspend
from django_hookflow.journals.memory import MemoryJournal
from tests.faults.model.conformance import Disagreement
from tests.faults.model.programs import MAILBOX, RACE, SEQUENCE, TIMED
from tests.faults.model.replaying import PASSES, PLAYERS, UNNOTICED, Answers, in_memory, replay_over
from tests.faults.model.senders import OrmSenders
from tests.faults.model.state import World
from tests.faults.model.walks import covering_walks, random_walks, telling_walks
from tests.faults.model.worlds import LONGER
from tests.journals.bench import OrmBench

SEED = 7
#: Of each world, in memory; and on a database, chosen from sixty times as many.
WALKS = 100
TELLING = 4
#: Three faults each: random walks meet what the search would need hours for.
WORLDS = tuple(replace(world, faults=3) for world in LONGER)
#: In memory nothing is ever unseen but what a test makes so, and an event that is sent alone takes
#: those of its name for seen, as the ORM's does not: two of them go one way or the other.
IN_MEMORY = (
    *(world for world in WORLDS if world.program is not MAILBOX),
    *(replace(world, joined=False) for world in WORLDS if world.program is MAILBOX),
    *(replace(world, alone=False) for world in WORLDS if world.program is MAILBOX),
)
#: Small enough to walk along every step that is possible in them.
SMALL = (
    World(name="race", program=RACE, kinds=frozenset({"crash", "zombie", "infra"})),
    World(name="timed", program=TIMED, faults=0),
    World(name="sequence", program=SEQUENCE, faults=0),
)


def test_memory_journal_follows_random_walks() -> None:
    answers: Answers = Counter()
    for world in IN_MEMORY:
        answers.update(in_memory(world, random_walks(world, seed=SEED, count=WALKS)))
    assert answers["walks", ""] == WALKS * len(IN_MEMORY) >= 300
    assert {action.removeprefix("F ") for action, _ in answers} >= set(PLAYERS)
    assert {action for action, _ in answers} >= UNNOTICED | PASSES
    assert MUST_HAPPEN - set(answers) == set()


#: Answers that a walk has to get somewhere, or it does not show what it is for.
MUST_HAPPEN = {
    ("event alone", "owed"),
    ("event alone", "not owed"),
    ("sender signals", "wakes"),
    ("sender signals", "wakes nobody"),
    ("signals unseen", "owed"),
    ("signals unseen", "not owed"),
    ("posts", "at once"),
    ("posts", "delayed"),
    ("notes", "in time"),
    ("notes", "owes another"),
    ("claims", "found free"),
    ("claims", "found dead"),
    ("records", "committed"),
    ("records", "fenced"),
    ("records too late", "fenced"),
    ("commits atomically", "committed"),
    ("commits atomically", "fenced"),
    ("fires", "committed"),
    ("receives", "event committed"),
    ("receives", "timeout committed"),
    ("receives", "fenced fenced"),
    ("suspends", "suspended"),
    ("suspends", "moved"),
    ("suspends", "fenced"),
    ("F stops", "suspended"),
    ("F releases", "released"),
    ("finishes", "finished"),
    ("finishes", "fenced"),
}


@pytest.mark.parametrize("world", SMALL, ids=lambda world: world.name)
def test_memory_journal_follows_every_step_of_a_small_world(world: World) -> None:
    answers = in_memory(world, covering_walks(world))
    assert answers["walks", ""] > 10


@pytest.mark.django_db(databases="__all__")
@pytest.mark.parametrize("alias", list(settings.DATABASES))
def test_orm_journal_follows_random_walks(alias: str) -> None:
    bench, answers = OrmBench(alias), Answers()
    for world in WORLDS:
        for walk in telling_walks(world, seed=SEED, count=TELLING):
            answers.update(replay_over(bench, OrmSenders(bench), world, walk))
    assert MUST_HAPPEN - set(answers) == set()


# --- the comparison itself


class ForgetsSignals(MemoryJournal):
    """Suspends whatever has arrived since the holder looked."""

    def suspend(self, transition: Suspend) -> Any:
        run = self.look(transition.fence.id)
        assert run is not None
        return super().suspend(replace(transition, seen=run.signals))


class WakesTheLeased(MemoryJournal):
    """Owes a wake-up for every signal."""

    def signal(self, transition: Signal) -> Any:
        answer = super().signal(transition)
        run = self.look(transition.id)
        if run is not None and run.leased:
            self.alter(transition.id, wake_n=run.wake_n + 1, owed_at=run.now)
        return answer


class KeepsTheEpoch(MemoryJournal):
    """Claims without raising it."""

    def claim(self, transition: Any) -> Any:
        claimed = super().claim(transition)
        self.alter(transition.id, epoch=1)
        return claimed


class NotesAnyNumber(MemoryJournal):
    """Takes what is owed for published, whichever number was."""

    def published(self, id: Any, wake: int) -> None:
        run = self.look(id)
        assert run is not None
        super().published(id, run.wake_n)


class LeavesEventsUnconsumed(MemoryJournal):
    """Gives a wait its event and leaves it in the mailbox."""

    def commit(self, transition: Any) -> Any:
        committed = super().commit(transition)
        events = self._stored.events
        events.update({n: replace(event, consumed_by=None) for n, event in events.items()})
        return committed


PLANTED: list[Callable[..., MemoryJournal]] = [
    ForgetsSignals,
    WakesTheLeased,
    KeepsTheEpoch,
    NotesAnyNumber,
    LeavesEventsUnconsumed,
]


@pytest.mark.parametrize("broken", PLANTED)
def test_journal_with_a_planted_fault_does_not_follow(broken: type[MemoryJournal]) -> None:
    with pytest.raises(Disagreement) as caught:
        for world in IN_MEMORY:
            in_memory(world, random_walks(world, seed=SEED, count=WALKS), broken)
    print(caught.value)
