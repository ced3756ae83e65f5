"""The real journals do what the model does in what users do to runs, and in families of runs.

Beside ``test_model_conformance``, which says how.
"""

from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import islice

import pytest
from django.conf import settings

from tests.faults.model.programs import (
    FAILS_ASLEEP,
    ONE,
    PARENT,
    RETRIED,
    STEPS,
    UNDONE,
    UNDONE_FOREVER,
)
from tests.faults.model.replaying import OF_CONTROLS, OF_FAMILIES, Answers, in_memory, replay_over
from tests.faults.model.senders import OrmSenders
from tests.faults.model.state import CANCEL, PAUSE, RETRY, World
from tests.faults.model.walks import (
    Walk,
    covering_walks,
    most_telling,
    way,
)
from tests.faults.model.worlds_walked import CONTROLS, RELATED, WALKS, walks_of
from tests.journals.bench import OrmBench

#: So many walks over a database, of all the worlds: for what must happen, and for all else.
NEEDED = 22
TELLING = 14
#: Small enough to walk along every step that is possible in them.
SOON = World(name="child", program=ONE, handlers=1, faults=0)
SMALL = (
    World(name="paused", program=STEPS, users=PAUSE, faults=0),
    World(name="cancelled", program=UNDONE, users=CANCEL, faults=0, sweeper=False),
    World(name="retried", program=RETRIED, users=RETRY, kinds=frozenset({"zombie"})),
    World(
        name="failed asleep",
        program=FAILS_ASLEEP,
        kinds=frozenset({"stop"}),
        faults=2,
        handlers=1,
        sweeper=False,
    ),
    World(name="parent", program=PARENT, child=SOON, handlers=1, faults=0),
)


@cache
def answers_of(world: World) -> tuple[Answers, ...]:
    """Of the journal in memory, to each of the walks."""
    return tuple(in_memory(world, [walk]) for walk in walks_of(world))


def follow(worlds: tuple[World, ...]) -> Answers:
    answers: Answers = Counter()
    for each in (each for world in worlds for each in answers_of(world)):
        answers.update(each)
    assert answers["walks", ""] == WALKS * len(worlds)
    return answers


@pytest.mark.xdist_group("walks of the vocabulary")  # what one has walked, the others choose from
def test_memory_journal_follows_what_users_do() -> None:
    answers = follow(CONTROLS)
    assert {action.removeprefix("F ") for action, _ in answers} >= set(OF_CONTROLS)
    assert MUST_HAPPEN - set(answers) == set()


@pytest.mark.xdist_group("walks of the vocabulary")
def test_memory_journal_follows_families() -> None:
    answers = follow(RELATED)
    assert {action for action, _ in answers} >= set(OF_FAMILIES)
    assert MUST_HAPPEN_IN_FAMILIES - set(answers) == set()


#: Answers that a walk has to get somewhere, or it does not show what it is for.
MUST_HAPPEN = {
    ("pauses", "free"),
    ("pauses", "held"),
    ("pauses", "left"),
    ("finds it paused", "paused free"),
    ("finds it paused", "paused held"),
    ("resumes", "paused free"),
    ("resumes", "paused held"),
    ("resumes", "paused left"),
    ("suspends", "stays paused"),
    ("suspends", "moved"),
    ("finishes", "stays paused"),
    ("fails", "stays paused"),
    ("retries", ""),
    ("cancels", "ends, free"),
    ("cancels", "ends, held"),
    ("cancels", "winds up, free"),
    ("cancels", "winds up, held"),
    ("cancels", "winds up, left"),
    ("cancels at once", "free"),
    ("cancels at once", "held"),
    ("begins", "begun"),
    ("begins", "fenced"),
    ("begins", "stopped"),
    ("commits too late", "stopped"),
    ("asks too late", "stopped"),
    ("fails", "failing"),
    ("fails", "finished"),
    ("fails", "moved"),
    ("finishes", "moved"),
}
MUST_HAPPEN_IN_FAMILIES = {
    ("starts the child", "begun"),
    ("starts the child", "fenced"),
    ("finds no result", "not yet"),
    ("receives", "result committed"),
    ("receives", "result fenced"),
    ("sweeps the child", ""),
    ("child: finishes", "finished, wakes its parent"),
    ("child: finishes", "finished, tells its parent"),
    ("child: finishes", "fenced"),
    ("child: finishes", "stays paused"),
    ("child: fails", "finished, wakes its parent"),
    ("child: cancels", "ends, free, wakes its parent"),
    ("child: cancels", "ends, free, tells its parent"),
    ("child: asks too late", "stopped"),
    ("child: receives", "fenced fenced"),
}


@cache
def telling() -> tuple[tuple[World, Walk], ...]:
    """Those in which the journal in memory has given what must happen, and the most beside it."""
    walks = [(world, n) for world in (*CONTROLS, *RELATED) for n, _ in enumerate(walks_of(world))]
    shows = [frozenset(answers_of(world)[n]) for world, n in walks]
    needed = [show & (MUST_HAPPEN | MUST_HAPPEN_IN_FAMILIES) for show in shows]
    chosen = {*most_telling(needed, NEEDED), *most_telling(shows, TELLING)}
    found = [walks[at] for at in sorted(chosen)]
    return tuple((world, next(islice(walks_of(world), n, None))) for world, n in found)


@pytest.mark.django_db(databases="__all__")
@pytest.mark.xdist_group("walks of the vocabulary")
@pytest.mark.parametrize("alias", list(settings.DATABASES))
def test_orm_journal_follows_random_walks(alias: str) -> None:
    bench, answers = OrmBench(alias), Answers()
    for world, walk in telling():
        answers.update(replay_over(bench, OrmSenders(bench), world, walk))
    assert (MUST_HAPPEN | MUST_HAPPEN_IN_FAMILIES) - set(answers) == set()


@pytest.mark.parametrize("world", SMALL, ids=lambda world: world.name)
def test_memory_journal_follows_every_step_of_a_small_world(world: World) -> None:
    answers = in_memory(world, covering_walks(world))
    assert answers["walks", ""] > 10


# --- what the journals once did otherwise


ALIASES = list(settings.DATABASES)
#: What is begun, in a world that leads there.
BEGUN_PAUSED = {
    "begins": World(name="step", program=UNDONE, users=PAUSE, sweeper=False, faults=0),
    "starts the child": World(
        name="child", program=PARENT, child=SOON, users=PAUSE, sweeper=False, faults=0
    ),
}


@pytest.mark.django_db(databases="__all__")
@pytest.mark.parametrize("alias", ["", *ALIASES])
@pytest.mark.parametrize("begins", BEGUN_PAUSED)
def test_paused_runs_holder_begins_nothing(begins: str, alias: str) -> None:
    """START leaves a paused run alone: no further step starts, and no child."""
    world = BEGUN_PAUSED[begins]
    walk = way(world, "trigger commits", "posts", "delivers", "claims", "pauses", begins)
    over(alias, world, walk)


@pytest.mark.django_db(databases="__all__")
@pytest.mark.parametrize("alias", ["", *ALIASES])
def test_child_that_is_left_to_its_compensations_does_not_signal_its_parent(alias: str) -> None:
    """It has not ended: its parent looks and finds nothing."""
    child = replace(SOON, program=UNDONE_FOREVER, users=CANCEL)
    world = World(name="parent", program=PARENT, child=child, sweeper=False, faults=0)
    starts = ("trigger commits", "posts", "delivers", "claims", "starts the child")
    begins = ("child: posts", "child: delivers", "child: claims", "child: begins")
    walk = way(world, *starts, *begins, "child: cancels")
    over(alias, world, walk)


def over(alias: str, world: World, walk: Walk) -> None:
    """In memory if there is no alias."""
    if not alias:
        in_memory(world, [walk])
        return
    bench = OrmBench(alias)
    replay_over(bench, OrmSenders(bench), world, walk)
