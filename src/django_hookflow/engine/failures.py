"""Which failed steps the body had not caught: what a retry of the run executes again.

Caught means that the body went on: it asked for something after it had seen the error. To
execute such a step again would leave what was asked for afterwards in the journal with nobody
to ask for it, and the run would be blocked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from django_hookflow.core.entries import Entry


@dataclass(slots=True)
class Failures:
    """The errors that one delivery handed to the body."""

    _handed: dict[str, tuple[BaseException, int]] = field(default_factory=dict)
    _handled: set[int] = field(default_factory=set)

    def handed(self, key: str, error: BaseException, requests: int) -> None:
        """The body is given ``error``, having made so many requests."""
        self._handed[key] = (error, requests)

    def asked(self) -> None:
        """The calling code asks for a step: the errors that it is handling are caught."""
        self._handled.update(map(id, _chain(sys.exc_info()[1])))

    def uncaught(
        self, ending: BaseException | None, requests: int, left: list[Entry]
    ) -> tuple[str, ...]:
        """Keys, given what the body ended with and which outcomes were not handed to it.

        An error that ended the body counts also if other branches went on meanwhile, as when
        a task of it is awaited late.
        """
        raised = set(map(id, _parts(ending))) - self._handled
        return (
            *(
                key
                for key, (error, then) in self._handed.items()
                if then == requests or id(error) in raised
            ),
            *(entry.key for entry in left if entry.is_failed),
        )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield from _parts(error)
        error = error.__context__


def _parts(error: BaseException | None) -> Iterator[BaseException]:
    """The error and, of a group (Python 3.11 on), its members."""
    if error is not None:
        yield error
        for part in getattr(error, "exceptions", ()):
            if isinstance(part, BaseException):
                yield from _parts(part)
