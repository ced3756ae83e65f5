"""Where the running code is: in a workflow's body, inside a step, or in neither.

One context variable answers it for threads and tasks alike, because asgiref carries context
into the threads that run ``def`` code.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Union

from django_hookflow.exceptions import WorkflowDefinitionError


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInfo:
    """What a step's function may know of its own execution.

    ``attempt`` counts from 1; ``idempotency_key`` is the same for every automatic attempt;
    ``deadline`` is when the step's ``timeout`` ends (journal's clock), ``None`` without one.
    """

    run_id: str
    workflow_id: str
    step_id: str
    occurrence: int
    attempt: int
    idempotency_key: str
    deadline: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The code of a workflow outside its steps."""

    run_id: str


place: ContextVar[Union[Body, StepInfo, None]] = ContextVar("django_hookflow_place", default=None)


def current_step() -> StepInfo:
    """The step that the calling code runs in; raises :class:`LookupError` outside one."""
    here = place.get()
    if not isinstance(here, StepInfo):
        raise LookupError("current_step() is for code that runs inside a step")
    return here


def refuse_inside_step(what: str) -> None:
    """Raise if the calling code runs inside a step."""
    here = place.get()
    if isinstance(here, StepInfo):
        raise WorkflowDefinitionError(
            f"{what} was asked for inside step {here.step_id!r}; steps do not nest: "
            "return from this one and ask for the next in the workflow's body"
        )


def refuse_set_inside_step() -> None:
    """Raise if the calling code runs inside a step, and so maybe beside the body."""
    here = place.get()
    if isinstance(here, StepInfo):
        raise WorkflowDefinitionError(
            f"ctx.set() was called inside step {here.step_id!r}, which may be executed again and "
            "beside others: return the value from the step and set it in the workflow's body"
        )


def refuse_in_body(what: str, instead: str) -> None:
    """Raise if the calling code is a workflow's body."""
    if isinstance(place.get(), Body):
        raise WorkflowDefinitionError(
            f"{what} in a workflow's body would happen again on every replay; use {instead}"
        )
