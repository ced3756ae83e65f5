"""What the engine tells about a delivery while it runs. Listeners must not raise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEvent:
    """Something happened to run ``id``; ``run_id`` and ``workflow_id`` name it for people."""

    id: UUID
    run_id: str
    workflow_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryClaimed(EngineEvent):
    """A delivery took the lease."""

    epoch: int
    recorded: int
    found_dead: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted(EngineEvent):
    """An attempt begins."""

    key: str
    kind: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecorded(EngineEvent):
    """An outcome is committed; ``seconds`` is the attempt's duration, ``raised`` its error."""

    key: str
    kind: str
    attempt: int
    failed: bool
    seconds: float
    message: str = ""
    raised: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWillRetry(EngineEvent):
    """A failed attempt is committed; the next follows in ``delay`` seconds."""

    key: str
    kind: str
    attempt: int
    delay: float
    message: str
    raised: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSuspended(EngineEvent):
    """The delivery ends; ``blocked`` says why the run cannot go on, if so."""

    waiting_for: tuple[str, ...]
    blocked: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(EngineEvent):
    """The run is over; ``raised`` is what came out of the body, if something did."""

    status: str
    message: str = ""
    raised: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HolderFenced(EngineEvent):
    """Another holder took over; this one's outcome was refused."""

    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOwed(EngineEvent):
    """A wake-up was not accepted by the message service and stays owed."""

    message: str


Observer = Callable[[EngineEvent], None]
