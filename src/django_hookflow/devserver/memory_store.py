"""Everything in memory: messages by id and by deduplication id, the finished ones for a while.

What changed since the last commit is noted, because the store in a file is this one with a
``commit`` that writes it down.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.config import Config
from django_hookflow.devserver.dead_letters import Answer, DeadLetter, DeadLetters
from django_hookflow.devserver.events import MOST_EVENTS, Event, EventLog, State
from django_hookflow.devserver.messages import Message, Phase, Spec, new_id

__all__ = ["Changes", "MemoryStore"]

_DEDUPLICATION_WINDOW = 600.0
_MOST_DEDUPLICATION_IDS = 100_000


@dataclass(slots=True, kw_only=True)
class Changes:
    """Ids of what is new, other or gone since the last commit, in the order of its happening."""

    # Ordered sets, as dictionaries without values.
    messages: dict[str, None] = field(default_factory=dict)
    deduplication_ids: dict[str, None] = field(default_factory=dict)
    dead_letters: dict[str, None] = field(default_factory=dict)
    records: dict[tuple[str, str], None] = field(default_factory=dict)
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=MOST_EVENTS))


class MemoryStore:
    """A ``Store`` that forgets all when the process ends."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.events = EventLog()
        self.dead_letters = DeadLetters(config)
        self._messages: dict[str, Message] = {}
        self._finished: OrderedDict[str, float] = OrderedDict()
        # Insertion order is expiry order, because the window is the same for all.
        self._seen: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._stored = 0
        self._records: dict[str, dict[str, Mapping[str, Any]]] = {}
        self._changes = Changes()

    def open(self, now: float) -> None:
        """Nothing was kept."""

    def close(self) -> None:
        """Nothing to let go of."""

    def commit(self) -> None:
        """What is in memory lasts as long as it can."""
        self._changes = Changes()

    def add(self, spec: Spec, instead_of: str = "") -> tuple[Message | None, str]:
        now = spec.created_at
        self._forget_old(now)
        first, _ = self._seen.get(spec.deduplication_id or "", ("", 0.0))
        if first and first != instead_of:
            return None, first
        self._make_room(spec.size)
        message = Message(new_id("msg_"), spec)
        self._take(message)
        self.save(message)
        if spec.deduplication_id is not None:
            self._seen[spec.deduplication_id] = (message.id, now + _DEDUPLICATION_WINDOW)
            self._seen.move_to_end(spec.deduplication_id)
            self._changes.deduplication_ids[spec.deduplication_id] = None
        return message, message.id

    def discard(self, message: Message) -> None:
        self._drop(message.id)
        self._finished.pop(message.id, None)
        name = message.spec.deduplication_id
        if name is not None and self._seen.get(name, ("",))[0] == message.id:
            self._forget_deduplication_id(name)

    def get(self, message_id: str) -> Message | None:
        return self._messages.get(message_id)

    def unfinished(self) -> Iterator[Message]:
        for message in list(self._messages.values()):
            if message.phase is not Phase.FINISHED:
                yield message

    @property
    def waiting(self) -> int:
        return len(self._messages) - len(self._finished)

    def newest(self) -> Iterator[Message]:
        yield from reversed(self._messages.values())

    def save(self, message: Message) -> None:
        self._changes.messages[message.id] = None

    def finish(self, message: Message, now: float) -> None:
        message.phase = Phase.FINISHED
        self._finished[message.id] = now
        self.save(message)
        self._forget_old(now)

    def log(self, message: Message, state: State, at: float, **details: Any) -> None:
        self._changes.events.append(self.events.add(message, state, at, **details))

    def bury(self, message: Message, answer: Answer, at: float) -> DeadLetter:
        letter = self.dead_letters.add(message, answer, at)
        self._changes.dead_letters[letter.id] = None
        self._forget_old(at)
        return letter

    def remove_dead_letter(self, dlq_id: str) -> bool:
        removed = self.dead_letters.remove(dlq_id)
        if removed:
            self._changes.dead_letters[dlq_id] = None
        return removed

    def restore_dead_letter(self, letter: DeadLetter) -> None:
        self.dead_letters.put_back(letter)
        self._changes.dead_letters[letter.id] = None

    def record(self, kind: str, name: str, value: Mapping[str, Any] | None) -> None:
        kept = self._records.setdefault(kind, {})
        if value is None:
            kept.pop(name, None)
        else:
            kept[name] = value
        self._changes.records[kind, name] = None

    def records(self, kind: str) -> dict[str, Mapping[str, Any]]:
        return dict(self._records.get(kind, {}))

    def unwritten_records(self) -> dict[tuple[str, str], Mapping[str, Any] | None]:
        """Those that changed since the last commit, as they are now; ``None`` is gone."""
        return {
            (kind, name): self._records.get(kind, {}).get(name)
            for kind, name in self._changes.records
        }

    def _take(self, message: Message) -> None:
        self._messages[message.id] = message
        self._stored += message.spec.size

    def _forget_old(self, now: float) -> None:
        while self._finished and (
            len(self._finished) > self._config.keep_finished
            or next(iter(self._finished.values())) <= now - self._config.keep_seconds
        ):
            self._drop_oldest()
        while self._seen and (
            len(self._seen) > _MOST_DEDUPLICATION_IDS or next(iter(self._seen.values()))[1] <= now
        ):
            self._forget_deduplication_id(next(iter(self._seen)))
        while (letter := self.dead_letters.overdue(now)) is not None:
            self.remove_dead_letter(letter.id)

    def _make_room(self, size: int) -> None:
        while self._finished and self._stored + size > self._config.max_stored:
            self._drop_oldest()
        waiting = self.waiting
        if waiting >= self._config.max_waiting:
            raise Refused(429, f"{waiting} messages are waiting; this server takes no more")
        if self._stored + size > self._config.max_stored:
            raise Refused(429, f"{self._stored} bytes are waiting; this server takes no more")

    def _drop_oldest(self) -> None:
        message_id, _ = self._finished.popitem(last=False)
        self._drop(message_id)

    def _drop(self, message_id: str) -> None:
        self._stored -= self._messages.pop(message_id).spec.size
        self._changes.messages[message_id] = None

    def _forget_deduplication_id(self, name: str) -> None:
        del self._seen[name]
        self._changes.deduplication_ids[name] = None
