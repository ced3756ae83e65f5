"""What a workflow's body is given: ``ctx``."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import MutableMapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django_hookflow.core.requests import check_state_key
from django_hookflow.engine.place import refuse_set_inside_step
from django_hookflow.engine.scheduler import Scheduler
from django_hookflow.engine.steps import Steps
from django_hookflow.engine.sync import SyncSteps

T = TypeVar("T")

logger = logging.getLogger("django_hookflow.workflow")

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter  # not subscriptable on Python 3.10


class ReplaySilentLog(_Adapter):
    """Logs what happens for the first time and is silent while the body is replayed."""

    def __init__(self, scheduler: Scheduler) -> None:
        run = scheduler.run
        super().__init__(logger, {"run_id": run.run_id, "workflow_id": run.workflow_id})
        self._scheduler = scheduler

    def isEnabledFor(self, level: int) -> bool:
        scheduler = self._scheduler
        silent = scheduler.closing or scheduler.rehearsing or scheduler.replay.replaying
        return not silent and super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class BaseContext(Generic[T]):
    """What both colours of workflow share."""

    def __init__(self, scheduler: Scheduler, data: T) -> None:
        run = scheduler.run
        self._scheduler = scheduler
        #: What ``trigger(data=...)`` was given; ``{}`` if nothing.
        self.data: T = data
        self.run_id = run.run_id
        self.workflow_id = run.workflow_id
        self.version = run.version
        #: A ``random.Random`` that gives the same numbers on every replay.
        self.random = random.Random(f"{run.seed}:{run.generation}")  # noqa: S311  # repeatable, not secret
        self._uuids = random.Random(f"{run.seed}:{run.generation}:uuid")  # noqa: S311
        #: A logger that is silent while replaying.
        self.log = ReplaySilentLog(scheduler)

    def now(self) -> datetime:
        """The database's time of the outcome last handed over; the same on every replay."""
        return self._scheduler.handed_at

    def set(self, key: str, value: Any) -> None:
        """Tell people and pages how the run is getting on: ``run.state[key]`` reads ``value``.

        It is written together with the next outcome, at the suspension or at the end, and costs
        no query. Workflows cannot read it, and replays do not repeat it. ``key`` has 1 to 200
        characters; raises ``SerializationError`` for a value that cannot be stored, and
        ``WorkflowDefinitionError`` inside a step.
        """
        refuse_set_inside_step()
        self._scheduler.tell(check_state_key(key), value)

    def uuid4(self) -> uuid.UUID:
        """A random UUID, the same on every replay."""
        return uuid.UUID(int=self._uuids.getrandbits(128), version=4)


class WorkflowContext(BaseContext[T]):
    """The ``ctx`` of an ``async def`` workflow."""

    step: Steps

    def __init__(self, scheduler: Scheduler, data: T, steps: Steps) -> None:
        super().__init__(scheduler, data)
        self.step = steps


class SyncWorkflowContext(BaseContext[T]):
    """The ``ctx`` of a ``def`` workflow."""

    step: SyncSteps

    def __init__(self, scheduler: Scheduler, data: T, steps: Steps) -> None:
        super().__init__(scheduler, data)
        self.step = SyncSteps(_steps=steps, _scheduler=scheduler)
