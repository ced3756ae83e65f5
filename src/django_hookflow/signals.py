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
        logger.log(level, text, event.run_id or event.id, *values, extra=extra)


Line = tuple[int, str, tuple[object, ...]]


def _line(event: events.EngineEvent) -> Line:
    if isinstance(event, events.StepStarted):
        return logging.DEBUG, "%s %r attempt %d", (event.key, event.attempt)
    if isinstance(event, events.StepRecorded):
        return _recorded(event)
    if isinstance(event, events.StepWillRetry):
        again = (event.key, event.attempt, event.delay, event.message)
        return logging.WARNING, "%s %r attempt %d failed, again in %.1f s: %r", again
    if isinstance(event, events.RunSuspended):
        return _suspended(event)
    if isinstance(event, events.RunEnded):
        text = "%s %s: %r" if event.message else "%s %s%s"
        return logging.INFO, text, (event.status, event.message)
    if isinstance(event, events.DeliveryClaimed):
        after = " after a dead holder" if event.found_dead else ""
        return logging.DEBUG, "%s goes on with %d recorded outcomes%s", (event.recorded, after)
    if isinstance(event, events.PublishOwed):
        return logging.WARNING, "%s wake-up stays owed: %s", (event.message,)
    if isinstance(event, events.HolderFenced):
        return logging.WARNING, "%s another holder took over from epoch %d", (event.epoch,)
    return logging.DEBUG, "%s %s", (type(event).__name__,)


def _recorded(event: events.StepRecorded) -> Line:
    if event.failed:
        values = (event.key, event.attempt, event.message)
        return logging.WARNING, "%s %r failed after %d attempt(s): %r", values
    return logging.INFO, "%s %r recorded in %.3f s", (event.key, event.seconds)


def _suspended(event: events.RunSuspended) -> Line:
    if event.blocked:
        return logging.ERROR, "%s is blocked: %s", (event.blocked,)
    return logging.INFO, "%s waits for %s", (", ".join(map(repr, event.waiting_for)) or "its turn",)
