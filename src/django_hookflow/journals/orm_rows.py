"""Rows as values and back, always as raw text: a broken value must not break a claim."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import (
    BigIntegerField,
    Case,
    DateTimeField,
    ExpressionWrapper,
    F,
    Model,
    Q,
    QuerySet,
    TextField,
    Value,
    When,
)

from django_hookflow.core.entries import ACTIVE, Entry, Kind, RunStatus, StepStatus
from django_hookflow.core.transitions import STEP, Fence, RunView, wait_for
from django_hookflow.journals.orm_transactions import Moment, Transactions
from django_hookflow.models import (
    Encoded,
    WorkflowEvent,
    WorkflowRun,
    WorkflowStep,
    read_error,
)
from django_hookflow.querysets import wait_line, waiting_for

#: Somebody may hold or wake these.
OPEN = (*ACTIVE, RunStatus.PAUSED)

RUN_COLUMNS = (
    *("id", "run_id", "workflow_id", "version", "seed", "generation", "status", "epoch"),
    *("lease_until", "lease_w", "due_at", "deadline", "wake_n", "owed_at", "signals", "seq"),
    "state_n",
    *("deaths", "blocked", "blocked_n", "parent_id", "parent_step", "depth", "created_at"),
    "started_at",
)

ENTRY_COLUMNS = (
    *("key", "step_id", "occurrence", "kind", "call", "args_sha", "status", "seq"),
    *("requested_seq", "series", "attempts", "wake_at", "undo", "event", "child"),
    *("started_at", "finished_at"),
)


def runs(alias: str) -> QuerySet[WorkflowRun]:
    rows: QuerySet[WorkflowRun] = WorkflowRun._base_manager.using(alias).order_by()
    return rows


def steps(alias: str) -> QuerySet[WorkflowStep]:
    rows: QuerySet[WorkflowStep] = WorkflowStep._base_manager.using(alias).order_by()
    return rows


def events(alias: str) -> QuerySet[WorkflowEvent]:
    rows: QuerySet[WorkflowEvent] = WorkflowEvent._base_manager.using(alias).order_by()
    return rows


def insert_absent(alias: str, rows: Sequence[Model], unique: str, batch: int | None = None) -> None:
    """Insert those that are not there yet; ``unique`` is a column of the key that tells.

    MySQL's way to ignore duplicates ignores every error and cuts what is too long. To write
    what is equal once more changes nothing.
    """
    if not rows:
        return
    absent: dict[str, Any] = {"ignore_conflicts": True}
    if connections[alias].vendor == "mysql":
        absent = {"update_conflicts": True, "update_fields": [unique]}
    # Not create(): the projects' own signal receivers have no business in here.
    type(rows[0])._base_manager.using(alias).bulk_create(rows, batch_size=batch, **absent)


def raw(column: str) -> ExpressionWrapper[F]:
    """The stored text of a column whose field would decode it."""
    return ExpressionWrapper(F(column), output_field=TextField())


# --- runs


def read_run(alias: str, id: UUID, now: Moment) -> dict[str, Any] | None:
    """One SELECT; ``now`` is in the row, read by the database if it is an expression."""
    query = runs(alias).filter(pk=id)
    query = query.annotate(
        raw_data=raw("data"),
        raw_state=raw("state"),
        raw_error=raw("error"),
    )
    columns = [*RUN_COLUMNS, "raw_data", "raw_state", "raw_error"]
    if isinstance(now, datetime):
        row = query.values(*columns).first()
        return None if row is None else {**row, "now": now}
    found: dict[str, Any] | None = query.annotate(now=now).values(*columns, "now").first()
    return found


def run_view(row: dict[str, Any], **changed: Any) -> RunView:
    facts = {**row, **changed}
    facts["status"] = RunStatus(facts["status"])
    facts["parent"] = facts.pop("parent_id")
    facts["data"] = facts.pop("raw_data") or "null"
    facts["state"] = facts.pop("raw_state")
    error = facts.pop("raw_error")
    facts["error"] = None if error is None else read_error(error)
    return RunView(**facts)


def told(fence: Fence) -> dict[str, Any]:
    """What the body has told since the row was read, as columns of the holder's UPDATE."""
    state = fence.state()
    return {} if state is None else {"state": Encoded(state.text), "state_n": state.calls}


def becomes(status: RunStatus) -> Case:
    """``status``, but a cancelling run stays one."""
    stays = Value(RunStatus.CANCELLING.value)
    return Case(When(status=stays.value, then=stays), default=Value(status.value))


# --- steps


def read_entries(query: QuerySet[WorkflowStep]) -> list[Entry]:
    """One SELECT, in the order of writing."""
    return [_entry(row) for row in _rows(query)]


def read_journal(query: QuerySet[WorkflowStep]) -> tuple[list[Entry], dict[str, int]]:
    """One SELECT: the entries in force, and the next series of each superseded key."""
    entries: list[Entry] = []
    series: dict[str, int] = {}
    for row in _rows(query, "superseded"):
        if row.pop("superseded"):
            series[row["key"]] = max(series.get(row["key"], 0), row["series"] + 1)
        else:
            entries.append(_entry(row))
    return entries, series


def _rows(query: QuerySet[WorkflowStep], *more: str) -> Iterable[dict[str, Any]]:
    columns = query.annotate(raw_value=raw("result"), raw_error=raw("error"))
    rows: Iterable[dict[str, Any]] = columns.order_by("pk").values(
        *ENTRY_COLUMNS, "raw_value", "raw_error", *more
    )
    return rows


def _entry(row: dict[str, Any]) -> Entry:
    error = row.pop("raw_error")
    return Entry(
        attempt=row.pop("attempts"),
        ready_at=row.pop("wake_at"),
        value=row.pop("raw_value"),
        error=None if error is None else read_error(error),
        kind=Kind(row.pop("kind")),
        status=StepStatus(row.pop("status")),
        **row,
    )


def outcome_columns(entry: Entry) -> dict[str, Any]:
    """What changes when a pending row gets an outcome or another attempt."""
    return {
        "call": entry.call,
        "args_sha": entry.args_sha,
        "status": entry.status.value,
        "seq": entry.seq,
        "attempts": entry.attempt,
        "wake_at": entry.ready_at,
        "result": None if entry.value is None else Encoded(entry.value),
        "error": entry.error,
        "undo": entry.undo,
        "started_at": entry.started_at,
        "finished_at": entry.finished_at,
    }


def step_row(entry: Entry, *, run: UUID, generation: int, epoch: int) -> WorkflowStep:
    return WorkflowStep(
        workflow_run_id=run,
        generation=generation,
        epoch=epoch,
        key=entry.key,
        series=entry.series,
        step_id=entry.step_id,
        occurrence=entry.occurrence,
        requested_seq=entry.requested_seq,
        kind=entry.kind.value,
        event=entry.event,
        child=entry.child,
        **outcome_columns(entry),
    )


# --- what a run waits for


def pack_waits(waits: Iterable[str]) -> str:
    """One per line, with a line end on both sides of each, so that a search finds whole ones."""
    lines = [wait_line(wait) for wait in waits]
    return "\n" + "\n".join(lines) + "\n" if lines else ""


def signal_columns(wanted: Q, now: Moment) -> dict[str, Any]:
    """SIGNAL's SET: always the mailbox, and a wake-up if somebody has to be told.

    Only if not leased (a holder looks before it suspends), not paused, waited for, and not
    due already (a wake-up for that is on its way). The condition reads no column that an
    earlier entry of this list writes: MariaDB evaluates from left to right.
    """
    wake = (
        Q(status__in=ACTIVE)
        & (Q(lease_until__isnull=True) | Q(lease_until__lt=now))
        & (Q(due_at__isnull=True) | Q(due_at__gt=now))
        & wanted
    )
    return {
        "signals": F("signals") + 1,
        "wake_n": number(When(wake, then=F("wake_n") + 1), default=F("wake_n")),
        "owed_at": moment(When(wake, then=now), default=F("owed_at")),
        "due_at": moment(When(wake, then=now), default=F("due_at")),
    }


def signal_parent(tx: Transactions, parent: UUID | None, step: str) -> None:
    """The end of a child moves its parent's mailbox; the parent is locked before the child."""
    if parent is not None:
        rows = runs(tx.alias).filter(pk=parent, status__in=OPEN)
        rows.update(**signal_columns(waiting_for(wait_for(STEP, step)), tx.now()))


def moment(*cases: When, default: Any) -> Case:
    return Case(*cases, default=default, output_field=DateTimeField())


def number(*cases: When, default: Any = None) -> Case:
    return Case(*cases, default=default, output_field=BigIntegerField())
