"""Tells the observer what happens in one delivery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django_hookflow.core.entries import StepStatus
from django_hookflow.core.transitions import RunView
from django_hookflow.engine import events
from django_hookflow.engine.execute import Failed, Settled
from django_hookflow.engine.plans import Job


@dataclass(frozen=True, slots=True)
class Teller:
    """Makes engine events of one run."""

    run: RunView
    observe: events.Observer

    @property
    def names(self) -> dict[str, Any]:
        """What every event carries."""
        run = self.run
        return {"id": run.id, "run_id": run.run_id, "workflow_id": run.workflow_id}

    def started(self, job: Job) -> None:
        """An attempt begins."""
        kind, attempt = str(job.plan.request.kind), job.attempt + 1
        self.observe(events.StepStarted(**self.names, key=job.key, kind=kind, attempt=attempt))

    def recorded(self, end: Settled) -> None:
        """An outcome is committed."""
        entry = end.committed.entry
        self.observe(
            events.StepRecorded(
                **self.names,
                key=entry.key,
                kind=str(entry.kind),
                attempt=entry.attempt,
                failed=entry.status is StepStatus.FAILED,
                seconds=end.seconds,
                message=entry.error.message if entry.error else "",
                raised=end.job.raised if entry.error else None,
            )
        )

    def will_retry(self, end: Failed) -> None:
        """A failed attempt is committed."""
        entry = end.committed.entry
        self.observe(
            events.StepWillRetry(
                **self.names,
                key=entry.key,
                kind=str(entry.kind),
                attempt=entry.attempt,
                delay=end.delay,
                message=end.message,
                raised=end.job.raised,
            )
        )

    def suspended(self, *, waiting_for: tuple[str, ...] = (), blocked: str = "") -> None:
        """The delivery ends with the run suspended."""
        self.observe(events.RunSuspended(**self.names, waiting_for=waiting_for, blocked=blocked))
