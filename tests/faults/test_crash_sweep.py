"""A process dies at every crash point that some seventy workflows pass, at every occurrence."""

import logging
from collections.abc import Iterator
from functools import partial

import pytest
from django.conf import settings

from django_hookflow.journals.base import CRASH_POINTS
from tests.faults.sim.ledger import Violation
from tests.faults.sim.planted import PLANTED
from tests.faults.sim.stores import MemoryStore, OrmStore
from tests.faults.sim.sweep import PROGRAMS, Case, points_of, singles, then, world_of

#: The crash points that are not a transaction's.
OURS = {f"{what}:{place}" for what in ("effect", "publish") for place in ("before", "after")}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Two thousand deaths would be logged, each as if it mattered."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def swept(case: Case, make_store: type = MemoryStore) -> None:
    world = world_of(case, make_store)
    print(case)  # shown with a failure, the last one is it
    world.simulate()
    assert world.faults.happened["death"] == len(case.crashes), case


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_death_at_any_point_loses_and_repeats_nothing(program: str) -> None:
    for case in singles(program):
        swept(case)


def test_every_crash_point_is_passed_and_the_cases_are_many() -> None:
    passed = [point for program in PROGRAMS for point in points_of(Case(program))]
    # A fork is nobody's step: it is asked for by a person, about a run that stays as it is.
    forks = {point for point in CRASH_POINTS if point.startswith("fork:")}
    assert set(passed) == (set(CRASH_POINTS) - forks) | OURS
    assert len(PROGRAMS) >= 70
    assert len(passed) >= 3500


@pytest.mark.parametrize("program", ["all-kinds", "parallel", "retried-def"])
def test_two_deaths_one_after_the_other(program: str) -> None:
    """A part of the pairs; all of them: ``python -m tests.faults.sim --pairs``."""
    for case in singles(program)[::8]:
        for pair in then(case)[::5]:
            swept(pair)


# --- on databases


@pytest.mark.django_db(databases="__all__", transaction=True)
@pytest.mark.parametrize("alias", list(settings.DATABASES))
@pytest.mark.parametrize("program", ["atomics"])
def test_a_death_at_any_point_on_a_database(
    program: str, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    for case in singles(program):
        swept(case, partial(OrmStore, alias=alias))  # type: ignore[arg-type]  # makes one


@pytest.mark.django_db(transaction=True)
def test_the_databases_pass_the_same_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    case = Case("all-kinds-def")
    assert points_of(case, OrmStore) == points_of(case)


# --- what the sweep is worth


@pytest.mark.parametrize(
    ("planted", "program"),
    [
        ("WritesOutside", "atomics"),
        ("TwoCommits", "sequence"),
        ("ForgetsPending", "sleep"),
        ("DoublesEvents", "mail-early"),
        ("CollectsEarly", "child"),
        ("OldestFirst", "cancel-compensated"),
        ("CancelFences", "cancel-branches"),
    ],
)
def test_a_planted_bug_is_found(planted: str, program: str) -> None:
    with pytest.raises(Violation):
        for case in singles(program):
            swept(case, PLANTED[planted])
