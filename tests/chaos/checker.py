"""What has to hold of the facts of a chaos run, by the names of the invariants.

I1  every run that was started has ended well, with the result that its journal says
I3  the journal has one outcome for each planned step and no other, and it is the ledger's
I4  an atomic step left one row, that of the execution which was recorded
I5  every other effect happened, under one idempotency key; a body was executed at most once more
    for each of its executions whose process was hit by a fault before its outcome was recorded
I6  no step started before the one before it was recorded
I8  nothing was recorded, and no row written, after the end of its run; nothing changed then
I9  no timer was early
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.chaos.facts import Execution, Facts, Fault, Step
from tests.chaos.shapes import CAUGHT, Planned

#: Clocks are read in microseconds, and rounded.
ROUNDING = 0.001


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """Which invariant a run breaks, and how."""

    invariant: str
    run: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.run}: {self.what}"


def check(facts: Facts) -> list[Violation]:
    """All violations."""
    checks: tuple[tuple[str, Callable[[Facts, str], Iterator[str]]], ...] = (
        ("I1", _ended_well), ("I3", _one_outcome), ("I4", _atomic), ("I5", _effects),
        ("I6", _order), ("I8", _rests), ("I9", _timers),
    )  # fmt: skip
    found = [*_strangers(facts)]
    for run in facts.plans:
        for name, question in checks:
            found += [
                Violation(invariant=name, run=run, what=what) for what in question(facts, run)
            ]
    return found


def _strangers(facts: Facts) -> Iterator[Violation]:
    """Runs that nobody started, and steps that nobody planned."""
    known = {(run, step.key): step.kind for run, steps in facts.planned.items() for step in steps}
    for run in set(facts.runs) - set(facts.plans):
        yield Violation(invariant="I1", run=run, what="nobody started it")
    for run, key in set(facts.executions) - set(known):
        yield Violation(invariant="I3", run=run, what=f"{key} was executed, and is not planned")
    for run, key in facts.rows:
        if known.get((run, key)) != "atomic":
            yield Violation(invariant="I4", run=run, what=f"{key} left a row and is not atomic")


# --- who was hit by what


def recorded(facts: Facts, run: str) -> dict[str, Step]:
    """The outcomes of a run by their keys."""
    return {step.key: step for step in facts.steps.get(run, ()) if step.finished is not None}


def note_of(step: Step) -> str:
    """The note of the execution that the journal recorded."""
    if step.kind == "call" and isinstance(step.result, dict):
        return str(step.result["data"]["note"])
    return str(step.result)


def hits(facts: Facts, execution: Execution, closed: float) -> list[Fault]:
    """The faults that can be the reason for one more execution.

    They hit its process before its outcome was safe (``closed``), and not before it began. One
    that was stopped, or whose connection was cut, can begin once more with what it knew before.
    """
    start = execution.start
    return [
        fault
        for fault in facts.faults.get(start.pid, ())
        if fault.began.at <= closed and start.at <= fault.done + _reach(fault, facts.lease)
    ]


def _reach(fault: Fault, lease: float) -> float:
    # A holder learns that it lost its run when it renews its lease, at the latest.
    return 0.0 if fault.what in ("kill", "host") else lease


def repeats(facts: Facts, run: str, step: Planned) -> Iterator[tuple[str, int, int, int]]:
    """For each attempt at a step: what it is, how often it started, had to, and may have."""
    outcome = recorded(facts, run).get(step.key)
    executions = facts.executions.get((run, step.key), ())
    attempts: dict[int, list[Execution]] = defaultdict(list)
    for each in executions:
        attempts[each.start.attempt].append(each)
    for attempt, group in sorted(attempts.items()):
        later = [each.start.at for each in executions if each.start.attempt > attempt]
        allowed = 0
        for each in group:
            mine = outcome is not None and note_of(outcome) == each.start.note
            safe = outcome.finished if mine and outcome else None
            closed = safe if safe is not None else min(later, default=float("inf"))
            allowed += bool(hits(facts, each, closed))
        # A call's attempts cannot be told apart by whoever is called.
        needed = 1 + (step.fail if step.kind == "call" else 0)
        yield f"{step.key} attempt {attempt}", len(group), needed, allowed


# --- the invariants


def _ended_well(facts: Facts, run: str) -> Iterator[str]:
    row = facts.runs.get(run)
    if row is None:
        yield "there is no such run"
    elif row.status != "completed":
        yield f"is {row.status} (error {row.error}, blocked {row.blocked!r})"
    else:
        notes = {key: note_of(step) for key, step in recorded(facts, run).items()}
        wanted = {
            step.key: CAUGHT if step.kind == "caught" else notes.get(step.key)
            for step in facts.planned[run]
            if step.kind != "sleep"
        }
        if row.result != wanted:
            yield f"its result is {row.result}, its journal says {wanted}"


def _one_outcome(facts: Facts, run: str) -> Iterator[str]:
    planned = {step.key: step for step in facts.planned[run]}
    counts = Counter(step.key for step in facts.steps.get(run, ()))
    if counts != Counter(planned.keys()):
        yield f"its journal has {dict(counts)}, and not each of {list(planned)} once"
    for key, step in recorded(facts, run).items():
        expected = planned.get(key)
        if expected is None or expected.kind == "sleep":
            continue
        wanted = "failed" if expected.kind == "caught" else "completed"
        if step.status != wanted:
            yield f"{key} is {step.status} ({step.error}), not {wanted}"
        executions = facts.executions.get((run, key), ())
        told = {each.start.note for each in executions if each.end is not None}
        if wanted == "completed" and note_of(step) not in told:
            yield f"{key}: the journal recorded {note_of(step)}, the ledger knows {sorted(told)}"


def _atomic(facts: Facts, run: str) -> Iterator[str]:
    outcomes = recorded(facts, run)
    for key in (step.key for step in facts.planned[run] if step.kind == "atomic"):
        notes = [row.note for row in facts.rows.get((run, key), ())]
        wanted = [note_of(outcomes[key])] if key in outcomes else []
        if notes != wanted:
            yield f"{key} left rows of the executions {notes}, the journal recorded {wanted}"


def _effects(facts: Facts, run: str) -> Iterator[str]:
    for step in facts.planned[run]:
        executions = facts.executions.get((run, step.key), ())
        idems = {each.start.idem for each in executions}
        if len(idems) > 1:
            yield f"{step.key} has the idempotency keys {sorted(idems)}"
        done = recorded(facts, run).get(step.key)
        outside = done and done.status == "completed" and step.kind not in ("sleep", "atomic")
        if outside and not any(each.effect for each in executions):
            yield f"{step.key} is completed and had no effect"
        for name, count, needed, allowed in repeats(facts, run, step):
            if count > needed + allowed:
                yield f"{name} started {count} times; {needed} needed, {allowed} for faults"


def _order(facts: Facts, run: str) -> Iterator[str]:
    outcomes, stages = recorded(facts, run), facts.planned[run]
    for step in stages:
        begun = [each.start for each in facts.executions.get((run, step.key), ())]
        for before in stages:
            if not begun or before.stage != step.stage - 1:
                continue
            outcome = outcomes.get(before.key)
            if outcome is None or (outcome.finished or 0) > begun[0].at:
                yield f"{step.key} started at {begun[0].at}, before the record of {before.key}"


def _rests(facts: Facts, run: str) -> Iterator[str]:
    row = facts.runs.get(run)
    if row is None or row.finished is None:
        return
    if run in facts.ended and facts.ended[run] != facts.final.get(run):
        yield "its row changed after its end"
    for key, step in recorded(facts, run).items():
        if (step.finished or 0) > row.finished:
            yield f"{key} was recorded after the end"
    for step in facts.planned[run]:
        if any(each.created > row.finished for each in facts.rows.get((run, step.key), ())):
            yield f"{step.key} wrote a row after the end"
        for each in facts.executions.get((run, step.key), ()):
            late = each.start.at > row.finished
            if late and not hits(facts, each, float("inf")):
                yield f"{step.key} started after the end, in a process that nothing had hit"


def _timers(facts: Facts, run: str) -> Iterator[str]:
    outcomes, stages = recorded(facts, run), facts.planned[run]
    for step in stages:
        outcome = outcomes.get(step.key)
        if step.kind == "sleep" and outcome is not None and outcome.wake is not None:
            if abs(outcome.wake - outcome.started - step.seconds) > ROUNDING:
                yield f"{step.key} is to end {outcome.wake - outcome.started} s after its start"
            if (outcome.finished or 0) < outcome.wake:
                yield f"{step.key} ended before its time"
            yield from _early_step(facts, run, step)


def _early_step(facts: Facts, run: str, sleep: Planned) -> Iterator[str]:
    """By the ledger's clock alone: the steps around a sleep."""
    before = [s.key for s in facts.planned[run] if s.stage == sleep.stage - 1]
    after = [s.key for s in facts.planned[run] if s.stage == sleep.stage + 1]
    ends = [e.end.at for key in before for e in facts.executions.get((run, key), ()) if e.end]
    starts = [e.start.at for key in after for e in facts.executions.get((run, key), ())]
    if ends and starts and min(starts) < min(ends) + sleep.seconds - ROUNDING:
        yield f"{after} started {min(starts) - min(ends)} s after {before}, not {sleep.seconds}"
