"""RETRY: a failed run goes on from what failed it, and with the children that do so too."""

from __future__ import annotations

from functools import partial
from typing import Any, Union
from uuid import UUID

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from django_hookflow.core.entries import CAME_TO_NOTHING, Entry, Kind, RunStatus, StepStatus
from django_hookflow.core.transitions import Compensated, NotFailed, Replaced, Retried, Retry
from django_hookflow.journals.collecting import waits_again
from django_hookflow.journals.orm_outside import parent_of, status_of
from django_hookflow.journals.orm_rows import raw, read_entries, runs, step_row, steps
from django_hookflow.journals.orm_transactions import Transactions
from django_hookflow.models import WorkflowStep, read_error


def retry(tx: Transactions, transition: Retry) -> Union[Retried, NotFailed, Compensated, Replaced]:
    def landed() -> Union[Retried, None]:
        # Nothing else re-opens a failed run.
        return None if status_of(tx, transition.id) is RunStatus.FAILED else Retried()

    parent, _ = parent_of(tx, transition.id)
    body = partial(_retry, tx, transition, parent)
    return tx.run("retry", body, durable=False, landed=landed)


def _retry(
    tx: Transactions, transition: Retry, parent: Union[UUID, None]
) -> Union[Retried, NotFailed, Compensated, Replaced]:
    run = runs(tx.alias).filter(pk=transition.id)
    if parent is not None and _is_replaced(tx, transition.id, parent):
        status = status_of(tx, transition.id)
        return Replaced() if status is RunStatus.FAILED else NotFailed(status=status)
    undone = steps(tx.alias).filter(
        workflow_run=OuterRef("pk"),
        generation=OuterRef("generation"),
        kind=Kind.UNDO.value,
        superseded=False,
    )
    if not run.filter(~Exists(undone), status=RunStatus.FAILED.value).update(
        **_reopened(tx, transition)
    ):
        status = status_of(tx, transition.id)
        return Compensated() if status is RunStatus.FAILED else NotFailed(status=status)
    # The error says what to repeat, so it goes in a statement of its own.
    generation, error = run.annotate(text=raw("error")).values_list("generation", "text").get()
    uncaught = read_error(error).uncaught if error else ()
    repeated = Q(status=StepStatus.FAILED.value, key__in=uncaught) | Q(kind=Kind.ON_FAILURE.value)
    nothing = runs(tx.alias).filter(parent=transition.id, status__in=CAME_TO_NOTHING)
    nothing = nothing.exclude(pk__in=transition.going_on)
    repeated |= Q(
        kind=Kind.CHILD.value, status=StepStatus.PENDING.value, child__in=nothing.values("pk")
    )
    mine = steps(tx.alias).filter(workflow_run=transition.id, generation=generation)
    again = _wait_again(tx, transition, mine.filter(superseded=False, key__in=uncaught))
    mine.filter(repeated).update(superseded=True)
    rows = [step_row(entry, run=transition.id, generation=generation, epoch=0) for entry in again]
    WorkflowStep._base_manager.using(tx.alias).bulk_create(rows)
    run.update(error=None)
    return Retried()


def _reopened(tx: Transactions, transition: Retry) -> dict[str, Any]:
    now = tx.now()
    return {
        "epoch": F("epoch") + 1,
        "status": RunStatus.SUSPENDED.value,
        # A child may have ended meanwhile, and told a run that was over.
        "signals": F("signals") + 1,
        "deaths": 0,
        "due_at": now,
        "wake_n": F("wake_n") + 1,
        "owed_at": now,
        "deadline": None if transition.timeout is None else now + transition.timeout,
        "finished_at": None,
    }


def _is_replaced(tx: Transactions, child: UUID, parent: UUID) -> bool:
    """Whether its parent waited for it, and has another one in its place.

    The parent is locked before the child, as everywhere, so that it is not retried meanwhile.
    """
    runs(tx.alias).filter(pk=parent).update(deaths=F("deaths"))
    theirs = steps(tx.alias).filter(workflow_run=parent, child=child)
    superseded = set(theirs.values_list("superseded", flat=True))
    return superseded == {True}


def _wait_again(
    tx: Transactions, transition: Retry, uncaught: QuerySet[WorkflowStep]
) -> list[Entry]:
    """New rows for the children among ``uncaught`` that are going on, or have come to an end."""
    well = ~Q(status__in=CAME_TO_NOTHING) | Q(pk__in=transition.going_on)
    going = runs(tx.alias).filter(well, parent=transition.id)
    failed = uncaught.filter(
        kind=Kind.CHILD.value, status=StepStatus.FAILED.value, child__in=going.values("pk")
    )
    return [waits_again(entry) for entry in read_entries(failed)]
