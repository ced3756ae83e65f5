"""Filters over messages and log entries, as query parameters write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django_hookflow.devserver.answers import Refused

__all__ = ["Filters", "read_count", "read_filters", "read_number", "read_order"]

# Query parameter -> field of a message or a log entry.
_FIELDS = {
    "messageId": "messageId",
    "messageIds": "messageId",
    "url": "url",
    "host": "host",
    "path": "path",
    "label": "labels",
    "callerIp": "callerIP",
    "callerIP": "callerIP",
    "topicName": "topicName",
    "queueName": "queueName",
    "scheduleId": "scheduleId",
    "flowControlKey": "flowControlKey",
    "state": "state",
}
# What only dead letters have.
_DEAD_FIELDS = {
    "dlqId": "dlqId",
    "dlqIds": "dlqId",
    "responseStatus": "responseStatus",
    "source": "source",
}
_OTHERS = frozenset({"fromDate", "toDate", "count", "cursor", "order", "qstash_token"})
_IN_PROGRESS = frozenset({"ACTIVE", "RETRY", "ERROR"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Conditions that must all hold; one of several values of the same field suffices.

    ``since`` and ``until`` are Unix milliseconds, both inclusive.
    """

    wanted: Mapping[str, frozenset[str]]
    since: int | None
    until: int | None

    @property
    def is_empty(self) -> bool:
        """Whether everything passes."""
        return not self.wanted and self.since is None and self.until is None

    def match(self, facts: Mapping[str, Any], at: int) -> bool:
        """Whether something with these fields that happened at ``at`` (ms) passes."""
        if self.since is not None and at < self.since:
            return False
        if self.until is not None and at > self.until:
            return False
        return all(
            not values.isdisjoint(_said(facts, name)) for name, values in self.wanted.items()
        )


def read_filters(
    query: Iterable[tuple[str, str]], *, strict: bool = False, dead: bool = False
) -> Filters:
    """Filters from query parameters, each repeated or with commas.

    Raises ``Refused`` for malformed dates and, if ``strict``, for unknown names: where the
    filter decides what is cancelled, a misspelt one must not mean "everything". ``dead`` are
    filters over dead letters.
    """
    fields = {**_FIELDS, **_DEAD_FIELDS} if dead else _FIELDS
    wanted: dict[str, set[str]] = {}
    limits: dict[str, int] = {}
    for name, value in query:
        if name in ("fromDate", "toDate"):
            limits[name] = read_number(name, value)
        elif name in fields:
            # A URL may contain commas of its own.
            values = [value] if name == "url" else value.split(",")
            wanted.setdefault(fields[name], set()).update(filter(None, values))
        elif strict and name not in _OTHERS:
            raise Refused(400, f"unknown filter {name!r}")
    return Filters(
        wanted={name: _spelled(name, values) for name, values in wanted.items() if values},
        since=limits.get("fromDate"),
        until=limits.get("toDate"),
    )


def read_number(name: str, text: str) -> int:
    """A whole number of at most 15 digits; raises ``Refused`` for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise Refused(400, f"{name} is not a number: {text[:40]!r}")
    return int(text)


def read_count(text: str, most: int) -> int:
    """How many items a page has: ``most`` if nothing is said, and never more."""
    return max(1, min(read_number("count", text or str(most)), most))


def read_order(text: str, *, newest_first: bool) -> bool:
    """Whether the newest item comes first; ``newest_first`` if nothing is said."""
    if text not in ("", "latestFirst", "earliestFirst"):
        raise Refused(400, "order is latestFirst or earliestFirst")
    return text == "latestFirst" if text else newest_first


def _spelled(name: str, values: set[str]) -> frozenset[str]:
    if name != "state":
        return frozenset(values)
    states = {"CANCELED" if value == "CANCELLED" else value for value in values}
    return frozenset(states | _IN_PROGRESS) if "IN_PROGRESS" in states else frozenset(states)


def _said(facts: Mapping[str, Any], name: str) -> Iterable[str]:
    if name in ("host", "path"):
        parts = urlsplit(facts["url"])
        return (parts.netloc if name == "host" else parts.path,)
    value = facts.get(name, ())
    return (value,) if isinstance(value, str) else value
