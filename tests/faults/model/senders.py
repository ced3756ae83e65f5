"""How an event is stored in a transaction of the caller's, and signalled for after it."""

import uuid
from collections.abc import Callable
from typing import Protocol

from django.db import transaction
from django.test import TestCase

from django_hookflow.core.transitions import SendEvent, Signal, Signalled
from django_hookflow.journals.memory_rows import MemoryEvent
from tests.journals.bench import MemoryBench, OrmBench

EVENT = "paid"


class Senders(Protocol):
    def store(self, id: uuid.UUID, payload: str) -> Callable[[], object]:
        """Commit it, unseen; what is returned signals."""

    def roll_back(self, id: uuid.UUID, payload: str) -> None:
        """Insert it, and let the transaction fail."""


class OrmSenders:
    """As users do it: in ``atomic``, the signal in ``on_commit``."""

    def __init__(self, bench: OrmBench) -> None:
        self._journal = bench.journal
        self._alias = bench.alias

    def store(self, id: uuid.UUID, payload: str) -> Callable[[], object]:
        committed = TestCase.captureOnCommitCallbacks(using=self._alias)
        with committed as callbacks, transaction.atomic(using=self._alias):
            self._send(id, payload)
        (signal,) = callbacks
        return signal

    def roll_back(self, id: uuid.UUID, payload: str) -> None:
        with transaction.atomic(using=self._alias):
            self._send(id, payload)
            transaction.set_rollback(True, using=self._alias)

    def _send(self, id: uuid.UUID, payload: str) -> None:
        answer = self._journal.send_event(SendEvent(id=id, name=EVENT, payload=payload))
        assert answer == Signalled(owed=True)


class MemorySenders:
    """The memory journal has no transactions to join: the row is put as they would leave it."""

    def __init__(self, bench: MemoryBench) -> None:
        self._journal = bench.journal

    def store(self, id: uuid.UUID, payload: str) -> Callable[[], object]:
        stored = self._journal._stored.events
        number = max(stored, default=0) + 1
        stored[number] = MemoryEvent(number=number, run=id, name=EVENT, payload=payload)
        return lambda: self._journal.signal(Signal(id=id, wait=f"event:{EVENT}"))

    def roll_back(self, id: uuid.UUID, payload: str) -> None:
        """Nothing is left of it."""
