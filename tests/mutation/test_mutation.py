"""The command itself: it catches what a weak suite lets through, and trusts no red one."""

import subprocess
import sys

import pytest

from tests.mutation.__main__ import MODULES, ROOT, all_mutants
from tests.mutation.survivors import SURVIVORS

SAMPLE = "tests/mutation/sample"


def command(suite: str) -> subprocess.CompletedProcess[str]:
    arguments = ["--modules", f"{SAMPLE}/stock.py", "--tests", f"{SAMPLE}/{suite}.py"]
    return subprocess.run(
        [sys.executable, "-m", "tests.mutation", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_each_change_has_a_name_and_shows_what_it_does() -> None:
    mutants = all_mutants([f"{SAMPLE}/stock.py"], None)
    assert [mutant.name for mutant in mutants] == [
        "sample/stock:: 10: plus 1",
        "sample/stock:fits: return 0 < amount <= MOST: returns None",
        "sample/stock:fits: 0 < amount <= MOST: Lt becomes LtE",
        "sample/stock:fits: 0 < amount <= MOST: Lt becomes GtE",
        "sample/stock:fits: 0 < amount <= MOST: LtE becomes Lt",
        "sample/stock:fits: 0 < amount <= MOST: LtE becomes Gt",
        "sample/stock:fits: 0: plus 1",
    ]
    assert [mutant.site.where.inside for mutant in mutants] == [False] + 6 * [True]
    assert mutants[2].diff() == "-    return 0 < amount <= MOST\n+    return 0 <= amount <= MOST"
    assert mutants[2].diff() == mutants[2].diff()  # the tree is as it was


def test_the_decisions_have_many_mutants_each_with_a_name_of_its_own() -> None:
    mutants = all_mutants(MODULES, None)
    assert len({mutant.name for mutant in mutants}) == len(mutants) > 2000
    assert {mutant.module for mutant in mutants} > {
        "django_hookflow.core.replay",
        "django_hookflow.journals.memory_outside",
    }


def test_every_survivor_of_the_list_is_a_mutant_that_there_is() -> None:
    known = {mutant.name for mutant in all_mutants(MODULES, None)}
    listed = [name for names in SURVIVORS.values() for name in names]
    assert [name for name in listed if name not in known] == []
    assert len(set(listed)) == len(listed)


@pytest.mark.slow
def test_a_suite_that_knows_the_limits_kills_every_mutant() -> None:
    done = command("strong")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SURVIVED" not in done.stdout
    assert "100.0%" in done.stdout


@pytest.mark.slow
def test_a_suite_that_looks_at_the_middle_only_lets_the_limits_survive() -> None:
    done = command("weak")
    assert done.returncode == 1, done.stdout + done.stderr
    survivors = [line for line in done.stdout.splitlines() if line.startswith("sample/stock:")]
    assert survivors == [
        "sample/stock:fits: 0 < amount <= MOST: Lt becomes LtE",
        "sample/stock:fits: 0 < amount <= MOST: LtE becomes Lt",
        "sample/stock:fits: 0: plus 1",
        "sample/stock:: 10: plus 1",
    ]
    assert "+    return 0 < amount < MOST" in done.stdout


@pytest.mark.slow
def test_a_suite_that_is_red_by_itself_kills_nothing() -> None:
    done = command("red")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "test_that_fails_whatever_is_planted fails without any mutant" in done.stderr
