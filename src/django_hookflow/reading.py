"""Questions to the journal's tables that both the command and the admin ask."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from django_hookflow.conf import options
from django_hookflow.core.entries import RunStatus, StepStatus
from django_hookflow.models import LOST, WorkflowRun, WorkflowStep

__all__ = ["pending_of", "standing"]


def standing(statuses: Collection[str], now: datetime) -> Q:
    """Runs whose ``status_now`` is one of these."""
    wanted = Q(status__in=set(statuses) - {LOST, RunStatus.RUNNING.value})
    holding = Q(status=RunStatus.RUNNING.value, lease_until__gte=now)
    if RunStatus.RUNNING.value in statuses:
        wanted |= holding
    if LOST in statuses:
        wanted |= Q(status=RunStatus.RUNNING.value) & ~holding
    return wanted


def pending_of(runs: Iterable[WorkflowRun]) -> dict[UUID, list[WorkflowStep]]:
    """What each of these runs has begun and not ended, oldest first, in one query."""
    current = {run.pk: run.generation for run in runs}
    # A value is of no use for a step that has none, and decoding costs.
    steps = (
        WorkflowStep.objects.using(options.database)
        .filter(workflow_run__in=current, status=StepStatus.PENDING.value, superseded=False)
        .defer("result", "undo")
        .order_by("id")
    )
    found: dict[UUID, list[WorkflowStep]] = {key: [] for key in current}
    for step in steps:
        if step.generation == current[step.workflow_run_id]:
            found[step.workflow_run_id].append(step)
    return found
