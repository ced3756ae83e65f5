"""What a workflow's request comes to: the request itself and how to execute it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Union

from django_hookflow.core.requests import Request
from django_hookflow.core.retry import RetryPolicy
from django_hookflow.core.transitions import STEP, Trigger, wait_for
from django_hookflow.engine.calls import HttpCall


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """Options of one request; ``None`` means the workflow's or the project's default."""

    retry: RetryPolicy | None = None
    timeout: float | None = None
    undo: Undo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """Call ``fn``; ``is_async`` tells its colour, ``hint`` how its value is decoded."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    is_async: bool
    hint: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AtomicFunction:
    """Call ``fn`` inside the journal's transaction."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    hint: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """Wait for so long, or until then."""

    until: Union[datetime, timedelta]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailbox:
    """Wait for the next thing of that name in the run's mailbox, so long or for ever.

    ``until`` is when nothing can come any more, however long the patience.
    """

    source: str
    name: str
    timeout: timedelta | None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """Start a run and wait for its end; ``hint`` decodes its result.

    ``start`` has no parent yet, and no ``run_id`` if the workflow gave none.
    """

    start: Trigger
    hint: Any


Work = Union[Function, AtomicFunction, HttpCall, Timer, Mailbox, Child]


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """How to compensate a step: a function by its dotted name, and its encoded arguments."""

    name: str
    args: str

    def to_text(self) -> str:
        """What the journal keeps."""
        return json.dumps([self.name, self.args])

    @classmethod
    def from_text(cls, text: str) -> Undo:
        """The inverse of :meth:`to_text`."""
        name, args = json.loads(text)
        return cls(name=name, args=args)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One request with its work."""

    request: Request
    work: Work
    retry: RetryPolicy
    timeout: float | None = None
    undo: str = ""

    @property
    def hint(self) -> Any:
        """The annotation that decodes its value."""
        decoded = isinstance(self.work, (Function, AtomicFunction, Child))
        return self.work.hint if decoded else Any  # type: ignore[union-attr]  # mypy forgets why


@dataclass(slots=True, kw_only=True)
class Job:
    """A request that has to be executed, with the future that the body awaits.

    ``attempt`` counts the attempts that have ended; ``recorded`` tells that it has a row, which
    says how to undo it; ``not_before`` is the journal's time at which the next may begin,
    ``began`` that at which the present one did, ``started`` the same by ``time.monotonic()``;
    ``raised`` is what the last attempt raised; ``context`` has the context variables of the branch
    that asked for it.
    """

    plan: Plan
    key: str
    occurrence: int
    args_sha: str
    requested: int
    series: int
    future: asyncio.Future[Any]
    attempt: int = 0
    not_before: datetime | None = None
    recorded: bool = False
    began: datetime | None = None
    started: float = 0.0
    raised: Union[BaseException, None] = None
    context: Context = field(default_factory=copy_context)


@dataclass(slots=True, kw_only=True)
class Wait:
    """A request that waits for a time or for something to come, with the body's future.

    ``ready_at`` is when a timer fires or the patience ends (``None``: never). ``looked`` is the
    mailbox version at which there was nothing for it.
    """

    plan: Plan
    key: str
    occurrence: int
    args_sha: str
    requested: int
    series: int
    future: asyncio.Future[Any]
    started_at: datetime
    ready_at: datetime | None
    recorded: bool = field(default=False)
    looked: int = 0

    @property
    def listens(self) -> str:
        """What wakes the run for it; nothing but the time if it is a timer."""
        work = self.plan.work
        if isinstance(work, Mailbox):
            return wait_for(work.source, work.name)
        return wait_for(STEP, self.key) if isinstance(work, Child) else ""

    def is_due(self, remaining: Callable[[datetime], float]) -> bool:
        """Whether its time has come."""
        return self.ready_at is not None and remaining(self.ready_at) <= 0
