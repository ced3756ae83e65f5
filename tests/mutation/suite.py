"""The suite inside of pytest: which of its tests run a function, and those tests on a mutant."""

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Union

import hypothesis
import pytest
from _pytest.runner import runtestprotocol
from django.db import connections

from tests.mutation.forks import Ended, Limit, fork_each
from tests.mutation.mutants import Mutant
from tests.mutation.planting import plant

Following = Union[pytest.Item, pytest.Session]

#: Said in the place of a test's name where none runs the mutant.
NOBODY = "-"


def calm_hypothesis() -> None:
    """The same examples for every mutant, none looked for again, none judged by the clock."""
    hypothesis.settings.register_profile(
        "mutation",
        derandomize=True,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    hypothesis.settings.load_profile("mutation")


class Selection:
    """Leaves out what needs a database: a mutant costs milliseconds then."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if needs_no_database(item)]


class QuickFirst(Selection):
    """Puts what opens no database first, and what tries many examples last."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        super().pytest_collection_modifyitems(items)
        items.sort(key=lambda item: (tries_many(item), opens_database(item)))


def tries_many(item: pytest.Item) -> bool:
    return getattr(getattr(item, "obj", None), "is_hypothesis_test", False)


def opens_database(item: pytest.Item) -> bool:
    return item.get_closest_marker("django_db") is not None


def needs_no_database(item: pytest.Item) -> bool:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return params.get("bench") == "memory" or not opens_database(item)


class Session(Selection):
    """Runs the suite once as it is, noting who runs what; then a part of it for each mutant."""

    def __init__(self, mutants: Sequence[Mutant], jobs: int, tell: Callable[[Any], None]) -> None:
        self._mutants = mutants
        self._jobs = jobs
        self._tell = tell
        self._paths = {str(mutant.path) for mutant in mutants}
        self._cost: dict[pytest.Item, float] = {}
        self._tests: dict[tuple[str, int], set[pytest.Item]] = defaultdict(set)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = session.items
        for item, following in in_order(items):
            if failed := self._note(item, following):
                self._tell({"red": failed})
                return True
        connections.close_all()  # SQLite's may not be taken into another process
        if failed := self._control():
            self._tell({"red": failed})
            return True
        for mutant, ended in self._trials():
            self._tell({"name": mutant.name, **verdict(ended)})
        return True

    def _control(self) -> str:
        """What fails in a fork with nothing planted: it would be taken for a mutant's killer."""
        every = sorted(self._cost, key=lambda item: (self._cost[item], item.nodeid))
        limit = Limit(cpu=60 + 5 * sum(self._cost.values()), wall=600)
        ((_, ended),) = fork_each([every], run_each, lambda _: limit, 1)
        return "a fork of the suite" if ended.answer is None else ended.answer

    def _trials(self) -> Iterator[tuple[Mutant, Ended]]:
        return fork_each(self._mutants, self._try, self._limit, self._jobs)

    def _note(self, item: pytest.Item, following: Following) -> str:
        lines: set[tuple[str, int]] = set()

        def profile(frame: FrameType, event: str, arg: Any) -> None:
            if event == "call" and frame.f_code.co_filename in self._paths:
                lines.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

        began = time.process_time()
        threading.setprofile(profile)
        sys.setprofile(profile)
        try:
            failed = first_failure(item, following)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]  # as its documentation says
        self._cost[item] = time.process_time() - began
        for line in lines:
            self._tests[line].add(item)
        return failed

    def _those_of(self, mutant: Mutant) -> list[pytest.Item]:
        """The tests that run the function, the quickest first."""
        first, last = span(mutant)
        found: set[pytest.Item] = set()
        for (path, line), tests in self._tests.items():
            if path == str(mutant.path) and first <= line <= last:
                found |= tests
        return sorted(found, key=lambda item: (self._cost[item], item.nodeid))

    def _limit(self, mutant: Mutant) -> Limit:
        usual = sum(self._cost[item] for item in self._those_of(mutant))
        return Limit(cpu=3 + 5 * usual, wall=120 + 30 * usual)

    def _try(self, mutant: Mutant) -> str:
        plant(mutant)
        items = self._those_of(mutant)
        return run_each(items) if items else NOBODY


def span(mutant: Mutant) -> tuple[int, int]:
    """First and last line of the mutant's function."""
    found: Any = mutant.tree
    for name in mutant.site.where.owner.split("."):
        found = next(node for node in found.body if getattr(node, "name", "") == name)
    return min([found.lineno, *(d.lineno for d in found.decorator_list)]), found.end_lineno


def run_each(items: Sequence[pytest.Item]) -> str:
    """The first test that fails; empty if none does."""
    for item, following in in_order(items):
        if failed := first_failure(item, following):
            return failed
    return ""


def in_order(items: Sequence[pytest.Item]) -> Iterator[tuple[pytest.Item, Following]]:
    """Each with what follows it: after the last only what all tests share has to stay."""
    return zip(items, [*items[1:], *(item.session for item in items[-1:])], strict=True)


def first_failure(item: pytest.Item, following: Following) -> str:
    reports = runtestprotocol(item, log=False, nextitem=following)
    for report in reports:
        if report.failed:
            print(report.nodeid, report.longreprtext)
            return report.nodeid
    return ""


def verdict(ended: Ended) -> dict[str, Any]:
    """``killed`` by a test, by the clock or by its own end; or it survived."""
    if ended.timed_out:
        return {"how": "timed out", "by": ""}
    if ended.answer is None:
        return {"how": "killed", "by": "the process ended"}
    if ended.answer in ("", NOBODY):
        return {"how": "survived", "by": "no test runs it" if ended.answer else ""}
    return {"how": "killed", "by": ended.answer}
