"""Schedules: requests that are published again whenever their cron expression says so.

A time at which the server did not run, or the schedule was paused, is skipped.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.cron import Cron, parse_cron
from django_hookflow.devserver.messages import Spec, forwarded_lists, new_id, readable
from django_hookflow.devserver.options import check_name
from django_hookflow.devserver.publishing import Request
from django_hookflow.devserver.store import Store

__all__ = ["Schedule", "Schedules", "read_id", "recorded_request", "restored"]

_KIND = "schedule"
_MOST_SCHEDULES = 1_000
_MOST_BYTES = 67_108_864


@dataclass(slots=True, kw_only=True)
class Schedule:
    """One schedule; instants in Unix seconds. ``sample`` is what it publishes, as of its making."""

    id: str
    request: Request
    cron: Cron
    sample: Spec
    created_at: float
    is_paused: bool = False
    last: float | None = None
    next: float | None = None
    #: Message ids of the last time, with IN_PROGRESS, SUCCESS or FAIL.
    states: dict[str, str] = field(default_factory=dict)
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """The object of ``GET /v2/schedules/{id}``; what is not set is not there."""
        sample, request = self.sample, self.request
        shown: dict[str, Any] = {
            "scheduleId": self.id,
            "destination": request.destination,
            "cron": self.cron.text,
            "createdAt": int(self.created_at * 1000),
            "method": sample.method,
            "retries": sample.retries,
            "isPaused": self.is_paused,
            "header": sample.shown_headers(),
            "callerIP": request.caller_ip,
        }
        optional: dict[str, Any] = {
            "callbackHeader": forwarded_lists(sample.callback_options),
            "failureCallbackHeader": forwarded_lists(sample.failure_callback_options),
            "callback": sample.callback,
            "failureCallback": sample.failure_callback,
            "delay": int(sample.due - sample.created_at),
            "timeout": int(sample.timeout or 0),
            "queueName": request.queue,
            "retryDelayExpression": sample.retry_delay and sample.retry_delay.text,
            "label": sample.labels[0] if sample.labels else "",
            "labels": list(sample.labels),
            "lastScheduleTime": self.last and int(self.last * 1000),
            "nextScheduleTime": self.next and int(self.next * 1000),
            "lastScheduleStates": dict(self.states),
            "error": self.error,
        }
        shown |= {name: value for name, value in optional.items() if value}
        if sample.flow is not None:
            shown |= sample.flow.facts()
        return shown | (readable("body", sample.shown_body()) if request.body else {})


class Schedules:
    """All schedules, by id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._schedules: dict[str, Schedule] = {}

    def add(self, schedule_id: str, schedule: Schedule, now: float) -> None:
        """Add it in the place of one of the same id. Raises ``Refused`` (412)."""
        if schedule_id not in self._schedules and len(self._schedules) >= _MOST_SCHEDULES:
            raise Refused(412, f"there are {_MOST_SCHEDULES} schedules; no more are taken")
        others = (one for one in self._schedules.values() if one.id != schedule_id)
        if sum(one.sample.size for one in others) + schedule.sample.size > _MOST_BYTES:
            raise Refused(412, f"the schedules are larger than {_MOST_BYTES} bytes")
        self._schedules[schedule_id] = schedule
        schedule.next = schedule.cron.after(now)
        self.save(schedule)

    def restore(self, schedule: Schedule, now: float) -> None:
        """Take up one that was recorded; what it missed is skipped."""
        self._schedules[schedule.id] = schedule
        schedule.next = schedule.cron.after(now)

    def find(self, schedule_id: str) -> Schedule | None:
        """The schedule, if there is one."""
        return self._schedules.get(schedule_id)

    def get(self, schedule_id: str) -> Schedule:
        """The schedule. Raises ``Refused`` (404)."""
        schedule = self._schedules.get(schedule_id)
        if schedule is None:
            raise Refused(404, f"schedule {schedule_id[:40]} not found")
        return schedule

    def all(self) -> list[Schedule]:
        """Every schedule."""
        return list(self._schedules.values())

    def remove(self, schedule_id: str) -> None:
        """Forget it; the messages that it made stay. Raises ``Refused`` (404)."""
        del self._schedules[self.get(schedule_id).id]
        self._store.record(_KIND, schedule_id, None)

    def pause(self, schedule_id: str, is_paused: bool, now: float) -> None:
        """Pause it, or let it go on with the next time from now. Raises ``Refused`` (404)."""
        schedule = self.get(schedule_id)
        if schedule.is_paused and not is_paused:
            schedule.next = schedule.cron.after(now)
        schedule.is_paused = is_paused
        self.save(schedule)

    @property
    def next_instant(self) -> float | None:
        """When the next one is due."""
        return min(
            (s.next for s in self._schedules.values() if s.next is not None and not s.is_paused),
            default=None,
        )

    def take_due(self, now: float) -> list[Schedule]:
        """Those that are due, each moved on to its next time."""
        due = [
            s
            for s in self._schedules.values()
            if not s.is_paused and s.next is not None and s.next <= now
        ]
        for schedule in due:
            schedule.last, schedule.next = schedule.next, schedule.cron.after(now)
            schedule.states, schedule.error = {}, ""
        return due

    def note(self, schedule_id: str, message_id: str, state: str) -> None:
        """A message of the schedule came into that state; older ones are no more of interest."""
        schedule = self._schedules.get(schedule_id)
        if schedule is not None and message_id in schedule.states:
            schedule.states[message_id] = state
            self.save(schedule)

    def save(self, schedule: Schedule) -> None:
        """The schedule was changed."""
        request = schedule.request
        self._store.record(
            _KIND,
            schedule.id,
            {
                "destination": request.destination,
                "headers": request.headers,
                "body": base64.b64encode(request.body).decode(),
                "caller_ip": request.caller_ip,
                "queue": request.queue,
                "cron": schedule.cron.text,
                "created_at": schedule.created_at,
                "is_paused": schedule.is_paused,
                "last": schedule.last,
                "states": dict(schedule.states),
                "error": schedule.error,
            },
        )

    def recorded(self) -> Mapping[str, Mapping[str, Any]]:
        """What was kept, for ``restored``."""
        return self._store.records(_KIND)


def read_id(text: str) -> str:
    """The id that was asked for, or a new one."""
    return check_name("Upstash-Schedule-Id", text) if text else new_id("scd_")


def recorded_request(schedule_id: str, record: Mapping[str, Any]) -> Request:
    """The request of a recorded schedule."""
    return Request(
        destination=record["destination"],
        headers=tuple((name, value) for name, value in record["headers"]),
        body=base64.b64decode(record["body"]),
        caller_ip=record["caller_ip"],
        queue=record["queue"],
        schedule_id=schedule_id,
    )


def restored(
    schedule_id: str, record: Mapping[str, Any], request: Request, sample: Spec
) -> Schedule:
    """A recorded schedule."""
    return Schedule(
        id=schedule_id,
        request=request,
        cron=parse_cron(record["cron"]),
        sample=sample,
        created_at=record["created_at"],
        is_paused=record["is_paused"],
        last=record["last"],
        states=dict(record["states"]),
        error=record["error"],
    )
