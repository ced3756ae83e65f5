"""Errors as records and back: the workflow sees the same exception on every replay."""

from __future__ import annotations

from django_hookflow.core.entries import Entry, ErrorRecord
from django_hookflow.engine.calls import CallError, CallResponse
from django_hookflow.exceptions import (
    CallFailed,
    HookflowError,
    SerializationError,
    StepFailed,
    StepTimeout,
)

#: An error message longer than this is cut: it is for people, and a journal is no log store.
MAX_MESSAGE = 2000


class TimeUp(HookflowError):
    """An attempt ran longer than its step's timeout."""


def type_name(cls: type[BaseException]) -> str:
    """``ValueError`` for builtins, else the name with its module."""
    return cls.__qualname__ if cls.__module__ == "builtins" else _qualified(cls)


def _qualified(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def record_error(error: BaseException, *, step: str | None) -> ErrorRecord:
    """What is stored of an error: names and a message, never a traceback or locals."""
    raises = "StepFailed"
    response = None
    if isinstance(error, SerializationError):
        raises = "SerializationError"
    elif isinstance(error, TimeUp):
        raises = "StepTimeout"
    elif isinstance(error, CallError):
        raises = "CallFailed"
        response = error.response.to_plain() if error.response is not None else None
    return ErrorRecord(
        type=type_name(type(error)),
        message=_message(error),
        step=step,
        raises=raises,
        classes=tuple(_qualified(cls) for cls in type(error).__mro__ if cls is not object),
        response=response,
    )


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as broken:  # a user's __str__ may raise anything; the record must be made
        text = f"<{type_name(type(error))} whose text raised {type_name(type(broken))}>"
    # A lone surrogate could not be stored as UTF-8, a NUL not on PostgreSQL.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def raise_as(entry: Entry) -> Exception:
    """The exception that the workflow sees for a failed entry."""
    record = entry.error
    assert record is not None, "a failed entry has an error"
    if record.raises == "SerializationError":
        return SerializationError(record.message)
    details = {
        "step_id": entry.step_id,
        "attempts": entry.attempt,
        "error_type": record.type,
        "classes": record.classes,
    }
    if record.raises == "CallFailed":
        response = None if record.response is None else CallResponse.from_plain(record.response)
        return CallFailed(record.message, response=response, **details)
    cls = StepTimeout if record.raises == "StepTimeout" else StepFailed
    return cls(record.message, **details)  # type: ignore[arg-type]  # one dict for all classes


def run_error(error: BaseException) -> ErrorRecord:
    """What is stored of the exception that ended a run."""
    if isinstance(error, StepFailed):
        return ErrorRecord(
            type=error.error_type,
            message=error.message,
            step=error.step_id,
            raises=type(error).__name__,
            classes=error.classes,
        )
    return record_error(error, step=None)
