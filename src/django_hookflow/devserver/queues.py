"""Queues: lines in which a message waits until those before it are over.

Over is a message that was delivered, given up or cancelled, and whose callbacks are over too.
Until then it has one of the queue's places, of which there are as many as its parallelism.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any

from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.messages import Message
from django_hookflow.devserver.options import check_name
from django_hookflow.devserver.store import Store

__all__ = ["Queue", "Queues"]

_KIND = "queue"
_MOST_QUEUES = 1_000
_MOST_PLACES = 10_000


class Queue:
    """One queue; instants in Unix seconds."""

    __slots__ = ("created_at", "is_paused", "name", "parallelism", "resuming", "taken",
                 "updated_at", "waiting")  # fmt: skip

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.parallelism = 1
        self.is_paused = False
        self.created_at = self.updated_at = now
        #: Those whose turn has not come, and those whose next attempt waits for a paused queue.
        self.waiting: OrderedDict[str, Message] = OrderedDict()
        self.resuming: OrderedDict[str, Message] = OrderedDict()
        #: Places by the message that has them: what is not over yet of it and its callbacks.
        self.taken: Counter[str] = Counter()

    def arrive(self, message: Message) -> None:
        """The message is due."""
        (self.resuming if message.has_place else self.waiting)[message.id] = message

    def startable(self) -> Iterator[Message]:
        """Those that may start now, each with its place."""
        while not self.is_paused and self.resuming:
            yield self.resuming.popitem(last=False)[1]
        while not self.is_paused and self.waiting and len(self.taken) < self.parallelism:
            _, message = self.waiting.popitem(last=False)
            self.hold(message.id)
            message.has_place = True
            yield message

    def hold(self, message_id: str) -> None:
        """The message, or one more callback of it, is not over."""
        self.taken[message_id] += 1

    def release(self, message_id: str) -> None:
        """One of them is."""
        self.taken[message_id] -= 1
        if self.taken[message_id] <= 0:
            del self.taken[message_id]

    def messages(self) -> list[Message]:
        """All that wait."""
        return [*self.resuming.values(), *self.waiting.values()]

    def forget(self, message: Message) -> bool:
        """The message waits no more; whether it did."""
        found = self.waiting.pop(message.id, None) or self.resuming.pop(message.id, None)
        return found is not None

    def as_json(self) -> dict[str, Any]:
        """The object of ``GET /v2/queues/{name}``."""
        return {
            "name": self.name,
            "parallelism": self.parallelism,
            "createdAt": int(self.created_at * 1000),
            "updatedAt": int(self.updated_at * 1000),
            "lag": len(self.waiting) + len(self.taken),
            "paused": self.is_paused,
        }


class Queues:
    """All queues, by name."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queues: dict[str, Queue] = {}

    def load(self) -> None:
        """Take up what was recorded."""
        for name, record in self._store.records(_KIND).items():
            queue = self._queues[name] = Queue(name, record["created_at"])
            queue.updated_at = record["updated_at"]
            queue.parallelism = record["parallelism"]
            queue.is_paused = record["is_paused"]

    def get(self, name: str) -> Queue:
        """The queue. Raises ``Refused`` (404)."""
        queue = self._queues.get(name)
        if queue is None:
            raise Refused(404, f"queue {name[:40]} not found")
        return queue

    def find(self, name: str) -> Queue | None:
        """The queue, if there is one."""
        return self._queues.get(name)

    def all(self) -> list[Queue]:
        """Every queue."""
        return list(self._queues.values())

    def make(self, name: str, now: float) -> Queue:
        """The queue, new if need be. Raises ``Refused``: 400 for the name, 412 for one too many."""
        queue = self._queues.get(check_name("queue name", name))
        if queue is None:
            if len(self._queues) >= _MOST_QUEUES:
                raise Refused(412, f"there are {_MOST_QUEUES} queues; this server takes no more")
            queue = self._queues[name] = Queue(name, now)
            self._save(queue)
        return queue

    def upsert(self, name: str, parallelism: object, paused: object, now: float) -> Queue:
        """Set what is not ``None``. Raises ``Refused``."""
        if parallelism is not None and (
            type(parallelism) is not int or not 1 <= parallelism <= _MOST_PLACES
        ):
            raise Refused(400, f"invalid parallelism: a number from 1 to {_MOST_PLACES}")
        if paused is not None and not isinstance(paused, bool):
            raise Refused(400, "invalid paused: true or false")
        queue = self.make(name, now)
        if isinstance(parallelism, int):
            queue.parallelism = parallelism
        if isinstance(paused, bool):
            queue.is_paused = paused
        queue.updated_at = now
        self._save(queue)
        return queue

    def remove(self, name: str) -> None:
        """Forget the queue. Raises ``Refused`` (404)."""
        del self._queues[self.get(name).name]
        self._store.record(_KIND, name, None)

    def _save(self, queue: Queue) -> None:
        names = ("parallelism", "is_paused", "created_at", "updated_at")
        self._store.record(_KIND, queue.name, {name: getattr(queue, name) for name in names})
