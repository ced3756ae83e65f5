"""Show one run: why it waits or how it ended, and a timeline of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from django_hookflow.cli.columns import GAP, Column, Columns
from django_hookflow.cli.reading import find_run, journaled, telling, to_json
from django_hookflow.cli.terminal import STATUS_STYLES, Terminal, one_line, shortened
from django_hookflow.conf import options as settings
from django_hookflow.core.entries import TERMINAL, WAITS, StepStatus
from django_hookflow.models import WorkflowRun, WorkflowStep
from django_hookflow.reading import pending_of
from django_hookflow.wording import cause, label, length, moment, next_wake, why

HELP = "one run: why it waits, and a timeline of its steps"

_LONGEST_BAR = 60
_WAITING = {kind.value for kind in WAITS}


def add_arguments(parser: CommandParser) -> None:
    """The run, and how it is printed."""
    parser.add_argument("run", metavar="RUN", help="its run_id")
    parser.add_argument("--json", action="store_true", help="a JSON object, for programs")


def handle(terminal: Terminal, **options: Any) -> None:
    """Print the run and its journal."""
    with telling():
        run = find_run(options["run"])
        steps = sorted(
            run.steps.using(settings.database).all(),
            key=lambda step: (step.generation, step.started_at or run.created_at, step.pk),
        )
        pending = pending_of([run])[run.pk]
        tags = {tag.key: tag.value for tag in run.tags.using(settings.database).order_by("key")}
    now = timezone.now()
    if options["json"]:
        terminal.json({**_as_json(run, steps, why(run, pending, now)), "tags": tags})
        return
    _print_head(terminal, run, why(run, pending, now), now)
    if tags:
        told = " ".join(f"{key}={value}" for key, value in tags.items())
        terminal.line((f"{'tags':<10}", "bold"), shortened(told, terminal.width - 10))
    if steps:
        _print_timeline(terminal, run, steps, now)


def _as_json(run: WorkflowRun, steps: Sequence[WorkflowStep], sentence: str) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "workflow_id": run.workflow_id,
        "version": run.version,
        "status": run.status_now,
        "why": sentence,
        "blocked": run.blocked,
        "data": journaled(run.data),
        "result": journaled(run.result),
        "error": run.error,
        "state": journaled(run.state),
        "created_at": to_json(run.created_at),
        "started_at": to_json(run.started_at),
        "finished_at": to_json(run.finished_at),
        "next_wake": to_json(next_wake(run)),
        "steps": [_step_as_json(step) for step in steps],
    }


def _step_as_json(step: WorkflowStep) -> dict[str, Any]:
    return {
        "step_id": step.step_id,
        "occurrence": step.occurrence,
        "kind": step.kind,
        "status": step.status,
        "superseded": step.superseded,
        "attempts": step.attempts,
        "result": journaled(step.result),
        "error": step.error,
        "started_at": to_json(step.started_at),
        "finished_at": to_json(step.finished_at),
        "wake_at": to_json(step.wake_at),
    }


def _print_head(terminal: Terminal, run: WorkflowRun, sentence: str, now: datetime) -> None:
    version = f" (version {run.version})" if run.version else ""
    status = run.status_now
    # The sentence of an ended run begins with its status already.
    reason = sentence if run.status in TERMINAL else f"{status}: {sentence}"
    lines = [
        ("run", run.run_id, ""),
        ("workflow", run.workflow_id + version, ""),
        ("status", reason, STATUS_STYLES.get(status, "")),
        ("created", f"{moment(run.created_at)} ({length(now - run.created_at)} ago)", ""),
        ("started", moment(run.started_at), ""),
        ("finished", moment(run.finished_at), ""),
    ]
    for name, text, style in lines:
        if text != "-":
            terminal.line((f"{name:<10}", "bold"), (one_line(text), style))
    for name in ("data", "result", "state"):
        value = getattr(run, name)
        if value is not None:
            text = shortened(repr(value), terminal.width - 10)
            terminal.line((f"{name:<10}", "bold"), text)


def _print_timeline(
    terminal: Terminal, run: WorkflowRun, steps: Sequence[WorkflowStep], now: datetime
) -> None:
    columns = [
        Column(title="step", width=min(24, max(4, *(len(label(step)) for step in steps)))),
        Column(title="kind", width=max(4, *(len(step.kind) for step in steps))),
        Column(title="status", width=10),
        Column(title="tries", width=5, right=True),
        Column(title="start", width=8, right=True),
        Column(title="took", width=7, right=True),
    ]
    room = terminal.width - Columns(terminal, columns).width - len(GAP)
    scale = _Scale.of(run, now, min(_LONGEST_BAR, room))
    table = Columns(terminal, [*columns, Column(title="time", width=scale.width)])
    terminal.line()
    table.head()
    for step in steps:
        status = "superseded" if step.superseded else step.status
        style = STATUS_STYLES.get(status, "")
        start = step.started_at or run.created_at
        table.row([
            label(step),
            step.kind,
            (status, style),
            str(step.attempts) if step.attempts else "-",
            f"+{length(start - scale.start)}",
            length((step.finished_at or now) - start),
            (scale.bar(step, now), style),
        ])  # fmt: skip
        if detail := _detail(step):
            terminal.line((f"  └ {shortened(detail, terminal.width - 4)}", "dim"))


def _detail(step: WorkflowStep) -> str:
    """What came of it: the error, the result, or until when it waits."""
    parts = []
    if step.status == StepStatus.PENDING and step.wake_at is not None:
        verb = "wakes" if step.kind in _WAITING else "tries again"
        parts.append(f"{verb} at {moment(step.wake_at)}")
    elif step.status == StepStatus.PENDING and step.event:
        parts.append(f'waits for event "{step.event}"')
    if step.error:
        parts.append(cause(step.error))
    if step.result is not None:
        parts.append(repr(step.result))
    return "; ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """The run's time on ``width`` characters."""

    start: datetime
    end: datetime
    width: int

    @classmethod
    def of(cls, run: WorkflowRun, now: datetime, width: int) -> _Scale:
        # Clocks of two machines may differ: the end never comes before the start.
        start = run.created_at
        return cls(start=start, end=max(start, run.finished_at or now), width=max(4, width))

    def bar(self, step: WorkflowStep, now: datetime) -> str:
        """Executing is solid, waiting is hatched; the shortest step is one character."""
        begin = self._at(step.started_at or self.start)
        end = max(begin + 1, self._at(step.finished_at or now) + 1)
        mark = "░" if step.kind in _WAITING or step.status == StepStatus.PENDING else "█"
        return "·" * begin + mark * (end - begin)

    def _at(self, time: datetime) -> int:
        whole = (self.end - self.start) or timedelta(microseconds=1)
        return min(self.width - 1, max(0, int((time - self.start) / whole * self.width)))
