"""The two ways to try a mutant.

One inside of a function is planted into a process that has collected the suite already. One
outside of functions (a limit, a table, a default) has been taken over by other modules by then,
so that each gets a process that imports everything anew; all else is imported before the fork.
"""

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.forks import Limit, fork_each
from tests.mutation.mutants import Mutant
from tests.mutation.planting import Importer


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``how`` is ``killed``, ``timed out`` or ``survived``; ``by`` is what killed it."""

    mutant: Mutant
    how: str
    by: str


class RedSuite(Exception):
    """The suite fails without any mutant, or could not be run."""


def try_all(mutants: Sequence[Mutant], tests: Sequence[str], jobs: int) -> Iterator[Verdict]:
    os.environ.update(HOOKFLOW_TEST_PG="off", HOOKFLOW_TEST_MARIADB="off")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    with tempfile.TemporaryDirectory(prefix="hookflow-mutation-") as folder:
        inside = [mutant for mutant in mutants if mutant.site.where.inside]
        outside = [mutant for mutant in mutants if not mutant.site.where.inside]
        if inside:
            yield from _try_inside(inside, tests, jobs, Path(folder))
        if outside:
            yield from _try_outside(outside, tests, jobs, Path(folder))


def _try_inside(
    mutants: Sequence[Mutant], tests: Sequence[str], jobs: int, folder: Path
) -> Iterator[Verdict]:
    results, mine = os.pipe()
    log = folder / "log"
    pid = os.fork()
    if not pid:
        os.close(results)
        _session(mutants, tests, jobs, mine, log)
    os.close(mine)
    by_name = {mutant.name: mutant for mutant in mutants}
    with os.fdopen(results, encoding="utf-8") as lines:
        for line in lines:
            told = json.loads(line)
            if "red" in told:
                raise RedSuite(f"{told['red']} fails without any mutant:\n{log.read_text()}")
            yield Verdict(mutant=by_name.pop(told.pop("name")), **told)
    os.waitpid(pid, 0)
    if by_name:
        raise RedSuite(f"the suite could not be run:\n{log.read_text()}")


def _session(
    mutants: Sequence[Mutant], tests: Sequence[str], jobs: int, results: int, log: Path
) -> None:
    """The process that collects the suite; does not return."""
    try:
        _write_to(log)
        _alone(log.parent / "session")

        from tests.mutation.suite import Session, calm_hypothesis  # after the fork: it is heavy

        def tell(told: Any) -> None:
            os.write(results, (json.dumps(told) + "\n").encode())

        calm_hypothesis()
        pytest.main(_arguments(tests), plugins=[Session(mutants, jobs, tell)])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _try_outside(
    mutants: Sequence[Mutant], tests: Sequence[str], jobs: int, folder: Path
) -> Iterator[Verdict]:
    from tests.mutation.suite import QuickFirst, calm_hypothesis, verdict

    def work(mutant: Mutant | None) -> str:
        _alone(folder / f"{os.getpid()}")
        _write_to(folder / f"{os.getpid()}.log")
        if mutant is not None:
            # At once: pytest puts an importer of its own before all others.
            sys.meta_path.insert(0, Importer(mutant))
            import_module(mutant.module)
        calm_hypothesis()
        code = pytest.main([*_arguments(tests), "-x"], plugins=[QuickFirst()])
        return "" if code == pytest.ExitCode.OK else f"pytest: {code!s}"

    ((_, ended),) = fork_each([None], work, lambda _: Limit(cpu=300, wall=900), 1)
    if ended.answer != "":
        raise RedSuite("the suite fails without any mutant, imported anew")
    limit = Limit(cpu=10 + 5 * ended.seconds, wall=120 + 30 * ended.seconds)
    for mutant, ended in fork_each(mutants, work, lambda _: limit, jobs):
        yield Verdict(mutant=mutant, **verdict(ended))


def _arguments(tests: Sequence[str]) -> list[str]:
    # What a failed assertion would show, nobody reads; it would cost seconds for each process.
    return ["-q", "-p", "no:cacheprovider", "--assert=plain", *tests]


def _alone(folder: Path) -> None:
    """Make this fork a test run with a folder of its own (tests/settings.py)."""
    os.environ.update(HOOKFLOW_TEST_DIR=str(folder), HOOKFLOW_TEST_ID=str(os.getpid()))


def _write_to(log: Path) -> None:
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
