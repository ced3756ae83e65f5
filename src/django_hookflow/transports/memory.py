"""A transport that keeps its messages: for tests, ours and users'."""

from __future__ import annotations

import threading
from collections.abc import Callable

from django_hookflow.exceptions import TransportError
from django_hookflow.transports.base import Message

__all__ = ["MemoryTransport"]


class MemoryTransport:
    """Records what is published and fails on demand; safe to use from several threads.

    ``config`` is what every transport of the setting is given; there is nothing to configure.
    """

    def __init__(self, config: Callable[[], object] | None = None) -> None:
        self.messages: list[Message] = []
        self._failures = 0
        self._retry_after: float | None = None
        self._lock = threading.Lock()

    def fail_next(self, n: int = 1, *, retry_after: float | None = None) -> None:
        """Make the next ``n`` publishes fail, asking to wait ``retry_after`` seconds."""
        with self._lock:
            self._failures, self._retry_after = n, retry_after

    def take(self) -> list[Message]:
        """What was published since the last take, in order."""
        with self._lock:
            taken, self.messages = self.messages, []
        return taken

    def publish(self, *messages: Message) -> None:
        """Record ``messages``, or raise :class:`TransportError` if told to fail."""
        with self._lock:
            if self._failures > 0:
                self._failures -= 1
                raise TransportError("told to fail", retry_after=self._retry_after)
            self.messages.extend(messages)

    async def apublish(self, *messages: Message) -> None:
        """Record ``messages``, or raise :class:`TransportError` if told to fail."""
        self.publish(*messages)
