"""What exists while the kit is entered: its clock, journal and messages, put into the runtime."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime, timezone
from typing import Any

from django.db import connections

from django_hookflow.conf import options
from django_hookflow.engine.events import Observer
from django_hookflow.runtime import Parts, runtime
from django_hookflow.testing.clock import VirtualClock
from django_hookflow.testing.errors import HookflowTestError
from django_hookflow.testing.faults import KitJournal
from django_hookflow.testing.messages import Messages, RowsOnly


class Inside:
    """What exists while the kit is entered."""

    def __init__(self, start: datetime, observe: Observer) -> None:
        self.clock = VirtualClock(start.astimezone(timezone.utc))
        self.journal = KitJournal(lambda: options.database, self.clock)
        self.messages = Messages(self.journal, self.clock)
        wakes = RowsOnly(journal=self.journal, transport=self.messages.transport, pool=_no_pool)
        self.driving = False
        self._in_transaction = _in_transaction()
        self._stack = ExitStack()
        self._stack.enter_context(
            runtime.replaced(
                Parts(
                    journal=self.journal,
                    wakes=wakes,
                    clock=self.clock,
                    observe=observe,
                    now=self.clock.now,
                )
            )
        )

    def leave(self) -> None:
        """The process runs workflows as its settings say again."""
        self._stack.close()

    def check_thread(self) -> None:
        """Refuse to drive where the test's rows are not to be seen, or would not be committed."""
        if self.journal.in_any_transaction():
            raise HookflowTestError(
                "runs are not driven inside transaction.atomic(): what they are to see is not "
                "committed yet. Leave the block first"
            )
        if self._in_transaction and not _in_transaction():
            raise HookflowTestError(
                "the test's transaction is on another thread than its database calls, which "
                "would see none of its rows (pytest-asyncio, anyio): mark the test with "
                "django_db(transaction=True), or write it as a method of django.test.TestCase"
            )

    def check_faults(self) -> None:
        """A fault that was asked for and never happened makes a test that tests nothing."""
        never = [planned.asked for planned in self.journal.planned]
        never += ["lose_next_message()"] * self.messages.to_lose
        self.journal.planned.clear()
        self.messages.to_lose = 0
        if never:
            raise HookflowTestError(
                f"{' and '.join(never)} never happened: no such step was recorded, or no "
                "message was sent"
            )


def _in_transaction() -> bool:
    """Whether this thread has a transaction open on the journal's alias, the test's included."""
    return connections[options.database].in_atomic_block


def _no_pool() -> Any:
    raise AssertionError("the kit's journal is pinned")
