"""The server without HTTP: publishing, cancelling, dead letters, signing keys.

What an endpoint needs is a method here; queues, schedules and the like would join as further
parts beside the store and the dispatcher.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.config import Config
from django_hookflow.devserver.delivery import Courier
from django_hookflow.devserver.dispatch import Dispatcher
from django_hookflow.devserver.events import EventLog, State
from django_hookflow.devserver.faults import Faults
from django_hookflow.devserver.file_store import FileStore
from django_hookflow.devserver.filters import Filters
from django_hookflow.devserver.memory_store import MemoryStore
from django_hookflow.devserver.messages import Message, Phase, Spec, new_id
from django_hookflow.devserver.recent import Recent
from django_hookflow.devserver.store import Store, StoreError

__all__ = ["Published", "Service"]

logger = logging.getLogger("django_hookflow.devserver")

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
    """One QStash account: in memory, or in a file if the settings name one."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.current_key = config.current_key
        self.next_key = config.next_key
        self.store: Store = (
            MemoryStore(config) if config.db is None else FileStore(config, config.db)
        )
        self.faults = Faults()
        self.dispatcher = Dispatcher(config, self.store)
        self.published: Recent[Published] = Recent(items=20_000, size=67_108_864)
        self._accepted: list[Message] = []
        self._is_open = False

    @property
    def events(self) -> EventLog:
        """The log."""
        return self.store.events

    def open(self) -> None:
        """Take up what was kept, if there is a file. Raises ``StoreError``."""
        self.store.open(time.time())
        self._is_open = True
        if self.config.db is not None:
            left = sum(1 for _ in self.store.unfinished())
            logger.info("%s: %d message(s) of before to deliver, %d dead letter(s)",
                        self.config.db, left, len(self.store.dead_letters.snapshot()))  # fmt: skip

    async def start(self) -> None:
        """Begin to deliver, first what is left of the last time."""
        if not self._is_open:
            self.open()
        await self.dispatcher.start(Courier(self.config, lambda: self.current_key))

    async def stop(self) -> None:
        """End at once, whatever is in flight; what a file keeps is delivered the next time."""
        await self.dispatcher.stop()
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self.store.close()
        self._is_open = False

    @contextmanager
    def accepting(self) -> Iterator[None]:
        """What is published inside is kept before this ends, or all of it refused."""
        self._accepted = []
        try:
            yield
        finally:
            accepted, self._accepted = self._accepted, []
            self._keep_accepted(accepted)

    def _keep_accepted(self, accepted: Sequence[Message]) -> None:
        try:
            self.store.commit()
        except StoreError as error:
            for message in accepted:
                self.store.discard(message)
            raise Refused(500, str(error)) from error
        for message in accepted:
            if message.phase is not Phase.FINISHED:
                self.dispatcher.schedule(message, message.due)

    def publish(self, spec: Spec) -> tuple[str, bool]:
        """Accept a message; its id, and whether it was a duplicate. Raises ``Refused``.

        Call it inside ``accepting``, and await nothing there.
        """
        message, message_id = self.store.add(spec)
        if message is None:
            self._record(message_id, spec, is_duplicate=True)
            return message_id, True
        self._accepted.append(message)
        self.store.log(message, State.CREATED, spec.created_at,
                       nextDeliveryTime=int(spec.due * 1000))  # fmt: skip
        dropped = self.faults.take_drop()
        self._record(message_id, spec, is_dropped=dropped)
        if dropped:
            self.store.finish(message, spec.created_at)
        else:
            message.duplicate = self.faults.take_duplicate()
        return message_id, False

    def cancel(self, message_id: str) -> int:
        """Cancel one message; 0 if that was asked before. Raises ``Refused`` (404)."""
        message = self.store.get(message_id)
        if message is None or message.phase is Phase.FINISHED:
            raise Refused(404, f"message {message_id} not found")
        if message.cancel_requested:
            return 0
        self.dispatcher.cancel(message)
        self._commit()
        return 1

    def cancel_matching(self, filters: Filters, most: int | None) -> int:
        """Cancel what passes the filters, oldest first, at most ``most``; how many that were."""
        chosen = [m for m in self.store.unfinished() if _can_be_cancelled(m, filters)][:most]
        for message in chosen:
            self.dispatcher.cancel(message)
        self._commit()
        return len(chosen)

    def remove_dead_letters(self, dlq_ids: Sequence[str]) -> int:
        """Take dead letters away; how many of them there were. Raises ``Refused`` (500)."""
        removed = sum(self.store.remove_dead_letter(dlq_id) for dlq_id in dlq_ids)
        self._commit()
        return removed

    def _commit(self) -> None:
        try:
            self.store.commit()
        except StoreError as error:
            raise Refused(500, str(error)) from error

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


def _can_be_cancelled(message: Message, filters: Filters) -> bool:
    if message.cancel_requested:
        return False
    return filters.match(message.facts(), int(message.spec.created_at * 1000))
