"""What a child is to the step that invoked it, at its end and after; the same for every journal."""

from __future__ import annotations

from dataclasses import replace
from typing import Union

from django_hookflow.core.entries import TERMINAL, Entry, ErrorRecord, RunStatus, StepStatus
from django_hookflow.core.transitions import RunView

_CANCELLED = "django_hookflow.exceptions.RunCancelled"


def collected(
    entry: Entry, child: Union[RunView, None], result: Union[str, None]
) -> Union[Entry, None]:
    """The step's outcome, without its seq; ``None`` while the child goes on."""
    if child is None:
        error = _failure(entry, "RunPruned", "the child run is not there any more")
        return replace(entry, status=StepStatus.FAILED, error=error)
    if child.status not in TERMINAL:
        return None
    if child.status is RunStatus.COMPLETED:
        return replace(entry, status=StepStatus.COMPLETED, value=result)
    if child.status is RunStatus.CANCELLED:
        message = f"run {child.run_id} was cancelled"
        error = replace(_failure(entry, "RunCancelled", message), classes=(_CANCELLED,))
    else:
        own = child.error or ErrorRecord(type="", message="")
        message = f"run {child.run_id}: {own.message}"
        error = replace(_failure(entry, own.type, message), classes=own.classes)
    return replace(entry, status=StepStatus.FAILED, error=error)


def waits_again(entry: Entry) -> Entry:
    """The row, in the next series, of a step that failed by a child which goes on after all."""
    return replace(
        entry,
        series=entry.series + 1,
        status=StepStatus.PENDING,
        seq=None,
        error=None,
        finished_at=None,
    )


def _failure(entry: Entry, type: str, message: str) -> ErrorRecord:
    return ErrorRecord(type=type, message=message, step=entry.step_id, raises="ChildFailed")
