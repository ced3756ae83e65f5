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
from wholesale.services import CARRIER_TAKES, PIECES_PER_PARCEL

from django_hookflow.models import WorkflowRun, WorkflowStep

OVER = ("completed", "failed", "cancelled")
#: Steps without a body: what they wait for comes from elsewhere.
WAITS = ("sleep", "event", "callback", "child")
LARGE = ("fulfil_large_order", "ship_parcels")


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
    """``refused``: of an order that is more than the carrier takes."""

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
    is_child: bool
    refused: bool

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
    queried = WorkflowRun.objects.select_related("parent").prefetch_related("steps")
    rows = {
        row: orders[top.run_id]
        for row in queried.order_by("created_at", "id")
        if (top := row.parent or row).run_id in orders
    }
    # An order and its parcels are two runs, and never execute at the same time.
    known = {
        (str(order.pk), _name(step)) for row, order in rows.items() for step in row.steps.all()
    }
    begun = Counter({body: times for body, times in bodies.items() if body not in known})
    now = timezone.now()
    return [_run(row, order, bodies, begun, now) for row, order in rows.items()]


def _run(
    row: WorkflowRun,
    order: Order,
    bodies: Counter[tuple[str, str]],
    begun: Counter[tuple[str, str]],
    now: datetime,
) -> RunNow:
    steps = [_step(step, bodies[str(order.pk), _name(step)], now) for step in row.steps.all()]
    state = {"running": "executing", "lost": "interrupted"}.get(row.status_now, "")
    for of, name in begun:
        if state and of == str(order.pk):
            steps.append(StepNow(name=name, kind="", state=state, attempts=0))
    workflow = row.workflow_id.rpartition(".")[2]
    return RunNow(
        pk=str(row.pk),
        run_id=row.run_id,
        order=str(order.pk),
        card=order.card,
        workflow=workflow,
        status=row.status_now,
        steps=steps,
        seconds=((row.finished_at or now) - row.created_at).total_seconds(),
        result=row.result,
        error=row.blocked or (row.error["message"] if row.error else ""),
        is_child=row.parent_id is not None,
        refused=workflow in LARGE and order.quantity > CARRIER_TAKES * PIECES_PER_PARCEL,
    )


def _name(row: WorkflowStep) -> str:
    return f"{ledger.UNDO} {row.step_id}" if row.kind == "undo" else str(row.step_id)


def _step(row: WorkflowStep, bodies: int, now: datetime) -> StepNow:
    remaining = (row.wake_at - now).total_seconds() if row.wake_at else None
    return StepNow(
        name=_name(row),
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
    if row.kind in WAITS:
        return "waiting"
    if bodies > row.attempts:
        return "executing"
    return "retrying" if remaining is not None else "waiting"
