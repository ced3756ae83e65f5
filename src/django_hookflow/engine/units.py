"""The units that a delivery has started: each a task that executes and records one attempt."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from django_hookflow.engine.execute import Broken, Executor, UnitEnd
from django_hookflow.engine.plans import AtomicFunction, Function, Job


def needs_thread(job: Job) -> bool:
    """Whether it runs ``def`` code."""
    work = job.plan.work
    return isinstance(work, AtomicFunction) or (isinstance(work, Function) and not work.is_async)


class Units:
    """Running units and the ends that were not taken in yet; ``progress`` is set by each end."""

    def __init__(self, executor: Executor, progress: asyncio.Event) -> None:
        self._executor = executor
        self._progress = progress
        self._running: dict[asyncio.Task[UnitEnd], Job] = {}
        self._own: set[asyncio.Task[UnitEnd]] = set()
        self.ends: deque[UnitEnd] = deque()

    @property
    def running(self) -> bool:
        """Whether anything executes."""
        return bool(self._running)

    @property
    def on_own_thread(self) -> bool:
        """Whether one of them has the workflow's own thread, and with it its connection."""
        return bool(self._own)

    @property
    def threads(self) -> int:
        """How many of them need a thread."""
        return sum(needs_thread(job) for job in self._running.values())

    @property
    def since(self) -> float:
        """When the oldest of them started (``time.monotonic()``); infinite without any."""
        return min((job.started for job in self._running.values()), default=float("inf"))

    def start(self, job: Job, *, alone: bool) -> None:
        """Execute one attempt; ``alone`` keeps ``def`` code on the workflow's own thread."""
        job.started = time.monotonic()
        unit = job.context.run(asyncio.ensure_future, self._executor.unit(job, alone=alone))
        self._running[unit] = job
        if alone and needs_thread(job) and job.plan.timeout is None:
            self._own.add(unit)
        unit.add_done_callback(self._ended)

    def _ended(self, unit: asyncio.Task[UnitEnd]) -> None:
        self._running.pop(unit, None)
        self._own.discard(unit)
        if unit.cancelled():
            self.ends.append(Broken(error=asyncio.CancelledError()))
        elif (error := unit.exception()) is not None:
            self.ends.append(Broken(error=error))
        else:
            self.ends.append(unit.result())
        self._progress.set()
