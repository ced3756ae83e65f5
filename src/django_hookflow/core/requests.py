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
    a digest of its arguments: both are compared with the journal on replay. ``exact`` compares
    the arguments even where the step id does not repeat: the items of a map are told apart by
    their place. ``key`` is that of a step that no workflow asks for, which is not numbered:
    ``occurrence`` is then that of the step which it undoes.
    """

    step_id: str
    kind: Kind
    call: str = ""
    args_sha: str = ""
    exact: bool = False
    key: str = ""
    occurrence: int = 0


def check_step_id(step_id: object) -> str:
    """Return ``step_id``, or raise ``ValueError`` or ``TypeError`` saying what is allowed."""
    return _check_name("step_id", step_id)


def check_event_name(name: object) -> str:
    """The same for the name of an event."""
    return _check_name("an event's name", name)


def check_dedup_id(dedup_id: object) -> str:
    """The same for what tells an event that is sent twice from two events."""
    return _check_name("dedup_id", dedup_id)


def check_state_key(key: object) -> str:
    """The same for a key of a run's live state."""
    return _check_name("a key of the state", key)


def _check_name(what: str, name: object) -> str:
    return check_text(what, name, MAX_STEP_ID)


def check_text(what: str, name: object, most: int) -> str:
    """The same for any text of 1 to ``most`` characters."""
    if not isinstance(name, str):
        raise TypeError(f"{what} is a str of 1 to {most} characters, not {show(name)}")
    if not 1 <= len(name) <= most:
        raise ValueError(
            f"{what} has 1 to {most} characters; this one has {len(name)}: {name[:40]!r}"
        )
    if "\x00" in name or has_surrogate(name):
        raise ValueError(f"{what} may hold no NUL and no lone surrogate: {show(name)}")
    return name
