"""The server without HTTP: publishing, cancelling, signing keys.

What an endpoint needs is a method here; queues, schedules and the like would join as further
parts beside the store and the dispatcher.
"""

from __future__ import annotations

from dataclasses import dataclass

from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.config import Config
from django_hookflow.devserver.delivery import Courier
from django_hookflow.devserver.dispatch import Dispatcher
from django_hookflow.devserver.events import EventLog, State
from django_hookflow.devserver.faults import Faults
from django_hookflow.devserver.filters import Filters
from django_hookflow.devserver.messages import Message, Phase, Spec, new_id
from django_hookflow.devserver.recent import Recent
from django_hookflow.devserver.store import Store

__all__ = ["Published", "Service"]

_KEPT_OF_BODY = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One accepted message; instants in Unix seconds, ``body`` cut after 64 KiB.

    For a duplicate ``message_id`` is the id of the first one. ``is_dropped`` says that a test
    wanted it lost.
    """

    message_id: str
    url: str
    method: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    body_size: int
    published_at: float
    due: float
    deduplication_id: str | None
    labels: tuple[str, ...]
    is_duplicate: bool
    is_dropped: bool


class Service:
    """One QStash account in memory."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.current_key = config.current_key
        self.next_key = config.next_key
        self.store = Store(config)
        self.events = EventLog()
        self.faults = Faults()
        self.dispatcher = Dispatcher(config, self.store, self.events)
        self.published: Recent[Published] = Recent(items=20_000, size=67_108_864)

    async def start(self) -> None:
        """Begin to deliver."""
        await self.dispatcher.start(Courier(self.config, lambda: self.current_key))

    async def stop(self) -> None:
        """End at once, whatever is in flight."""
        await self.dispatcher.stop()

    def publish(self, spec: Spec) -> tuple[str, bool]:
        """Accept a message; its id, and whether it was a duplicate. Raises ``Refused``."""
        message, message_id = self.store.add(spec)
        if message is None:
            self._record(message_id, spec, is_duplicate=True)
            return message_id, True
        self.events.add(message, State.CREATED, spec.created_at,
                        nextDeliveryTime=int(spec.due * 1000))  # fmt: skip
        dropped = self.faults.take_drop()
        self._record(message_id, spec, is_dropped=dropped)
        if dropped:
            self.store.finish(message, spec.created_at)
        else:
            message.duplicate = self.faults.take_duplicate()
            self.dispatcher.schedule(message, spec.due)
        return message_id, False

    def cancel(self, message_id: str) -> int:
        """Cancel one message; 0 if that was asked before. Raises ``Refused`` (404)."""
        message = self.store.get(message_id)
        if message is None or message.phase is Phase.FINISHED:
            raise Refused(404, f"message {message_id} not found")
        if message.cancel_requested:
            return 0
        self.dispatcher.cancel(message)
        return 1

    def cancel_matching(self, filters: Filters, most: int | None) -> int:
        """Cancel what passes the filters, oldest first, at most ``most``; how many that were."""
        chosen = [m for m in self.store.unfinished() if _passes(m, filters)][:most]
        for message in chosen:
            self.dispatcher.cancel(message)
        return len(chosen)

    def rotate_keys(self) -> None:
        """Sign with the next key from now on, and make up a new next one."""
        self.current_key, self.next_key = self.next_key, new_id("sig_")

    def _record(
        self, message_id: str, spec: Spec, *, is_duplicate: bool = False, is_dropped: bool = False
    ) -> None:
        body = spec.body[:_KEPT_OF_BODY]
        record = Published(
            message_id=message_id,
            url=spec.url,
            method=spec.method,
            headers=spec.headers,
            body=body,
            body_size=len(spec.body),
            published_at=spec.created_at,
            due=spec.due,
            deduplication_id=spec.deduplication_id,
            labels=spec.labels,
            is_duplicate=is_duplicate,
            is_dropped=is_dropped,
        )
        self.published.append(record, size=len(body))


def _passes(message: Message, filters: Filters) -> bool:
    return filters.match(message.facts(), int(message.spec.created_at * 1000))
