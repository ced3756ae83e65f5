"""The messages in memory: by id, by deduplication id, and the finished ones for a while.

Time comes in as an argument, in Unix seconds. Knows nothing of delivering.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.config import Config
from django_hookflow.devserver.messages import Message, Phase, Spec, new_id

__all__ = ["Store"]

_DEDUPLICATION_WINDOW = 600.0
_MOST_DEDUPLICATION_IDS = 100_000


class Store:
    """All messages that can still be asked for."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._messages: dict[str, Message] = {}
        self._finished: OrderedDict[str, float] = OrderedDict()
        # Insertion order is expiry order, because the window is the same for all.
        self._seen: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._stored = 0

    def add(self, spec: Spec) -> tuple[Message | None, str]:
        """Take a message: the new one, or ``None`` for a duplicate, with the id to answer.

        Raises ``Refused`` (429) if the server holds as much as it may.
        """
        now = spec.created_at
        self._forget_old(now)
        if spec.deduplication_id is not None and spec.deduplication_id in self._seen:
            return None, self._seen[spec.deduplication_id][0]
        self._make_room(len(spec.body))
        message = Message(new_id("msg_"), spec)
        self._messages[message.id] = message
        self._stored += len(spec.body)
        if spec.deduplication_id is not None:
            self._seen[spec.deduplication_id] = (message.id, now + _DEDUPLICATION_WINDOW)
        return message, message.id

    def get(self, message_id: str) -> Message | None:
        """The message, also for some minutes after it finished."""
        return self._messages.get(message_id)

    def unfinished(self) -> Iterator[Message]:
        """Messages that can still be cancelled, oldest first."""
        for message in list(self._messages.values()):
            if message.phase is not Phase.FINISHED and not message.cancel_requested:
                yield message

    def finish(self, message: Message, now: float) -> None:
        """The message is done with; it stays readable for a while."""
        message.phase = Phase.FINISHED
        self._finished[message.id] = now
        self._forget_old(now)

    def _forget_old(self, now: float) -> None:
        while self._finished and (
            len(self._finished) > self._config.keep_finished
            or next(iter(self._finished.values())) <= now - self._config.keep_seconds
        ):
            self._drop_oldest()
        while self._seen and (
            len(self._seen) > _MOST_DEDUPLICATION_IDS or next(iter(self._seen.values()))[1] <= now
        ):
            self._seen.popitem(last=False)

    def _make_room(self, size: int) -> None:
        while self._finished and self._stored + size > self._config.max_stored:
            self._drop_oldest()
        waiting = len(self._messages) - len(self._finished)
        if waiting >= self._config.max_waiting:
            raise Refused(429, f"{waiting} messages are waiting; this server takes no more")
        if self._stored + size > self._config.max_stored:
            raise Refused(429, f"{self._stored} bytes are waiting; this server takes no more")

    def _drop_oldest(self) -> None:
        message_id, _ = self._finished.popitem(last=False)
        self._stored -= len(self._messages.pop(message_id).spec.body)
