"""Every error that django-hookflow raises, sorted by who has to act.

::

    HookflowError
    ├── ConfigurationError        a setting is missing or wrong: the operator
    │                             (also ImproperlyConfigured)
    ├── WorkflowDefinitionError   the code does what no workflow may: the author
    ├── NondeterminismError       code and journal do not fit: the author
    ├── SerializationError        a value that cannot be stored: the author
    ├── StepFailed                a step used up its attempts: the workflow
    │   ├── CallFailed            ... because of an HTTP answer or no answer (``.response``)
    │   ├── ChildFailed           ... because a child run failed
    │   └── StepTimeout           ... because its time was up
    ├── EventTimeout              no event came in time: the workflow (also TimeoutError)
    ├── TerminalError             raised by a step: do not try again
    ├── RetryAfter                raised by a step: try again after so many seconds
    ├── RunNotFinished            the run has no result yet: the caller
    ├── RunFailed                 the run failed: the caller
    ├── RunCancelled              the run was cancelled: the caller
    ├── RunCompensated            the run's effects were undone; fork it instead: the caller
    ├── RunFinished               the run is over and takes nothing more: the caller
    ├── RunConflict               that run_id belongs to another workflow or other data: the caller
    ├── TransportError            the message service did not take a message: the operator
    └── SignatureError            a request that QStash did not sign: the sender

This module imports the standard library and one name of Django: a ``ConfigurationError``
is an ``ImproperlyConfigured`` too, because that is what Django projects catch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured

#: The longest delay between two attempts, in seconds: a thousand years. Longer ones would leave
#: the calendar.
LONGEST_DELAY = 31_536_000_000

__all__ = [
    "CallFailed",
    "ChildFailed",
    "ConfigurationError",
    "EventTimeout",
    "HookflowError",
    "NondeterminismError",
    "RetryAfter",
    "RunCancelled",
    "RunCompensated",
    "RunConflict",
    "RunFailed",
    "RunFinished",
    "RunNotFinished",
    "SerializationError",
    "SignatureError",
    "StepFailed",
    "StepTimeout",
    "TerminalError",
    "TransportError",
    "WorkflowDefinitionError",
]


class HookflowError(Exception):
    """Base of every error of this library."""


class ConfigurationError(HookflowError, ImproperlyConfigured):
    """A setting is missing or wrong; the message says what to write where."""


class WorkflowDefinitionError(HookflowError):
    """The workflow's code does what no workflow may do; nothing was executed."""


class NondeterminismError(HookflowError):
    """The code asks for something else than the journal recorded; nothing was executed."""


class SerializationError(HookflowError):
    """A value cannot be stored as it is; the message names the path inside the value.

    ``step_id`` is the step whose value it is; ``None`` if it is no step's.
    """

    step_id: str | None = None


class StepFailed(HookflowError):
    """A step used up its attempts; every replay raises an equal one at the same place.

    ``error_type`` is the name of the class that the last attempt raised, ``classes`` the
    qualified names of that class and its bases.
    """

    def __init__(
        self,
        message: str,
        *,
        step_id: str,
        attempts: int,
        error_type: str,
        classes: Sequence[str] = (),
    ) -> None:
        # What only waits, as for a child, attempts nothing itself.
        after = f" after {attempts} attempt(s)" if attempts else ""
        super().__init__(f"step {step_id!r} failed{after}: {message}")
        self.message = message
        self.step_id = step_id
        self.attempts = attempts
        self.error_type = error_type
        self.classes = tuple(classes)

    def is_a(self, cls: type[BaseException]) -> bool:
        """Whether the last attempt's error was of class ``cls``; the same on every replay.

        Compares qualified names, so it survives a deploy but not the renaming of the class.
        """
        return f"{cls.__module__}.{cls.__qualname__}" in self.classes


class CallFailed(StepFailed):
    """An HTTP call failed; ``response`` is the last answer, or ``None`` if there was none."""

    def __init__(self, message: str, *, response: Any = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.response = response


class ChildFailed(StepFailed):
    """A child run failed."""


class StepTimeout(StepFailed):
    """The last attempt of a step ran longer than its ``timeout``; its effect may still happen."""


class EventTimeout(HookflowError, TimeoutError):
    """No event of that name came before the wait's timeout; ``step_id`` is the wait."""

    step_id: str | None = None


class TerminalError(HookflowError):
    """Raise it in a step to fail the step at once, whatever attempts are left."""


class RetryAfter(HookflowError):
    """Raise it in a step to choose the delay before the next attempt.

    ``seconds`` is the delay; it replaces the policy's back-off for this one attempt and does
    not add an attempt.
    """

    def __init__(self, seconds: float, message: str = "") -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            kind = type(seconds).__qualname__
            raise TypeError(f"RetryAfter takes a number of seconds, not a {kind}")
        if not 0 <= seconds <= LONGEST_DELAY:
            raise ValueError(f"RetryAfter takes a number of seconds from 0 to {LONGEST_DELAY:,}")
        super().__init__(message or f"retry after {seconds} s")
        self.seconds = float(seconds)


class RunNotFinished(HookflowError):
    """The run has no result yet."""


class RunFailed(HookflowError):
    """The run failed; ``error`` is its ``{"type", "message", "step"}``."""

    def __init__(self, message: str, *, error: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.error = error


class RunCancelled(HookflowError):
    """The run was cancelled and has no result."""


class RunCompensated(HookflowError):
    """The run's effects were undone, so it cannot be retried; fork it instead."""


class RunFinished(HookflowError):
    """The run is over, or its end is decided: nothing can be done to it from outside."""


class RunConflict(HookflowError):
    """That ``run_id`` belongs to a run of another workflow or with other data."""


class TransportError(HookflowError):
    """The message service did not take a message; the wake-up stays owed.

    ``retry_after`` is the number of seconds it asked to wait, or ``None``.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SignatureError(HookflowError):
    """A request does not carry a genuine QStash signature for this URL and body."""
