"""Looks at the runs, by nothing but what every project can read: the two models.

Which step is executing right now stands in no row (it is recorded when it ends); that alone is
told by the ledger of the step's bodies.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone
from orders import ledger
from orders.models import Order

from django_hookflow.models import WorkflowRun, WorkflowStep

OVER = ("completed", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class StepNow:
    """``state``: completed, failed, executing, interrupted, sleeping, retrying or waiting."""

    name: str
    kind: str
    state: str
    attempts: int
    seconds: float | None = None
    remaining: float | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class RunNow:
    pk: str
    run_id: str
    order: str
    card: str
    workflow: str
    status: str
    steps: list[StepNow]
    seconds: float
    result: Any
    error: str

    @property
    def is_over(self) -> bool:
        return self.status in OVER

    @property
    def recorded(self) -> list[StepNow]:
        return [step for step in self.steps if step.state in ("completed", "failed")]


def look() -> list[RunNow]:
    """All runs, oldest first."""
    orders = {order.run_id: order for order in Order.objects.all()}
    bodies = ledger.bodies()
    rows = WorkflowRun.objects.prefetch_related("steps").order_by("created_at", "id")
    now = timezone.now()
    return [_run(row, orders[row.run_id], bodies, now) for row in rows if row.run_id in orders]


def _run(row: WorkflowRun, order: Order, bodies: Counter[tuple[str, str]], now: datetime) -> RunNow:
    steps = [_step(step, bodies[str(order.pk), step.step_id], now) for step in row.steps.all()]
    known = {step.name for step in steps}
    state = {"running": "executing", "lost": "interrupted"}.get(row.status_now, "")
    for of, name in bodies:
        if state and of == str(order.pk) and name not in known:
            steps.append(StepNow(name=name, kind="", state=state, attempts=0))
    return RunNow(
        pk=str(row.pk),
        run_id=row.run_id,
        order=str(order.pk),
        card=order.card,
        workflow=row.workflow_id.rpartition(".")[2],
        status=row.status_now,
        steps=steps,
        seconds=((row.finished_at or now) - row.created_at).total_seconds(),
        result=row.result,
        error=row.blocked or (row.error["message"] if row.error else ""),
    )


def _step(row: WorkflowStep, bodies: int, now: datetime) -> StepNow:
    remaining = (row.wake_at - now).total_seconds() if row.wake_at else None
    return StepNow(
        name=row.step_id,
        kind=row.kind,
        state=_state(row, bodies, remaining),
        attempts=row.attempts,
        seconds=_between(row.started_at, row.finished_at),
        remaining=max(remaining, 0.0) if remaining is not None else None,
        error=row.error["message"] if row.error else "",
    )


def _between(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or end is None:
        return None
    # The two may be told by two clocks.
    return max((end - start).total_seconds(), 0.0)


def _state(row: WorkflowStep, bodies: int, remaining: float | None) -> str:
    if row.status != "pending":
        return str(row.status)
    if row.kind == "sleep":
        return "sleeping"
    if bodies > row.attempts:
        return "executing"
    return "retrying" if remaining is not None else "waiting"
