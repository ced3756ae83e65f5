"""Every action of the model by its player, and whole walks over a journal."""

from collections import Counter
from collections.abc import Iterable

from django_hookflow.journals.memory import MemoryJournal
from tests.faults.model import playing, playing_controls, playing_families, playing_holder
from tests.faults.model.conformance import LEASE_ENDS, TIMER_PASSES, Replay
from tests.faults.model.playing_entries import Player
from tests.faults.model.senders import MemorySenders, Senders
from tests.faults.model.state import World
from tests.faults.model.walks import Step, Walk
from tests.journals.bench import Bench, MemoryBench

Answers = Counter[tuple[str, str]]

#: By the name of the action, without the marks of a fault and of a child.
PLAYERS: dict[str, Player] = {
    **playing.PLAYERS,
    **playing_holder.PLAYERS,
}
OF_CONTROLS: dict[str, Player] = {**playing_controls.PLAYERS, **playing_holder.WINDING_UP}
OF_FAMILIES = playing_families.PLAYERS


def play(replay: Replay, step: Step) -> str:
    """Do it, check the answer, and say which of its answers it was."""
    name = step.action[0].removeprefix("F ")
    player = PLAYERS.get(name) or OF_CONTROLS.get(name) or OF_FAMILIES.get(name)
    if player is None:
        assert step.action[0] in UNNOTICED | PASSES, f"nobody plays {step.action[0]!r}"
        return ""
    return player(replay, step, *step.action[1:])


#: What happens outside of the row.
UNNOTICED = {
    "event joins",
    "F sender dies before SIGNAL",
    "F dies before POST",
    "F dies before its note",
    "F POST fails",
    "delivers",
    "F delivers early",
    "F loses",
    "F duplicates",
    "F gives up on",
    "F crashes",
    "executes",
    "is told",
    "answers",
}

#: What is done by the clock alone.
PASSES = {*TIMER_PASSES, *LEASE_ENDS}


def replay_over(bench: Bench, senders: Senders, world: World, walk: Walk) -> Answers:
    answers = Replay(bench, senders, world, walk).run(play, UNNOTICED)
    answers["walks", ""] += 1
    return answers


def in_memory(
    world: World, walks: Iterable[Walk], kind: type[MemoryJournal] = MemoryJournal
) -> Answers:
    """Each over a journal of its own: it looks through all of its runs."""
    answers: Answers = Counter()
    for walk in walks:
        bench = MemoryBench()
        bench.journal = kind(bench.now, bench.crash)
        answers.update(replay_over(bench, MemorySenders(bench), world, walk))
    return answers
