"""What steps really did, written down outside the engine and strictly in order."""

from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from django_hookflow.engine.place import StepInfo


class Died(BaseException):
    """The process that this code ran in is dead; nothing of it may go on."""


class Violation(AssertionError):
    """A promise was broken; the message says which, and where to look."""


#: The process that the running code belongs to.
host: ContextVar[Any] = ContextVar("host")


@dataclass(frozen=True)
class Line:
    """The body of a step did its work once."""

    run: str
    key: str
    attempt: int
    idempotency_key: str
    atomic: bool = False
    #: What a compensation was given.
    given: Any = None


@dataclass
class Ledger:
    """Effects in the order in which they happened; ``sealed`` while nothing may happen."""

    lines: list[Line] = field(default_factory=list)
    sealed: bool = False

    def write(self, info: StepInfo, *, atomic: bool = False) -> None:
        key = f"{info.step_id}#{info.occurrence}"
        self.put(Line(info.run_id, key, info.attempt, info.idempotency_key, atomic))

    def put(self, line: Line) -> None:
        if self.sealed:
            raise Violation(f"a replay of run {line.run} executed {line.key}")
        host.get().at("effect:before")
        self.lines.append(line)
        host.get().worked()
        host.get().at("effect:after")

    def of(self, run: str) -> list[Line]:
        return [line for line in self.lines if line.run == run]

    def attempts(self, run: str) -> Counter[tuple[str, str, int]]:
        """How often each attempt of each step (and series) of a run did its work."""
        return Counter((line.key, line.idempotency_key, line.attempt) for line in self.of(run))
