"""Starting a run from another one's journal."""

from __future__ import annotations

import secrets
import time
from datetime import timedelta
from uuid import UUID

from django_hookflow.core.forking import UnknownStep, cut
from django_hookflow.core.identifiers import uuid7
from django_hookflow.core.showing import show
from django_hookflow.core.transitions import Fork, Over
from django_hookflow.journals.base import Journal
from django_hookflow.registry import registry

__all__ = ["NoSuchRun", "fork", "preview", "timeout_of"]


class NoSuchRun(Exception):
    """The run that was to be forked is not there."""


def fork(journal: Journal, source: UUID, from_step: str) -> UUID:
    """Write the new run; its id. Raises ``ValueError`` naming the steps that there are."""
    id = uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10))
    transition = Fork(
        source=source,
        id=id,
        run_id=str(id),
        from_step=_checked(from_step),
        timeout=timeout_of(journal, source),
    )
    answer = journal.fork(transition)
    if isinstance(answer, UnknownStep):
        raise _unknown(from_step, answer)
    if isinstance(answer, Over):
        raise NoSuchRun
    return id


def preview(journal: Journal, source: UUID, from_step: str) -> list[str]:
    """The keys of the known steps that a fork would execute again, in the order of requests."""
    entries = journal.entries(source)
    if entries is None:
        raise NoSuchRun
    found = cut(entries, _checked(from_step))
    if isinstance(found, UnknownStep):
        raise _unknown(from_step, found)
    return list(found.again)


def timeout_of(journal: Journal, run: UUID) -> timedelta | None:
    """How long a run of this workflow may take, if this process knows the workflow."""
    view = journal.look(run)
    workflow = None if view is None else registry.find(view.workflow_id, view.version)
    timeout: timedelta | None = getattr(workflow, "timeout", None)
    return timeout


def _checked(from_step: object) -> str:
    if not isinstance(from_step, str):
        raise TypeError(
            f'from_step is a step id, or one with its number as in "charge#2", not '
            f"{show(from_step)}"
        )
    return from_step


def _unknown(from_step: str, answer: UnknownStep) -> ValueError:
    known = ", ".join(answer.known) or "none yet"
    return ValueError(f"the run has no step {show(from_step)}; its steps are: {known}")
