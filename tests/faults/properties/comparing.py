"""The rows of a journal, and what it answered, in the words of the reference."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any
from uuid import UUID

from django_hookflow.core import transitions as t
from django_hookflow.core.entries import Entry
from django_hookflow.journals.orm_rows import steps
from tests.faults.properties.reference import CRASHED, FENCED, OVER, Mail, Row, Step, StepId
from tests.journals.bench import Bench, Crash, MemoryBench, OrmBench

PLAIN = (
    "due_at", "owed_at", "deadline", "epoch", "lease_until", "lease_w", "wake_n", "signals", "seq",
    "waits", "nudges", "nudged_at", "deaths", "blocked", "blocked_n", "result",
)  # fmt: skip


def stored(bench: Bench, id: UUID) -> Row:
    """The run's row as the journal has it; which steps are superseded is asked of its claims."""
    run = bench.run(id)
    return Row(
        **{name: getattr(run, name) for name in PLAIN},
        status=str(run.status),
        uncaught=None if run.error is None else run.error.uncaught,
        steps=told_steps(bench.steps(id)),
        mail=tuple(Mail(**asdict(mail)) for mail in bench.mail(id)),
    )


def expected(row: Row) -> Row:
    """The reference's row without what :func:`stored` does not read."""
    return replace(row, superseded=frozenset(), steps=dict(row.steps))


def differences(got: Row, wanted: Row) -> dict[str, tuple[Any, Any]]:
    """Columns in which they differ, with both values."""
    pairs = {f.name: (getattr(got, f.name), getattr(wanted, f.name)) for f in fields(Row)}
    return {name: apart(*pair) for name, pair in pairs.items() if pair[0] != pair[1]}


def apart(got: Any, wanted: Any) -> tuple[Any, Any]:
    if not isinstance(got, dict):
        return got, wanted
    same = [key for key in got if key in wanted and got[key] == wanted[key]]
    return tuple({k: v for k, v in rows.items() if k not in same} for rows in (got, wanted))


def told_steps(entries: Any) -> dict[StepId, Step]:
    return {(entry.key, entry.series): told_step(entry) for entry in entries}


def told_step(entry: Entry) -> Step:
    return Step(
        kind=str(entry.kind),
        status=str(entry.status),
        seq=entry.seq,
        value=entry.value,
        error=None if entry.error is None else entry.error.message,
        attempt=entry.attempt,
        ready_at=entry.ready_at,
        requested_seq=entry.requested_seq,
    )


def epochs_by_seq(bench: Bench, id: UUID) -> list[tuple[int, int]]:
    """(seq, epoch) of each outcome, in the order of ``seq``."""
    if isinstance(bench, MemoryBench):
        rows = bench.journal._stored.steps.get(id, {}).values()
        pairs = [(row.entry.seq, row.epoch) for row in rows if row.entry.is_outcome]
    else:
        assert isinstance(bench, OrmBench)
        done = steps(bench.alias).filter(workflow_run=id, seq__isnull=False)
        pairs = list(done.values_list("seq", "epoch"))
    return sorted(pairs)


WORDS = {
    t.Claimed: "claimed",
    t.NotClaimed: "not claimed",
    t.Committed: "committed",
    t.NotYet: "not yet",
    t.StaysPaused: "paused",
    t.Finished: "finished",
    t.Over: OVER,
    t.Cancelled: "cancelled",
    t.Retried: "retried",
    t.NotFailed: "not failed",
    type(None): "released",
}


def told(answer: Any) -> str:
    if isinstance(answer, (bool, str)):
        return str(answer)
    if isinstance(answer, t.Suspended):
        return f"suspended {answer.owed}"
    if isinstance(answer, t.Signalled):
        return f"signalled {answer.owed}"
    if isinstance(answer, t.SignalsMoved):
        return f"moved {answer.seen}"
    return WORDS[type(answer)]


def attempt(bench: Bench, point: str, act: Any) -> Any:
    """The answer of ``act``, or that it was fenced or crashed at ``point`` (may be empty)."""
    bench.crash_at = point
    try:
        return act()
    except Crash:
        return CRASHED
    except t.Fenced:
        return FENCED
    finally:
        bench.crash_at = ""
