"""The process that dies at a step, as a test asks for it: a journal with planned crashes.

A dying process neither suspends its run nor gives its lease back. So a crash unwinds the
delivery by a ``BaseException``, and until that is done the journal takes nothing more from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Union

from django_hookflow.core import transitions as t
from django_hookflow.core.entries import Entry, Kind
from django_hookflow.journals.orm import OrmJournal
from django_hookflow.testing.clock import VirtualClock

#: The body ran, nothing is committed.
BEFORE_RECORD = frozenset({"record:before", "attempted:before", "atomic:inside"})
#: The outcome is committed, and the delivery would go on.
AFTER = frozenset({"record:after", "atomic:after", "fire:after", "receive:after"})


class Crash(BaseException):
    """The process dies here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCrash:
    """Dies once, at step ``step_id``; ``asked`` is the call that asked for it."""

    step_id: str
    points: frozenset[str]
    asked: str

    def strikes(self, point: str, entry: Entry) -> bool:
        """Whether the process dies at this point of this step; ``charge#2`` is the second."""
        return point in self.points and self.step_id in (entry.step_id, entry.key)


class KitJournal(OrmJournal):
    """The project's journal by a virtual clock, on the calling thread only."""

    def __init__(self, alias: Callable[[], str], clock: VirtualClock) -> None:
        super().__init__(alias, clock.now, crash=self._pass)
        self.planned: list[PlannedCrash] = []
        self._dead = False
        self._entry: Union[Entry, None] = None

    def revive(self) -> None:
        """The delivery has unwound; the next one is another process."""
        self._dead = False

    def pinned(self) -> bool:
        """Always: ``def`` steps side by side run one after the other, on the test's thread."""
        return True

    def commit(self, transition: t.Commit) -> Union[t.Committed, t.NotYet]:
        self._entry = transition.entry
        try:
            return super().commit(transition)
        finally:
            self._entry = None

    def claim(self, transition: t.Claim) -> Union[t.Claimed, t.NotClaimed]:
        answer = super().claim(transition)
        if isinstance(answer, t.Claimed):
            for entry in answer.entries:
                # A claim completes the sleeps that are due.
                if entry.kind is Kind.SLEEP and entry.finished_at == answer.run.now:
                    self._strike("fire:after", entry)
        return answer

    def _pass(self, point: str) -> None:
        if self._dead:
            raise Crash
        if self._entry is not None:
            self._strike(point, self._entry)

    def _strike(self, point: str, entry: Entry) -> None:
        for planned in self.planned:
            if planned.strikes(point, entry):
                self.planned.remove(planned)
                self._dead = True
                raise Crash
