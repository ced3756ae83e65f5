"""Errors as records and back: the workflow sees the same exception on every replay."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

from django_hookflow.core.codec import MAX_DEPTH
from django_hookflow.core.entries import Entry, ErrorRecord
from django_hookflow.core.grouping import first_of, members
from django_hookflow.core.transitions import EVENT
from django_hookflow.engine.calls import CallError, CallResponse
from django_hookflow.engine.plans import Mailbox
from django_hookflow.exceptions import (
    CallFailed,
    ChildFailed,
    EventTimeout,
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


def record_error(
    error: BaseException, *, step: str | None, limit: int = sys.maxsize
) -> ErrorRecord:
    """What is stored of an error: names and a message, never a traceback or locals.

    Of a failed call the answer too, its data cut if it takes more than ``limit`` bytes. A group
    of one is told as its only member, and a group is of the classes of all its members.
    """
    group, (error, *others) = error, members(error)
    if others:
        error = group
    raises = "StepFailed"
    response = None
    if isinstance(error, SerializationError):
        raises = "SerializationError"
    elif isinstance(error, TimeUp):
        raises = "StepTimeout"
    elif isinstance(error, CallError):
        raises = "CallFailed"
        response = None if error.response is None else _kept(error.response.to_plain(), limit)
    return ErrorRecord(
        type=type_name(type(error)),
        message=_message(error),
        step=step,
        raises=raises,
        classes=_classes((error, *members(group), group)),
        response=response,
    )


def _classes(errors: tuple[BaseException, ...]) -> tuple[str, ...]:
    found = [cls for each in errors for cls in type(each).__mro__ if cls is not object]
    return tuple(dict.fromkeys(map(_qualified, found)))


def _kept(response: dict[str, Any], limit: int) -> dict[str, Any]:
    data = response["data"]
    if _is_deeper(data, MAX_DEPTH):
        # Whether it can be written would depend on how deep the caller's stack happens to be.
        return {**response, "data": f"(JSON of more than {MAX_DEPTH} levels)"}
    if len(json.dumps(response)) <= limit:
        return response
    return {**response, "data": _tidy(data if isinstance(data, str) else json.dumps(data))}


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most + 1):
        inside = [each.values() if isinstance(each, dict) else each for each in level
                  if isinstance(each, (list, dict))]  # fmt: skip
        level = [item for items in inside for item in items]
        if not level:
            return False
    return True


def _message(error: BaseException) -> str:
    try:
        text = str(error)
        if others := [each for each in members(error) if each is not error]:
            named = (f"{type_name(type(each))}: {each}" for each in others)
            text = f"{text}: {'; '.join(named)}"
    except Exception as broken:  # a user's __str__ may raise anything; the record must be made
        text = f"<{type_name(type(error))} whose text raised {type_name(type(broken))}>"
    return _tidy(text)


def _tidy(text: str) -> str:
    # A lone surrogate could not be stored as UTF-8, a NUL not on PostgreSQL.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def raise_as(entry: Entry) -> Exception:
    """The exception that the workflow sees for a failed entry."""
    record = entry.error
    assert record is not None, "a failed entry has an error"
    if record.raises in ("SerializationError", "EventTimeout"):
        plain = SerializationError if record.raises == "SerializationError" else EventTimeout
        error = plain(record.message)
        error.step_id = entry.step_id
        return error
    details = {
        "step_id": entry.step_id,
        "attempts": entry.attempt,
        "error_type": record.type,
        "classes": record.classes,
    }
    if record.raises == "CallFailed":
        response = None if record.response is None else CallResponse.from_plain(record.response)
        return CallFailed(record.message, response=response, **details)
    cls = {"StepTimeout": StepTimeout, "ChildFailed": ChildFailed}.get(record.raises, StepFailed)
    return cls(record.message, **details)  # type: ignore[arg-type]  # one dict for all classes


def timeout_error(step: str, work: Mailbox) -> ErrorRecord:
    """What is stored of a wait whose time is up."""
    what = f"event {work.name!r}" if work.source == EVENT else "answer to the callback"
    patience = "" if work.timeout is None else f" within {work.timeout.total_seconds():g} s"
    if work.until is not None:
        patience += f"{' and' if patience else ''} before its URL expired"
    return replace(
        record_error(EventTimeout(f"no {what} came{patience}"), step=step), raises="EventTimeout"
    )


def run_error(error: BaseException) -> ErrorRecord:
    """What is stored of the exception that ended a run; of a group, of its first failed step."""
    error = first_of(error, (StepFailed, SerializationError, EventTimeout)) or error
    if isinstance(error, StepFailed):
        # As text, whatever user code that raises one itself has put there.
        return ErrorRecord(
            type=_tidy(str(error.error_type)),
            message=_tidy(str(error.message)),
            step=_tidy(str(error.step_id)),
            raises=type(error).__name__,
            classes=tuple(str(name) for name in error.classes),
        )
    step = error.step_id if isinstance(error, (SerializationError, EventTimeout)) else None
    return record_error(error, step=None if step is None else _tidy(str(step)))
