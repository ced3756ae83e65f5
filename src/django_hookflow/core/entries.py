"""What the journal records of a step, as values.

An :class:`Entry` is one row of the journal. Values stay encoded text in it: only the code
that hands an outcome to the workflow knows which annotation decodes it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID


class Kind(str, Enum):
    """What a step does; part of its identity."""

    RUN = "run"
    ATOMIC = "atomic"
    CALL = "call"
    SLEEP = "sleep"
    EVENT = "event"
    CALLBACK = "callback"
    CHILD = "child"
    UNDO = "undo"
    ON_FAILURE = "on_failure"

    def __str__(self) -> str:
        return self.value


class StepStatus(str, Enum):
    """Where a step stands."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"

    def __str__(self) -> str:
        return self.value


class RunStatus(str, Enum):
    """Where a run stands; the first four are *active*, the last three *terminal*."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    CANCELLING = "cancelling"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    def __str__(self) -> str:
        return self.value


ACTIVE = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.SUSPENDED, RunStatus.CANCELLING)
TERMINAL = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)

#: Of a parent whose children nobody waits for any more. A failed one is not among them: it may be
#: retried, and then goes on with what they came to.
DONE_WITH_CHILDREN = (RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.CANCELLING)
#: Of a child that was left running when its parent failed: a retry of the parent starts another.
CAME_TO_NOTHING = (RunStatus.FAILED, RunStatus.CANCELLED)
#: What may be paused: not what is being undone, whose end is decided.
PAUSABLE = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.SUSPENDED)

#: What may wait without anything being executed.
WAITS = (Kind.SLEEP, Kind.EVENT, Kind.CALLBACK, Kind.CHILD)

#: What goes on after the body's end, when the run fails or is cancelled.
WINDING_UP = (Kind.UNDO, Kind.ON_FAILURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRecord:
    """Why a step or a run failed, as it is stored.

    ``raises`` names the class of :mod:`django_hookflow.exceptions` that the workflow sees;
    ``classes`` are the qualified names of the original class and its bases; ``response`` is
    the stored answer of a failed call. ``uncaught``, of a failed run, are the keys of the
    failed steps that a retry executes again.
    """

    type: str
    message: str
    step: str | None = None
    raises: str = "StepFailed"
    classes: tuple[str, ...] = ()
    response: Any = None
    uncaught: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; the inverse of :meth:`from_dict`."""
        return {
            "type": self.type,
            "message": self.message,
            "step": self.step,
            "raises": self.raises,
            "classes": list(self.classes),
            "response": self.response,
            "uncaught": list(self.uncaught),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> ErrorRecord:
        """Read what :meth:`to_dict` wrote; unknown keys of a newer version are dropped."""
        return cls(
            type=str(stored.get("type", "")),
            message=str(stored.get("message", "")),
            step=stored.get("step"),
            raises=str(stored.get("raises", "StepFailed")),
            classes=tuple(stored.get("classes", ())),
            response=stored.get("response"),
            uncaught=tuple(stored.get("uncaught", ())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One step of one run as the journal holds it.

    ``key`` is ``step_id#n``. ``seq`` is the number of its outcome in the run, given inside
    the commit, ``None`` while pending. ``attempt`` counts the attempts that have ended.
    ``value`` is encoded text. ``event`` is what a wait listens for, ``child`` the run that it
    started. ``undo`` is how to compensate, written before the step executes. Times are the
    journal's clock.
    """

    key: str
    step_id: str
    occurrence: int
    kind: Kind
    call: str = ""
    args_sha: str = ""
    status: StepStatus = StepStatus.PENDING
    seq: int | None = None
    requested_seq: int = 0
    series: int = 0
    attempt: int = 0
    ready_at: datetime | None = None
    value: str | None = None
    error: ErrorRecord | None = None
    undo: str = ""
    event: str = ""
    child: UUID | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def is_outcome(self) -> bool:
        """Whether it has ended and can be handed to the workflow."""
        return self.status is not StepStatus.PENDING

    @property
    def is_failed(self) -> bool:
        """Whether its outcome is an error."""
        return self.status is StepStatus.FAILED


def step_key(step_id: str, occurrence: int) -> str:
    """The identity of the n-th request (from 1) of a step id."""
    return f"{step_id}#{occurrence}"


def idempotency_key(run: str, generation: int, series: int, key: str) -> str:
    """64 hex digits, the same for every attempt and holder of one series of a step.

    Hashed so that no business data of the run id or step id leaves with a request.
    """
    identity = "\x1f".join((run, str(generation), str(series), key))
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
