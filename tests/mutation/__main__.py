"""``python -m tests.mutation [--only MODULE] [--sample N --seed S] [--jobs N]``.

Exits with 1 if a mutant survived that ``survivors.py`` does not list, with 2 if the suite is
red without any.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.survivors import SURVIVORS, reason
from tests.mutation.trials import RedSuite, Verdict, try_all

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("src/django_hookflow/core/*.py", "src/django_hookflow/journals/memory*.py")
TESTS = ("tests/core", "tests/journals")


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    # Found and not imported: what a module does when it is imported is changed as well.
    package = find_spec("django_hookflow")
    if package is None or not Path(str(package.origin)).is_relative_to(ROOT):
        print(f"the tests would not import what is in {ROOT}: set PYTHONPATH", file=sys.stderr)
        return 2
    mutants = all_mutants(options.modules, options.only)
    everything = not options.only and not options.sample and tuple(options.modules) == MODULES
    if options.sample:
        chosen = random.Random(options.seed).sample(mutants, min(options.sample, len(mutants)))
        mutants = sorted(chosen, key=mutants.index)
    began = time.monotonic()
    try:
        verdicts = []
        for verdict in watched(try_all(mutants, options.tests, options.jobs), len(mutants)):
            verdicts.append(verdict)
            if options.report:
                note(options.report, verdict)
    except RedSuite as error:
        print(error, file=sys.stderr)
        return 2
    print_table(verdicts, time.monotonic() - began)
    wrong = print_survivors(verdicts)
    if everything:
        wrong += print_strays(verdicts)
    return 1 if wrong else 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.mutation")
    made.add_argument("--only", action="append", help="a module's name, as core.replay; repeatable")
    made.add_argument("--sample", type=int, help="try so many, chosen by chance")
    made.add_argument("--seed", type=int, default=0, help="of that chance")
    made.add_argument("--jobs", type=int, default=1, help="mutants tried at a time")
    made.add_argument("--report", type=Path, help="add every verdict to this file, as JSON lines")
    made.add_argument("--modules", nargs="+", default=MODULES, help="files to change, as patterns")
    made.add_argument("--tests", nargs="+", default=TESTS, help="what is run, as pytest takes it")
    return made


def all_mutants(patterns: Iterable[str], only: Sequence[str] | None) -> list[Mutant]:
    found = []
    for path in sorted(path for pattern in patterns for path in ROOT.glob(pattern)):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removeprefix("src.")
        if not only or any(module.endswith(f".{name}") for name in only):
            found += mutants_of(path, module)
    return found


def watched(verdicts: Iterable[Verdict], count: int) -> Iterable[Verdict]:
    survived = 0
    began = time.monotonic()
    for number, verdict in enumerate(verdicts, start=1):
        survived += verdict.how == "survived"
        if number % 100 == 0 or number == count:
            seconds = time.monotonic() - began
            print(f"{number}/{count} tried, {survived} survived, {seconds:.0f} s", flush=True)
        yield verdict


def print_table(verdicts: Iterable[Verdict], seconds: float) -> None:
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in verdicts:
        for name in (verdict.mutant.module.removeprefix("django_hookflow."), "all"):
            rows[name][verdict.how] += 1
    print(f"\n{'module':28}{'mutants':>9}{'killed':>9}{'timed out':>11}{'survived':>10}{'':>8}")
    for name, hows in sorted(rows.items(), key=lambda row: (row[0] == "all", row[0])):
        count = sum(hows.values())
        dead = hows["killed"] + hows["timed out"]
        print(
            f"{name:28}{count:9}{hows['killed']:9}{hows['timed out']:11}{hows['survived']:10}"
            f"{100 * dead / count:7.1f}%"
        )
    print(f"{seconds:.0f} s")


def print_survivors(verdicts: Iterable[Verdict]) -> int:
    """How many of them nothing explains."""
    survivors = [verdict for verdict in verdicts if verdict.how == "survived"]
    whys = Counter(reason(verdict.mutant.name) for verdict in survivors)
    for why, count in whys.items():
        if why:
            print(f"\n{count} survived: {why}")
    for verdict in survivors:
        if not reason(verdict.mutant.name):
            mutant = verdict.mutant
            print(f"\nSURVIVED {mutant.path.relative_to(ROOT)}:{mutant.site.line} {verdict.by}")
            print(f"{mutant.name}\n{mutant.diff()}")
    return whys[""]


def print_strays(verdicts: Iterable[Verdict]) -> int:
    """How many names of the list are no survivor's (any more)."""
    survived = {verdict.mutant.name for verdict in verdicts if verdict.how == "survived"}
    strays = [name for names in SURVIVORS.values() for name in names if name not in survived]
    for name in strays:
        print(f"\nLISTED in survivors.py, but no survivor: {name}")
    return len(strays)


def note(path: Path, verdict: Verdict) -> None:
    name, line = verdict.mutant.name, verdict.mutant.site.line
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"name": name, "line": line, "how": verdict.how, "by": verdict.by}))
        file.write("\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
