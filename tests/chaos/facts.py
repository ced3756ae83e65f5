"""What a chaos run left: rows of the journal and of the app, and lines of the ledger.

Plain values, so that the checker can be given falsified ones.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from django.apps import apps

from django_hookflow.core.entries import TERMINAL
from tests.app.models import Effect
from tests.chaos.ledger import Line, read_lines
from tests.chaos.shapes import Planned, Stage, planned

Key = tuple[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A row of ``WorkflowRun``."""

    status: str
    result: Any
    error: Any = None
    blocked: str = ""
    finished: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A row of ``WorkflowStep``."""

    key: str
    kind: str
    status: str
    result: Any
    error: Any = None
    started: float = 0.0
    finished: float | None = None
    wake: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """The effect of one atomic body."""

    note: str
    created: float


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that was done to a process; from the line before it to the line after it."""

    what: str
    pid: int
    began: Line
    done: float


@dataclass(frozen=True, kw_only=True)
class Execution:
    """One execution of a body: its lines in the ledger."""

    start: Line
    effect: Line | None = None
    end: Line | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything that the checker looks at."""

    lease: float
    #: By run id: the plans of all that were started.
    plans: Mapping[str, Sequence[Stage]]
    runs: Mapping[str, Run]
    steps: Mapping[str, Sequence[Step]]
    rows: Mapping[Key, Sequence[Row]]
    lines: Sequence[Line]
    #: By run id: its row when it was first seen ended, and at the very end.
    ended: Mapping[str, str] = field(default_factory=dict)
    final: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def planned(self) -> dict[str, list[Planned]]:
        return {run_id: planned(plan) for run_id, plan in self.plans.items()}

    @cached_property
    def executions(self) -> dict[Key, list[Execution]]:
        """By run and step, in the order of their starts."""
        told: dict[tuple[str, str, str], dict[str, Line]] = {}
        found: dict[Key, list[Execution]] = defaultdict(list)
        for line in self.lines:
            if line.run and line.kind != "start":
                told.setdefault((line.run, line.key, line.note), {})[line.kind] = line
        for line in self.lines:
            if line.kind == "start":
                more = told.get((line.run, line.key, line.note), {})
                found[line.run, line.key].append(
                    Execution(start=line, effect=more.get("effect"), end=more.get("end"))
                )
        return found

    @cached_property
    def faults(self) -> dict[int, list[Fault]]:
        """By process."""
        done = {line.note: line.at for line in self.lines if line.kind == "done"}
        found: dict[int, list[Fault]] = defaultdict(list)
        for line in self.lines:
            if line.kind == "fault":
                end = done.get(line.note, float("inf"))
                found[line.pid].append(Fault(what=line.key, pid=line.pid, began=line, done=end))
        return found

    def about(self, run_id: str) -> list[Line]:
        return [line for line in self.lines if line.run == run_id]


# --- reading


def _runs(alias: str) -> Any:
    return apps.get_model("django_hookflow", "WorkflowRun")._base_manager.using(alias)


def _steps(alias: str) -> Any:
    return apps.get_model("django_hookflow", "WorkflowStep")._base_manager.using(alias)


def ended(alias: str, known: Mapping[str, str]) -> dict[str, str]:
    """By run id, what must not change any more of the runs that have ended; not the known ones."""
    columns = ("run_id", "status", "result", "error", "seq", "epoch", "finished_at")
    rows = _runs(alias).filter(status__in=TERMINAL).exclude(run_id__in=known)
    return {row[0]: _digest(row) for row in rows.values_list(*columns)}


def _digest(row: Sequence[object]) -> str:
    return hashlib.sha256(repr(row).encode()).hexdigest()


def read(
    alias: str, folder: Path, plans: Mapping[str, Sequence[Stage]], seen: Mapping[str, str],
    lease: float,
) -> Facts:  # fmt: skip
    """All facts, once nothing happens any more."""
    return Facts(
        lease=lease,
        plans=plans,
        runs=_read_runs(alias),
        steps=_read_steps(alias),
        rows=_read_rows(alias),
        lines=read_lines(folder),
        ended=seen,
        final=ended(alias, {}),
    )


def _read_runs(alias: str) -> dict[str, Run]:
    columns = ("status", "result", "error", "blocked", "finished_at")
    return {
        run_id: Run(status=status, result=result, error=error, blocked=blocked,
                    finished=_seconds(finished))
        for run_id, status, result, error, blocked, finished in _runs(alias).values_list(
            "run_id", *columns
        )
    }  # fmt: skip


def _read_steps(alias: str) -> dict[str, list[Step]]:
    found: dict[str, list[Step]] = defaultdict(list)
    for row in _steps(alias).order_by("seq").select_related("workflow_run"):
        step = Step(
            key=row.key,
            kind=row.kind,
            status=row.status,
            result=row.result,
            error=row.error,
            started=_seconds(row.started_at) or 0.0,
            finished=_seconds(row.finished_at),
            wake=_seconds(row.wake_at),
        )
        found[row.workflow_run.run_id].append(step)
    return found


def _read_rows(alias: str) -> dict[Key, list[Row]]:
    found: dict[Key, list[Row]] = defaultdict(list)
    for row in Effect.objects.using(alias).all():
        made = Row(note=row.note, created=row.created.timestamp())
        found[row.run_id, row.step].append(made)
    return found


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
