"""Faults that a test asks for: the next n messages, or publish requests, go wrong."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Faults", "PlannedAnswer", "PublishFault"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishFault:
    """A publish request that is answered with ``status``, perhaps after it was accepted."""

    status: int
    accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedAnswer:
    """What an attempt gets instead of being made; ``status`` 0 is a broken connection."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Faults:
    """Counters of faults to come; set by any thread, used up by the server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drops = 0
        self._duplicates = 0
        self._publishes: deque[PublishFault] = deque()
        self._answers: deque[PlannedAnswer] = deque()

    def drop(self, count: int) -> None:
        """Never deliver the next ``count`` accepted messages."""
        with self._lock:
            self._drops += count

    def duplicate(self, count: int) -> None:
        """Deliver the next ``count`` accepted messages twice at once."""
        with self._lock:
            self._duplicates += count

    def fail_publish(self, count: int, fault: PublishFault) -> None:
        """Answer the next ``count`` publish or batch requests with an error."""
        with self._lock:
            self._publishes.extend([fault] * count)

    def answer(self, count: int, answer: PlannedAnswer) -> None:
        """Give the next ``count`` attempts this answer, and leave their destination alone."""
        with self._lock:
            self._answers.extend([answer] * count)

    def take_answer(self) -> PlannedAnswer | None:
        """What this attempt gets, if it is not to be made."""
        with self._lock:
            return self._answers.popleft() if self._answers else None

    def take_drop(self) -> bool:
        """Whether this message is to be lost."""
        with self._lock:
            self._drops, taken = max(0, self._drops - 1), self._drops > 0
            return taken

    def take_duplicate(self) -> bool:
        """Whether this message is to be delivered twice."""
        with self._lock:
            self._duplicates, taken = max(0, self._duplicates - 1), self._duplicates > 0
            return taken

    def take_publish_fault(self) -> PublishFault | None:
        """What is to go wrong with this publish request, if anything."""
        with self._lock:
            return self._publishes.popleft() if self._publishes else None
