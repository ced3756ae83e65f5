"""Turns what the engine tells into log lines.

Logger ``django_hookflow.engine``, with ``run_id`` and ``workflow_id`` in ``extra``. Names
that come from outside are logged by ``%r``, so that no line break of theirs forges a line.
"""

from __future__ import annotations

import logging

from django_hookflow.engine import events

logger = logging.getLogger("django_hookflow.engine")


def log_event(event: events.EngineEvent) -> None:
    """Log one engine event; the observer of the default driver."""
    level, text, values = _line(event)
    if logger.isEnabledFor(level):
        extra = {"run_id": event.run_id, "workflow_id": event.workflow_id}
        logger.log(level, f"%s {text}", event.run_id or event.id, *values, extra=extra)


def _line(event: events.EngineEvent) -> tuple[int, str, tuple[object, ...]]:
    if isinstance(event, events.StepStarted):
        return logging.DEBUG, "%r attempt %d", (event.key, event.attempt)
    if isinstance(event, events.StepRecorded):
        return _recorded(event)
    if isinstance(event, events.StepWillRetry):
        values = (event.key, event.attempt, event.delay, event.message)
        return logging.WARNING, "%r attempt %d failed, again in %.1f s: %r", values
    if isinstance(event, events.RunSuspended):
        return _suspended(event)
    if isinstance(event, events.RunEnded):
        return logging.INFO, "%s %r", (event.status, event.message)
    if isinstance(event, events.DeliveryClaimed):
        values = (event.recorded, " after a dead holder" if event.found_dead else "")
        return logging.DEBUG, "goes on with %d recorded outcomes%s", values
    if isinstance(event, events.PublishOwed):
        return logging.WARNING, "wake-up stays owed: %s", (event.message,)
    if isinstance(event, events.HolderFenced):
        return logging.WARNING, "another holder took over from epoch %d", (event.epoch,)
    return logging.DEBUG, "%s", (type(event).__name__,)


def _recorded(event: events.StepRecorded) -> tuple[int, str, tuple[object, ...]]:
    if event.failed:
        values = (event.key, event.attempt, event.message)
        return logging.WARNING, "%r failed after %d attempt(s): %r", values
    return logging.INFO, "%r recorded in %.3f s", (event.key, event.seconds)


def _suspended(event: events.RunSuspended) -> tuple[int, str, tuple[object, ...]]:
    if event.blocked:
        return logging.ERROR, "is blocked: %s", (event.blocked,)
    return logging.INFO, "waits for %s", (", ".join(map(repr, event.waiting_for)) or "its turn",)
