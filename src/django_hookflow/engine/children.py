"""Child runs: what ``invoke`` checks before anything is written."""

from __future__ import annotations

import secrets
import time
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

from django_hookflow.core.identifiers import check_run_id, uuid7
from django_hookflow.core.ports import ValueCodec
from django_hookflow.core.showing import show
from django_hookflow.core.transitions import RunView, Trigger
from django_hookflow.engine.plans import Child
from django_hookflow.exceptions import WorkflowDefinitionError

#: Runs below each other. More is a workflow that invokes itself without end.
MAX_DEPTH = 16


@runtime_checkable
class Invocable(Protocol):
    """What invoking needs of a workflow."""

    workflow_id: str
    version: str
    result_hint: Any
    timeout: timedelta | None


def is_invocable(workflow: Any) -> bool:
    """Whether it is a workflow and no plain function."""
    # A str first: it is quick, and a mock has every attribute.
    named = isinstance(getattr(workflow, "workflow_id", None), str)
    return named and isinstance(workflow, Invocable)


def child_of(
    workflow: Any, data: Any, run_id: Any, *, parent: RunView, codec: ValueCodec, limit: int
) -> Child:
    """The run to start; raises before anything is written."""
    if not is_invocable(workflow):
        raise TypeError(f"invoke takes a workflow, not {show(workflow)}: decorate it by @workflow")
    if parent.depth >= MAX_DEPTH:
        raise WorkflowDefinitionError(
            f"{workflow.workflow_id}: a run has at most {MAX_DEPTH} runs above it; a workflow "
            "that invokes itself needs an end, or continue in a loop instead"
        )
    id = uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10))
    start = Trigger(
        id=id,
        run_id="" if run_id is None else check_run_id(run_id),
        workflow_id=workflow.workflow_id,
        version=workflow.version,
        seed=secrets.randbits(62),
        data=codec.encode({} if data is None else data, limit=limit),
        timeout=workflow.timeout,
    )
    return Child(start=start, hint=workflow.result_hint)
