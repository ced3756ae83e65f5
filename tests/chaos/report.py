"""The figures of a chaos run, and what to look at when something is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from tests.chaos.checker import Violation, hits, recorded, repeats
from tests.chaos.facts import Facts

#: Violations that are shown with their ledger lines.
SHOWN = 10


@dataclass(kw_only=True)
class Figures:
    """What was done, and what came of it."""

    database: str
    seconds: float
    drained: float
    done: Mapping[str, int]
    qstash: Mapping[str, int]
    doctor: Sequence[str]
    runs: int = 0
    lost: int = 0
    steps: int = 0
    bodies: int = 0
    atomic: int = 0
    atomic_twice: int = 0
    #: Bodies that started once more than they had to, atomic ones that were rolled back included;
    #: how many may have, by the faults that hit them; those that no fault explains.
    repeats: int = 0
    bound: int = 0
    unexplained: int = 0
    #: Effects outside of the database that happened once more.
    effects_again: int = 0
    #: Faults of processes by what they were, and those of them that hit a body in execution.
    struck: Mapping[str, int] = field(default_factory=dict)
    #: Seconds after their time, by sleeps: half of them, 99 of 100, the last.
    late: tuple[float, float, float] = (0.0, 0.0, 0.0)
    #: Attempts that began before the delay after the failed one was over, and by how much most.
    early: tuple[int, float] = (0, 0.0)

    def plain(self) -> dict[str, object]:
        return asdict(self)


def fill(figures: Figures, facts: Facts) -> None:
    """Count what the facts say."""
    figures.runs = len(facts.plans)
    ended = [run for run in facts.runs.values() if run.status == "completed"]
    figures.lost = figures.runs - len(ended)
    figures.steps = sum(len(recorded(facts, run)) for run in facts.plans)
    figures.bodies = sum(len(each) for each in facts.executions.values())
    figures.atomic = sum(len(rows) for rows in facts.rows.values())
    figures.atomic_twice = sum(len(rows) - 1 for rows in facts.rows.values())
    figures.effects_again = sum(
        max(0, sum(each.effect is not None for each in executions) - 1)
        for executions in facts.executions.values()
    )
    for run, steps in facts.planned.items():
        for step in steps:
            for _, count, needed, allowed in repeats(facts, run, step):
                more = max(0, count - needed)
                figures.repeats += more
                figures.bound += allowed
                figures.unexplained += max(0, more - allowed)
    figures.struck = _struck(facts)
    figures.late = _late(facts)
    figures.early = _early(facts)


def _struck(facts: Facts) -> dict[str, int]:
    found: dict[str, set[str]] = {}
    for (run, key), executions in facts.executions.items():
        outcome = recorded(facts, run).get(key)
        finished = outcome.finished if outcome and outcome.finished else float("inf")
        for each in executions:
            for fault in hits(facts, each, finished):
                if each.start.at <= fault.began.at:
                    found.setdefault(fault.what, set()).add(fault.began.note)
    return dict(Counter({what: len(numbers) for what, numbers in found.items()}))


def _late(facts: Facts) -> tuple[float, float, float]:
    sleeps = sorted(
        step.finished - step.wake
        for steps in facts.steps.values()
        for step in steps
        if step.kind == "sleep" and step.finished is not None and step.wake is not None
    )
    if not sleeps:
        return (0.0, 0.0, 0.0)
    places = (len(sleeps) // 2, len(sleeps) * 99 // 100, len(sleeps) - 1)
    return tuple(round(sleeps[place], 3) for place in places)  # type: ignore[return-value]


def _early(facts: Facts) -> tuple[int, float]:
    early = []
    for run, steps in facts.planned.items():
        for step in (step for step in steps if step.kind == "retry"):
            first: dict[int, float] = {}
            for each in facts.executions.get((run, step.key), ()):
                first.setdefault(each.start.attempt, each.start.at)
            gaps = [at - first[n - 1] for n, at in first.items() if n - 1 in first]
            early += [step.seconds - gap for gap in gaps if gap < step.seconds]
    return len(early), round(max(early, default=0.0), 3)


# --- for people


def table(figures: Figures) -> Iterator[str]:
    """The figures, one a line."""
    done = ", ".join(f"{count} {what}" for what, count in sorted(figures.done.items()))
    struck = ", ".join(f"{count} {what}" for what, count in sorted(figures.struck.items()))
    qstash = ", ".join(f"{count} {what}" for what, count in figures.qstash.items())
    rows = {
        "database": figures.database,
        "time": f"{figures.seconds:.0f} s, of which {figures.drained:.0f} s after the last fault",
        "faults": done or "none",
        "  during a body": struck or "none",
        "QStash": qstash,
        "runs": f"{figures.runs}, {figures.lost} lost",
        "steps recorded": f"{figures.steps}; {figures.bodies} executions of their bodies",
        "atomic rows": f"{figures.atomic}, {figures.atomic_twice} of them twice",
        "repeated bodies": f"{figures.repeats}; {figures.bound} explained by faults at most, "
        f"{figures.unexplained} unexplained",
        "repeated effects": f"{figures.effects_again}",
        "sleeps late by": "p50 {:.2f} s, p99 {:.2f} s, most {:.2f} s".format(*figures.late),
        "early retries": "{}, by {:.3f} s at most".format(*figures.early),
        "doctor": "; ".join(figures.doctor) or "all invariants hold",
    }
    for name, value in rows.items():
        yield f"  {name:<18} {value}"


def trouble(violations: Sequence[Violation], facts: Facts) -> Iterator[str]:
    """The violations, each with its run's ledger lines and the faults near them."""
    yield f"{len(violations)} violation(s):"
    told = set()
    for violation in violations[:SHOWN]:
        yield f"* {violation}"
        if violation.run in told:
            continue
        told.add(violation.run)
        lines = facts.about(violation.run)
        pids = {line.pid for line in lines}
        faults = [line for line in facts.lines if not line.run and line.pid in pids]
        for line in sorted([*lines, *faults], key=lambda line: line.seq):
            yield f"    {line}"
        for step in facts.steps.get(violation.run, ()):
            yield f"    {step}"
    if len(violations) > SHOWN:
        yield f"and {len(violations) - SHOWN} more"
