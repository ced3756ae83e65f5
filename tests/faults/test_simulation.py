"""Random programs and random faults over the real engine, by virtual time: tests/faults/sim."""

import logging
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.sim.faults import Faults, random_faults
from tests.faults.sim.ledger import Violation
from tests.faults.sim.planted import PLANTED
from tests.faults.sim.stores import OrmStore
from tests.faults.sim.world import World, world_of

ROOT = Path(__file__).resolve().parents[2]
#: Seeds that broke a promise once, or made the engine do what it should not; run first.
KEPT = {
    16: "a fenced holder asked for a timer without end while its last step ran",
    141: "an atomic step that had been rolled back was undone",
    200: "a child that was asked for after a stop was never started and taken for gone",
    2627: "the same, looked for beside a step that ran on",
    3784: "a retried parent waited for a child that had failed while it was failed itself",
}
CHUNK = 250
#: With a child and compensations. Of two that are woken at once, and of events that are not new,
#: each journal has its own order.
VARIED = (78, 178)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of deaths and outages would be logged, each as if it mattered."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def simulated(world: World) -> World:
    try:
        world.simulate()
    except Exception:
        print(f"HOOKFLOW_SEED={world.seed}: python -m tests.faults.sim --seed {world.seed} --trace")
        raise
    return world


@pytest.mark.parametrize("seed", KEPT)
def test_a_seed_that_found_something(seed: int) -> None:
    simulated(world_of(seed))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 2000, CHUNK))
def test_no_fault_breaks_a_promise(first: int) -> None:
    happened: Counter[str] = Counter()
    for seed in range(first, first + CHUNK):
        happened += simulated(world_of(seed)).faults.happened
    # What never happened was not tested.
    assert {"death", "freeze", "outage", "jump", "stop", "cut"} <= set(happened)
    assert {"lost", "refused", "answer lost", "stayed owed", "retry"} <= set(happened)


def test_a_seed_is_the_same_in_every_process() -> None:
    code = "import sys; from tests.faults.sim.command import set_up; set_up(); " + (
        "from tests.faults.sim.world import world_of\n"
        "for seed in range(12):\n"
        "    world = world_of(seed); world.simulate(); print(world.fingerprint())"
    )
    prints = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        prints.add(
            subprocess.run(
                [sys.executable, "-c", code],
                cwd=ROOT,
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
    assert len(prints) == 1
    assert len(set(prints.pop().split())) == 12


# --- on a database


@pytest.fixture
def sync_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is on one thread, the database too: that is what makes it deterministic."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("sync_allowed")
@pytest.mark.slow
def test_no_fault_breaks_a_promise_on_a_database() -> None:
    for seed in range(5000, 5020):
        simulated(world_of(seed, OrmStore))


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("sync_allowed")
def test_both_journals_make_the_same_of_a_seed() -> None:
    """Not only the same end: the same events at the same times."""
    for seed in (0, 1, 2, *VARIED):
        orm, memory = simulated(world_of(seed, OrmStore)), simulated(world_of(seed))
        assert orm.log == memory.log


# --- what the simulation is worth

#: Enough of what a rule is there for that a few seeds tell whether it holds.
MUCH = Faults(until=5000.0, zombies=(1, 2, 4, 7), doubled=0.5)
SUITED = {
    "NoFence": MUCH,
    "AnyoneClaims": replace(MUCH, zombies=(), happened=Counter()),
}


#: What a frozen process does anyway: only a calm world tells, and the crash sweep has one.
CALM = {"CancelFences"}


@pytest.mark.parametrize("name", [name for name in PLANTED if name not in CALM])
def test_a_planted_bug_is_found(name: str) -> None:
    with pytest.raises(Violation):
        for seed in range(60):
            world = world_of(seed, PLANTED[name])
            suited = SUITED.get(name) or random_faults(random.Random(seed))
            world.faults = replace(suited, happened=Counter())
            world.simulate()
