"""The log: what happened to which message, newest first, in pages."""

from __future__ import annotations

import base64
import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django_hookflow.devserver.filters import Filters
from django_hookflow.devserver.messages import Message
from django_hookflow.devserver.recent import Recent

__all__ = ["MOST_EVENTS", "Event", "EventLog", "State"]

MOST_EVENTS = 10_000
_MOST_BYTES = 33_554_432
# Larger bodies are left out of the log; a message's own page shows them in full.
_LARGEST_BODY = 4_096
# A rough price of an entry without bodies, so that the budget is about memory.
_ENTRY = 1_024
# What the API and one or another SDK call by two names.
_SPELLINGS = (
    ("retryDelayExpression", "retryDelayExpr"),
    ("responseHeader", "responseHeaders"),
    ("callbackHeader", "callbackHeaders"),
    ("failureCallbackHeader", "failureCallbackHeaders"),
)


class State(str, enum.Enum):
    """Log states as the SDKs know them (one L in CANCELED)."""

    CREATED = "CREATED"
    ACTIVE = "ACTIVE"
    RETRY = "RETRY"
    ERROR = "ERROR"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    CANCELED = "CANCELED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One log entry; ``number`` orders entries of the same millisecond and is the cursor."""

    number: int
    time: int
    state: State
    facts: Mapping[str, Any]
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The entry with both spellings of the fields on which API and SDKs disagree."""
        answer = {"time": self.time, **self.facts, "state": self.state.value, **self.details}
        return answer | {other: answer[name] for name, other in _SPELLINGS if name in answer}


class EventLog:
    """The last 10,000 entries, or fewer if they are large."""

    def __init__(self) -> None:
        self._events: Recent[Event] = Recent(items=MOST_EVENTS, size=_MOST_BYTES)
        self._number = 0

    def add(self, message: Message, state: State, at: float, **details: Any) -> Event:
        """Log that ``message`` came into ``state`` at Unix time ``at`` (seconds)."""
        facts = message.facts()
        body = message.spec.shown_body()
        if body and len(body) <= _LARGEST_BODY:
            facts["body"] = base64.b64encode(body).decode()
        event = Event(number=self._number + 1, time=int(at * 1000), state=state, facts=facts,
                      details=details)  # fmt: skip
        self.restore(event)
        return event

    def restore(self, event: Event) -> None:
        """Take in an entry that was logged before; the next one is numbered after it."""
        self._number = event.number
        bodies = len(event.facts.get("body", "")) + len(event.details.get("responseBody", ""))
        self._events.append(event, size=_ENTRY + bodies)

    @property
    def oldest(self) -> int:
        """The number of the oldest entry that is kept; of the next one if there is none."""
        event = self._events.oldest
        return self._number + 1 if event is None else event.number

    def snapshot(self) -> list[Event]:
        """All entries, oldest first; callable from any thread."""
        return self._events.snapshot()

    def page(
        self, filters: Filters, *, count: int, cursor: int | None, newest_first: bool
    ) -> tuple[list[Event], int | None]:
        """Up to ``count`` entries after ``cursor``, and the next cursor unless that was all."""
        found: list[Event] = []
        for event in self._ordered(cursor, newest_first):
            if filters.match({**event.facts, "state": event.state.value}, event.time):
                if len(found) == count:
                    return found, found[-1].number
                found.append(event)
        return found, None

    def _ordered(self, cursor: int | None, newest_first: bool) -> Iterator[Event]:
        events = self._events.snapshot()
        for event in reversed(events) if newest_first else events:
            if cursor is None or (event.number < cursor if newest_first else event.number > cursor):
                yield event
