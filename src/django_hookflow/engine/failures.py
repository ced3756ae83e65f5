"""Which failed steps the body had not caught: what a retry of the run executes again.

Caught means that the body went on: it asked for something because it had seen the error. To
execute such a step again would leave what was asked for afterwards in the journal with nobody
to ask for it, and the run would be blocked.

A failure after whose handing-over nothing was asked for is none of these. One that ended the
body although other branches went on meanwhile, as when a task is awaited late, may be: whether
what they asked for was built on it, only a rehearsal tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from django_hookflow.core.entries import Entry
from django_hookflow.core.grouping import parts


@dataclass(slots=True)
class Failures:
    """The errors that one delivery handed to the body."""

    _handed: dict[str, tuple[BaseException, int]] = field(default_factory=dict)

    def handed(self, key: str, error: BaseException, requests: int) -> None:
        """The body is given ``error``, having made so many requests."""
        self._handed[key] = (error, requests)

    def unanswered(self, requests: int, left: list[Entry]) -> tuple[str, ...]:
        """Keys of those that nothing was asked after; ``left`` was never handed over."""
        last = [key for key, (_, then) in self._handed.items() if then == requests]
        return (*last, *(entry.key for entry in left if entry.is_failed))

    def raised_late(self, ending: BaseException, requests: int) -> tuple[str, ...]:
        """Keys of those that ended the body although something was asked after them."""
        raised = set(map(id, parts(ending)))
        return tuple(
            key
            for key, (error, then) in self._handed.items()
            if then != requests and id(error) in raised
        )
