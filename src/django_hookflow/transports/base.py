"""What a transport is: it publishes one small message, once or not at all.

Raises :class:`~django_hookflow.exceptions.TransportError` and nothing else when the message
was not accepted; the wake-up then stays owed. Accepted twice is fine: the deduplication id
collapses what it can, and a spare wake-up costs one SELECT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is published: ``body`` (at most 300 bytes) to our own webhook.

    ``delay`` is whole seconds from now; ``deduplication_id`` has letters, digits and ``-``.
    """

    body: str
    delay: int
    deduplication_id: str


class Transport(Protocol):
    """Publishes messages to this application's webhook."""

    def publish(self, message: Message) -> None:
        """Publish from sync code, within the publish timeout."""

    async def apublish(self, message: Message) -> None:
        """Publish from the running event loop, within the publish timeout."""
