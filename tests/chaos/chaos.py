"""One chaos run: start, let the monkey loose, drain, look."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from django.core.management import call_command
from django.db import connections

from django_hookflow import Start
from django_hookflow.diagnosis import VIOLATIONS, ask
from django_hookflow.registry import registry
from tests.chaos.checker import Violation, check
from tests.chaos.facts import Facts, ended, read
from tests.chaos.monkey import Monkey
from tests.chaos.report import Figures, fill
from tests.chaos.scene import Scene
from tests.chaos.shapes import Stage, choose
from tests.chaos.timeline import Amounts, timeline

#: How often something is said and the journal examined, in seconds.
SAY_EVERY, EXAMINE_EVERY = 5.0, 10.0
#: Once nothing is done to them any more, all runs have to end in so many seconds.
LIMIT = 300.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is asked for."""

    amounts: Amounts
    seed: int
    alias: str
    folder: Path
    plant: str
    server: str
    lease: float
    shapes: Sequence[str] = ()
    #: Seconds without any run's end after which the others count as lost.
    patience: float


@dataclass(kw_only=True)
class Watch:
    """What is seen of the runs while they go on."""

    alias: str
    plans: dict[str, list[Stage]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def look(self) -> None:
        self.ended |= ended(self.alias, self.ended)

    def examine(self) -> None:
        """The doctor's questions, at any moment (I3, I7, I8, I11)."""
        for finding in ask(self.alias, VIOLATIONS):
            text = f"{finding.name}: {', '.join(finding.runs[:3])}"
            if text not in self.findings:
                self.findings.append(text)

    @property
    def open(self) -> int:
        return len(self.plans) - len(self.ended)


@contextmanager
def database(alias: str) -> Iterator[None]:
    """A database of this run's own, with its tables; gone afterwards."""
    connection = connections[alias]
    name = connection.ops.quote_name(str(connection.settings_dict["NAME"]))
    on_server = connection.vendor == "postgresql"
    if on_server:
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
    try:
        call_command("migrate", database=alias, verbosity=0, skip_checks=True)
        yield
    finally:
        connection.close()
        if on_server:
            with connection._nodb_cursor() as cursor:
                cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def run(options: Options, say: Callable[[str], None]) -> tuple[Figures, list[Violation], Facts]:
    """The whole of it; what it started has ended when this returns, whatever happened."""
    with database(options.alias):
        _plant_in_database(options)
        scene = Scene(options.folder, options.alias, options.server, options.lease)
        os.environ.update(scene.settings)
        try:
            scene.start()
            return _with(scene, options, say)
        finally:
            scene.stop()


def _plant_in_database(options: Options) -> None:
    """``no-fence`` takes the second barrier away, too."""
    if options.plant == "no-fence" and connections[options.alias].vendor == "postgresql":
        with connections[options.alias].cursor() as cursor:
            cursor.execute("ALTER TABLE django_hookflow_workflowstep"
                           " DROP CONSTRAINT hookflow_step_once")  # fmt: skip


def _with(
    scene: Scene, options: Options, say: Callable[[str], None]
) -> tuple[Figures, list[Violation], Facts]:
    rng, watch = Random(options.seed), Watch(alias=options.alias)
    programs = Random(options.seed + 1)

    def start(count: int) -> None:
        _start_runs(watch, [choose(programs, options.shapes) for _ in range(count)])

    events = timeline(options.amounts, rng, options.lease)
    monkey = Monkey(scene, rng, events, start)
    steady = _Steady(monkey, watch, say)
    while not monkey.over:
        monkey.act(0.5)
        steady.turn()
    monkey.calm()
    calm_at = ended_at = monkey.elapsed
    while watch.open and monkey.elapsed < min(ended_at + options.patience, calm_at + LIMIT):
        before = watch.open
        monkey.act(0.5)
        steady.turn()
        ended_at = monkey.elapsed if watch.open < before else ended_at
    drained = monkey.elapsed - calm_at
    time.sleep(options.lease + 1)  # whoever still believes to hold a run finds out in this time
    watch.examine()
    facts = read(options.alias, options.folder, watch.plans, watch.ended, options.lease)
    figures = Figures(
        database=connections[options.alias].vendor, seconds=monkey.elapsed, drained=drained,
        done=dict(monkey.counts), qstash=scene.told(),
        doctor=[*watch.findings, *_doctor()],
    )  # fmt: skip
    fill(figures, facts)
    return figures, [*check(facts), *_found(figures.doctor)], facts


def _start_runs(watch: Watch, programs: Sequence[tuple[str, str, list[Stage]]]) -> None:
    """Start a run of each program: workflow, shape, plan."""
    starts: dict[str, list[Start]] = {}
    for workflow, shape, plan in programs:
        run_id = f"{workflow.partition('.')[2]}-{shape}-{len(watch.plans)}"
        watch.plans[run_id] = plan
        starts.setdefault(workflow, []).append(Start({"plan": plan}, run_id=run_id))
    for workflow, items in starts.items():
        found = registry.find(workflow, "")
        assert found is not None
        found.trigger_many(items)


class _Steady:
    """What is done between faults: look, examine, say how it goes."""

    def __init__(self, monkey: Monkey, watch: Watch, say: Callable[[str], None]) -> None:
        self._monkey, self._watch, self._say = monkey, watch, say
        self._said = self._examined = 0.0

    def turn(self) -> None:
        self._watch.look()
        elapsed, counts = self._monkey.elapsed, self._monkey.counts
        if elapsed > self._examined + EXAMINE_EVERY:
            self._examined = elapsed
            self._watch.examine()
        if elapsed > self._said + SAY_EVERY:
            self._said = elapsed
            done = "  ".join(f"{what} {count}" for what, count in sorted(counts.items()))
            runs = f"started {len(self._watch.plans)}  ended {len(self._watch.ended)}"
            self._say(f"{elapsed:5.0f} s  {runs}  {done}")


def _doctor() -> Sequence[str]:
    """What the command says is wrong with the journal, as anybody would ask it."""
    done = subprocess.run(
        [sys.executable, "-m", "django", "hookflow", "doctor", "--json"],
        env=os.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        journal = json.loads(done.stdout)["journal"]
    except ValueError:
        return [f"the doctor failed: {done.stderr[-500:]}"]
    found = [f"{each['name']}: {', '.join(each['runs'][:3])}" for each in journal["violations"]]
    return [*found, *filter(None, [journal["trouble"]])]


def _found(doctor: Sequence[str]) -> list[Violation]:
    return [
        Violation(invariant="doctor", run=text.partition(": ")[2].partition(",")[0], what=text)
        for text in doctor
    ]
