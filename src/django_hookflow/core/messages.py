"""The message that wakes a run, and its few siblings: at most 300 bytes, ids only.

A message is a hint to look at a row. Only body and URL of a delivery are signed, so
everything that decides is in the body, and nothing in it decides anything by itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Union
from uuid import UUID

VERSION = 1
MAX_BODY_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """Look at run ``run``; ``number`` is the wake number it was sent under."""

    run: UUID
    number: int

    def encode(self) -> str:
        """The body to publish."""
        return json.dumps(
            {"v": VERSION, "run": str(self.run), "w": self.number}, separators=(",", ":")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOrder:
    """Send what is owed or overdue."""

    def encode(self) -> str:
        """The body to publish."""
        return json.dumps({"v": VERSION, "sweep": 1}, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Answer, and do nothing: somebody asks whether deliveries arrive here."""

    token: str

    def encode(self) -> str:
        """The body to publish."""
        return json.dumps({"v": VERSION, "ping": self.token}, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Newer:
    """A message of a newer version than this process knows: a rolling deploy is under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """No message of ours."""


Message = Union[Wake, SweepOrder, Ping, Newer, Unknown]


def parse_message(body: bytes) -> Message:
    """Tell what a signed body says; never raises."""
    try:
        stored = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return Unknown()
    if not isinstance(stored, dict) or type(stored.get("v")) is not int or stored["v"] < 1:
        return Unknown()
    if stored["v"] > VERSION:
        return Newer()
    if stored.get("sweep") == 1:
        return SweepOrder()
    if isinstance(stored.get("ping"), str):
        return Ping(token=stored["ping"])
    return _parse_wake(stored)


def _parse_wake(stored: dict[str, object]) -> Message:
    run, number = stored.get("run"), stored.get("w")
    if not isinstance(run, str) or type(number) is not int or not 0 < number < 2**63:
        return Unknown()
    try:
        parsed = UUID(run)
    except ValueError:
        return Unknown()
    return Wake(run=parsed, number=number) if str(parsed) == run else Unknown()
