"""What a workflow asks: one step, named and typed, not yet executed."""

from __future__ import annotations

from dataclasses import dataclass

from django_hookflow.core.entries import Kind
from django_hookflow.core.showing import has_surrogate, show

MAX_STEP_ID = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of the workflow's code.

    ``call`` is the qualified name of what would be called (empty for a wait), ``args_sha``
    a digest of its arguments: both are compared with the journal on replay.
    """

    step_id: str
    kind: Kind
    call: str = ""
    args_sha: str = ""


def check_step_id(step_id: object) -> str:
    """Return ``step_id``, or raise ``ValueError`` or ``TypeError`` saying what is allowed."""
    if not isinstance(step_id, str):
        raise TypeError(f"step_id is a str of 1 to {MAX_STEP_ID} characters, not {show(step_id)}")
    if not 1 <= len(step_id) <= MAX_STEP_ID:
        raise ValueError(
            f"step_id has 1 to {MAX_STEP_ID} characters; "
            f"this one has {len(step_id)}: {step_id[:40]!r}"
        )
    if "\x00" in step_id or has_surrogate(step_id):
        raise ValueError(f"step_id may hold no NUL and no lone surrogate: {show(step_id)}")
    return step_id
