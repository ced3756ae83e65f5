"""What the page of one run shows: its values, and its steps a page at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.paginator import Paginator
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_hookflow.admin.filters import STATUS_LABELS
from django_hookflow.admin.listing import sentence
from django_hookflow.admin.values import (
    ERROR_CHARS,
    HIDDEN,
    Failure,
    Text,
    failure_of,
    heads,
    shown,
)
from django_hookflow.conf import options
from django_hookflow.core.entries import StepStatus
from django_hookflow.models import WorkflowRun, WorkflowStep
from django_hookflow.reading import pending_of
from django_hookflow.wording import label, length, moment, next_wake

__all__ = ["STEPS_PARAMETER", "page_of"]

STEPS_PER_PAGE = 200
STEPS_PARAMETER = "steps"

#: Rows of the table that a long run has above its steps.
MOST_NOTABLE = 20

#: Characters that are shown of a run's value, and of a step's.
VALUE_CHARS = 20_000
STEP_CHARS = 4_000

_VALUES = {"data": _("Data"), "result": _("Result"), "state": _("State")}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLine:
    """A row of the table of steps."""

    label: str
    generation: int
    kind: str
    event: str
    status: str
    status_label: Any
    attempts: int
    started: str
    took: str
    wakes: str
    error: Failure | None
    result: Text | None


def page_of(request: HttpRequest, run: WorkflowRun, *, may_read: bool) -> dict[str, Any]:
    """The template's context."""
    now = timezone.now()
    pending = pending_of([run])[run.pk]
    told = sentence(run, pending, now, may_read=may_read)
    steps = _steps_of(run, may_read=may_read)
    page = Paginator(steps, STEPS_PER_PAGE).get_page(request.GET.get(STEPS_PARAMETER))
    # What needs a look may be many pages away.
    notable = _notable(steps) if page.paginator.num_pages > 1 else []
    return {
        "run": run,
        "sentence": told,
        "times": _times(run, now),
        "may_read": may_read,
        "values": _values(run) if may_read else [],
        "steps_page": page,
        "steps": _lines(page.object_list, now, may_read=may_read),
        "notable": _lines(notable, now, may_read=may_read),
        "steps_parameter": STEPS_PARAMETER,
    }


def _times(run: WorkflowRun, now: datetime) -> list[tuple[Any, str]]:
    created = f"{moment(run.created_at)} ({length(now - run.created_at)} ago)"
    times = [
        (_("Created"), created),
        (_("Started"), moment(run.started_at)),
        (_("Finished"), moment(run.finished_at)),
        (_("Next look"), moment(next_wake(run))),
    ]
    return [(name, time) for name, time in times if time != "-"]


def _values(run: WorkflowRun) -> list[tuple[Any, Text | None]]:
    row = (
        WorkflowRun.objects.using(options.database)
        .annotate(**heads(*_VALUES, limit=VALUE_CHARS))
        .only("pk")
        .get(pk=run.pk)
    )
    return [(title, shown(row, name, VALUE_CHARS)) for name, title in _VALUES.items()]


def _steps_of(run: WorkflowRun, *, may_read: bool) -> QuerySet[WorkflowStep]:
    values = heads("result", limit=STEP_CHARS) if may_read else {}
    steps: QuerySet[WorkflowStep] = (
        WorkflowStep.objects.using(options.database)
        .filter(workflow_run=run.pk)
        .defer("result", "error", "undo", "call")
        .annotate(**values, **heads("error", limit=ERROR_CHARS))
        # What has not begun comes last; the order of the rows is not the order of time.
        .order_by("generation", F("started_at").asc(nulls_last=True), "id")
    )
    return steps


def _notable(steps: QuerySet[WorkflowStep]) -> QuerySet[WorkflowStep]:
    wanted = Q(status__in=[StepStatus.FAILED.value, StepStatus.PENDING.value], superseded=False)
    chosen: QuerySet[WorkflowStep] = steps.filter(wanted)[:MOST_NOTABLE]
    return chosen


def _lines(steps: Iterable[WorkflowStep], now: datetime, *, may_read: bool) -> list[StepLine]:
    return [_line(step, now, may_read=may_read) for step in steps]


def _line(step: WorkflowStep, now: datetime, *, may_read: bool) -> StepLine:
    failure = failure_of(step, STEP_CHARS)
    if failure is not None and not may_read:
        failure = Failure(type=failure.type, message=HIDDEN)
    end = step.finished_at or now
    status = "superseded" if step.superseded else step.status
    return StepLine(
        label=label(step),
        generation=step.generation,
        kind=step.kind,
        event=step.event,
        status=status,
        status_label=_("superseded") if step.superseded else STATUS_LABELS.get(status, status),
        attempts=step.attempts,
        started=moment(step.started_at),
        took="-" if step.started_at is None else length(end - step.started_at),
        wakes=_wakes(step),
        error=failure,
        result=shown(step, "result", STEP_CHARS) if may_read else None,
    )


def _wakes(step: WorkflowStep) -> str:
    waits = step.status == StepStatus.PENDING and not step.superseded
    return moment(step.wake_at) if waits and step.wake_at else ""
