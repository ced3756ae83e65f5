"""List runs, newest first: where each stands and, if it waits, why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.management.base import CommandParser
from django.db.models import Count, Q
from django.utils import timezone

from django_hookflow.cli.arguments import event_name, positive, tag
from django_hookflow.cli.columns import GAP, Column, Columns
from django_hookflow.cli.reading import telling, to_json
from django_hookflow.cli.terminal import STATUS_STYLES, Part, Terminal, shortened
from django_hookflow.conf import options as settings
from django_hookflow.core.entries import RunStatus, StepStatus
from django_hookflow.models import LOST, WorkflowRun, WorkflowRunQuerySet, WorkflowStep
from django_hookflow.reading import pending_of, standing
from django_hookflow.wording import length, moment, next_wake, why

HELP = "list runs, newest first"

#: Characters of a workflow's name that are worth a line too long, and worth the date.
_LEAST_NAME, _NAME = 12, 30


def add_arguments(parser: CommandParser) -> None:
    """The filters."""
    parser.add_argument(
        "--status",
        action="append",
        choices=[*(status.value for status in RunStatus), LOST],
        help=f'only these; repeatable; "{LOST}" is running with a holder that went silent',
    )
    parser.add_argument(
        "--workflow", metavar="ID", help="only of this workflow: its id, or the last part of it"
    )
    parser.add_argument(
        "--tag",
        action="append",
        type=tag,
        default=[],
        metavar="KEY=VALUE",
        help="only what was started with this tag; repeatable: with all of them",
    )
    parser.add_argument(
        "--waiting-for",
        type=event_name,
        metavar="EVENT",
        help="only what sleeps until an event of this name comes",
    )
    parser.add_argument(
        "--limit", type=positive, default=50, help="at most so many (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="a JSON list, for programs")


def handle(terminal: Terminal, **options: Any) -> None:
    """Print the runs that the filters choose."""
    limit: int = options["limit"]
    with telling():
        now = timezone.now()
        chosen = _chosen(options["status"] or (), options["workflow"], now)
        for key, value in options["tag"]:
            chosen = chosen.tagged(**{key: value})
        if options["waiting_for"]:
            chosen = chosen.waiting_for(options["waiting_for"])
        found = list(chosen[: limit + 1])
        runs, more = found[:limit], len(found) > limit
        pending = pending_of(runs)
    if options["json"]:
        terminal.json([_as_json(run, pending[run.pk], now) for run in runs])
        return
    if runs:
        _print(terminal, runs, pending, now)
    else:
        terminal.line("No runs, or none that the filters let through.")
    if more:
        terminal.line((f"The {limit} newest; --limit shows more.", "dim"))


def _chosen(statuses: Sequence[str], workflow: str | None, now: datetime) -> WorkflowRunQuerySet:
    done = Q(steps__status=StepStatus.COMPLETED.value, steps__superseded=False)
    # Values may be large, cost decoding, and are not shown in a list.
    runs: WorkflowRunQuerySet = (
        WorkflowRun.objects.using(settings.database)
        .defer("data", "result", "state")
        .annotate(steps_done=Count("steps", filter=done))
        .order_by("-id")
    )
    if workflow:
        runs = runs.filter(Q(workflow_id=workflow) | Q(workflow_id__endswith=f".{workflow}"))
    if statuses:
        runs = runs.filter(standing(statuses, now))
    return runs


def _as_json(run: WorkflowRun, pending: Sequence[WorkflowStep], now: datetime) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "workflow_id": run.workflow_id,
        "version": run.version,
        "status": run.status_now,
        "why": why(run, pending, now),
        "blocked": run.blocked,
        "error": run.error,
        "created_at": to_json(run.created_at),
        "started_at": to_json(run.started_at),
        "finished_at": to_json(run.finished_at),
        "next_wake": to_json(next_wake(run)),
        "age_seconds": round((now - run.created_at).total_seconds(), 3),
        "steps_done": _steps_done(run),
    }


def _steps_done(run: WorkflowRun) -> int:
    done: int = run.steps_done  # type: ignore[attr-defined]  # the annotation of _chosen()
    return done


def _print(
    terminal: Terminal,
    runs: Sequence[WorkflowRun],
    pending: Mapping[UUID, Sequence[WorkflowStep]],
    now: datetime,
) -> None:
    dated, table = _table(terminal, runs)
    table.head()
    for run in runs:
        status = run.status_now
        cells: list[Part] = [
            run.run_id,
            run.workflow_id,
            (status, STATUS_STYLES.get(status, "")),
            *([moment(run.created_at)] if dated else []),
            length(now - run.created_at),
            str(_steps_done(run)),
        ]
        table.row(cells)
        if status not in (RunStatus.COMPLETED, RunStatus.RUNNING):
            reason = shortened(why(run, pending[run.pk], now), terminal.width - 4)
            terminal.line((f"  └ {reason}", "dim"))


def _table(terminal: Terminal, runs: Sequence[WorkflowRun]) -> tuple[bool, Columns]:
    """The columns that fit; whether the date is one of them."""
    ids = max(len("run"), *(len(run.run_id) for run in runs))
    names = max(len("workflow"), *(len(run.workflow_id) for run in runs))
    columns = [
        Column(title="run", width=ids),
        Column(title="status", width=10),
        Column(title="age", width=7, right=True),
        Column(title="steps", width=5, right=True),
    ]
    room = terminal.width - Columns(terminal, columns).width - len(GAP)
    created = Column(title="created", width=19)
    # The age says much the same: the date is what a narrow terminal does without.
    dated = room >= min(names, _NAME) + len(GAP) + created.width
    if dated:
        columns.insert(2, created)
        room -= len(GAP) + created.width
    name = Column(title="workflow", width=max(_LEAST_NAME, min(room, names)), keep_end=True)
    columns.insert(1, name)
    return dated, Columns(terminal, columns)
