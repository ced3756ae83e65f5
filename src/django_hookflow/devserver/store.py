"""What the server keeps, as its other parts see it: messages, deduplication ids, the log, the
dead letters, and records: queues, schedules and whatever else has a name and is small.

Implementations are next door: ``memory_store`` for the time the server runs, ``file_store`` for
longer. They keep the same promises (``tests/devserver/test_store.py``); here is no code.
All calls come from the server's event loop, and time comes in as an argument, in Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from django_hookflow.devserver.dead_letters import Answer, DeadLetter, DeadLetters
from django_hookflow.devserver.events import EventLog, State
from django_hookflow.devserver.messages import Message, Spec

__all__ = ["Store", "StoreError"]


class StoreError(Exception):
    """The store cannot be opened or written; the text says what to do."""


class Store(Protocol):
    """All that can still be asked for.

    What changes counts as soon as the method returns; ``commit`` makes it last. Until then it
    may be lost with the process, and never in part: what was changed between two commits is
    kept together or not at all.
    """

    @property
    def events(self) -> EventLog:
        """The log, for reading."""

    @property
    def dead_letters(self) -> DeadLetters:
        """The dead letters, for reading."""

    def open(self, now: float) -> None:
        """Make ready, with what was kept before. Raises ``StoreError``."""

    def close(self) -> None:
        """Let go of everything; what was not committed may be lost."""

    def commit(self) -> None:
        """Make all changes last. Raises ``StoreError``; the next commit tries them again."""

    def add(self, spec: Spec, instead_of: str = "") -> tuple[Message | None, str]:
        """Take a message: the new one, or ``None`` for a duplicate, with the id to answer.

        It is no duplicate of the message whose id is ``instead_of``. Raises ``Refused`` (429) if
        the store holds as much as it may.
        """

    def discard(self, message: Message) -> None:
        """Undo ``add``: the message never was, and its deduplication id is free again."""

    def get(self, message_id: str) -> Message | None:
        """The message, also for some minutes after it finished."""

    def unfinished(self) -> Iterator[Message]:
        """Messages that are not done with, oldest first."""

    @property
    def waiting(self) -> int:
        """How many are not done with."""

    def newest(self) -> Iterator[Message]:
        """All messages that can still be asked for, newest first; change nothing meanwhile."""

    def save(self, message: Message) -> None:
        """The message was changed: its retries, its due time, or that it is to be cancelled."""

    def finish(self, message: Message, now: float) -> None:
        """The message is done with; it stays readable for a while."""

    def log(self, message: Message, state: State, at: float, **details: Any) -> None:
        """Log that ``message`` came into ``state``."""

    def record(self, kind: str, name: str, value: Mapping[str, Any] | None) -> None:
        """Keep something else by its name: JSON, not changed afterwards; ``None`` forgets it."""

    def records(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """All of a kind, in the order in which they first came."""

    def bury(self, message: Message, answer: Answer, at: float) -> DeadLetter:
        """Add the message to the dead letters, with the last answer to it."""

    def remove_dead_letter(self, dlq_id: str) -> bool:
        """Take a dead letter away; whether it was there."""

    def restore_dead_letter(self, letter: DeadLetter) -> None:
        """Undo ``remove_dead_letter``, as what went with it could not be kept."""
