"""What the body has asked for and was not handed yet: jobs to execute, waits for a time."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from django_hookflow.core.decisions import Execute, Mismatch, Park, Recorded
from django_hookflow.core.replay import Replay
from django_hookflow.engine.loop import WorkflowLoop
from django_hookflow.engine.plans import Child, Job, Mailbox, Plan, Timer, Wait, Work
from django_hookflow.engine.time import Stopwatch


class Outstanding:
    """The requests of one delivery. A cancelled branch's are dropped from what is *live*."""

    def __init__(self, loop: WorkflowLoop, replay: Replay, stopwatch: Stopwatch) -> None:
        self._loop = loop
        self._replay = replay
        self._stopwatch = stopwatch
        self._asked: dict[str, tuple[asyncio.Future[Any], Plan]] = {}
        self.ready: list[Job] = []
        self.parked: dict[str, Wait] = {}

    def request(self, plan: Plan) -> asyncio.Future[Any]:
        """Take a request of the body; the future belongs to the workflow's loop."""
        future = self._loop.create_future()
        requested = self._replay.requests
        decision = self._replay.ask(plan.request)
        if isinstance(decision, Mismatch):
            return future  # never resolved: the check at quiescence speaks
        self._asked[decision.key] = (future, plan)
        if isinstance(decision, Execute):
            self.ready.append(_job(plan, decision, requested, future))
        elif isinstance(decision, Park):
            self.parked[decision.key] = self._wait(plan, decision, requested, future)
        else:
            assert isinstance(decision, Recorded)
        return future

    def answer(self, key: str) -> tuple[asyncio.Future[Any], Plan]:
        """The request whose outcome is handed over now; it is outstanding no more."""
        self.parked.pop(key, None)
        return self._asked.pop(key)

    def live_jobs(self) -> list[Job]:
        """What is to be executed, in the order of requests."""
        return [job for job in self.ready if not job.future.done()]

    def live_waits(self) -> list[Wait]:
        """What waits for a time or a message, in the order of requests."""
        return [wait for wait in self.parked.values() if not wait.future.done()]

    def next_due(self) -> datetime | None:
        """The earliest time at which something can go on."""
        times = [wait.ready_at for wait in self.live_waits() if wait.ready_at is not None]
        times += [job.not_before for job in self.live_jobs() if job.not_before is not None]
        return min(times, default=None)

    def _wait(
        self, plan: Plan, decision: Park, requested: int, future: asyncio.Future[Any]
    ) -> Wait:
        now = self._stopwatch.now()
        if decision.pending is not None:
            ready_at = decision.pending.ready_at  # written once, never moves
        else:
            ready_at = _ready_at(plan.work, now)
        return Wait(
            plan=plan,
            key=decision.key,
            occurrence=decision.occurrence,
            args_sha=decision.args_sha,
            requested=requested,
            series=decision.series,
            future=future,
            started_at=now,
            ready_at=ready_at,
            recorded=decision.pending is not None,
        )


def _job(plan: Plan, decision: Execute, requested: int, future: asyncio.Future[Any]) -> Job:
    return Job(
        plan=plan,
        key=decision.key,
        occurrence=decision.occurrence,
        args_sha=decision.args_sha,
        requested=requested,
        series=decision.series,
        future=future,
        attempt=decision.attempt,
        not_before=decision.ready_at,
        recorded=decision.pending is not None and decision.pending.undo == plan.undo,
    )


def _ready_at(work: Work, now: datetime) -> datetime | None:
    if isinstance(work, Child):
        return None
    if isinstance(work, Mailbox):
        ends = [] if work.timeout is None else [now + work.timeout]
        return min([*ends, *filter(None, [work.until])], default=None)
    assert isinstance(work, Timer), "everything else is executed"
    return work.until if isinstance(work.until, datetime) else now + work.until
