"""What a transport is: it publishes small messages.

Raises :class:`~django_hookflow.exceptions.TransportError` and nothing else when the message
was not accepted; the wake-up then stays owed. Accepted twice is fine: the deduplication id
collapses what it can, and a spare wake-up costs one SELECT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

#: Messages of one request.
BATCH = 100


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

    def publish(self, *messages: Message) -> None:
        """Publish up to :data:`BATCH` messages from sync code, within the publish timeout.

        Raises if one of them was not accepted, whatever became of the others.
        """

    async def apublish(self, *messages: Message) -> None:
        """:meth:`publish` from the running event loop."""
