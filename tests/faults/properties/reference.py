"""The transitions of a run as protocol.md, section 2, tells them: what journals are compared with.

Rows are immutable and every transition is a function from a row to its answer and the next row,
so that "nothing was written" is "the same row". Refused by the fence: ``FENCED`` is the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

FENCED, OVER, CRASHED = "fenced", "over", "crashed"
ACTIVE = {"pending", "running", "suspended", "cancelling"}
OPEN = {*ACTIVE, "paused"}

StepId = tuple[str, int]  # key and series


@dataclass(frozen=True, kw_only=True)
class Step:
    kind: str
    status: str
    seq: int | None = None
    value: str | None = None
    error: str | None = None
    attempt: int = 0
    ready_at: datetime | None = None
    requested_seq: int = 0


@dataclass(frozen=True)
class Mail:
    name: str
    payload: str
    dedup_id: str | None
    consumed_by: str | None = None
    seen: bool = True


@dataclass(frozen=True, kw_only=True)
class Row:
    due_at: datetime | None
    owed_at: datetime | None
    deadline: datetime | None
    status: str = "pending"
    epoch: int = 0
    lease_until: datetime | None = None
    lease_w: int = 0
    wake_n: int = 1
    signals: int = 0
    seq: int = 0
    waits: tuple[str, ...] = ()
    nudges: int = 0
    nudged_at: datetime | None = None
    deaths: int = 0
    blocked: str = ""
    blocked_n: int = 0
    result: str | None = None
    uncaught: tuple[str, ...] | None = None
    steps: Mapping[StepId, Step] = field(default_factory=dict)
    superseded: frozenset[StepId] = frozenset()
    mail: tuple[Mail, ...] = ()

    def leased(self, now: datetime) -> bool:
        return self.lease_until is not None and self.lease_until >= now

    def held_by(self, epoch: int) -> bool:
        return self.status in OPEN and self.epoch == epoch and self.lease_until is not None

    def current(self) -> dict[StepId, Step]:
        return {id: step for id, step in self.steps.items() if id not in self.superseded}

    def becomes(self, status: str) -> str:
        return "cancelling" if self.status == "cancelling" else status


def claim(row: Row, now: datetime, wake: int, lease: timedelta) -> tuple[str, Row]:
    if row.status not in ACTIVE or row.leased(now):
        return "not claimed", row
    if row.due_at is None or row.due_at > now + timedelta(seconds=2):
        return "not claimed", row
    row = replace(
        row,
        deaths=row.deaths + (row.lease_until is not None),
        epoch=row.epoch + 1,
        lease_until=now + lease,
        due_at=now + lease,
        lease_w=wake,
        status=row.becomes("running"),
    )
    return "claimed", row if row.status == "cancelling" else fire_sleeps(row, now)


def fire_sleeps(row: Row, now: datetime) -> Row:
    asleep = {id: s for id, s in row.current().items() if (s.kind, s.status) == SLEEPING}
    due = [(s.ready_at, s.requested_seq, id) for id, s in asleep.items() if s.ready_at <= now]
    steps = dict(row.steps)
    for seq, (_, _, id) in enumerate(sorted(due), start=row.seq + 1):
        steps[id] = replace(steps[id], status="completed", seq=seq)
    return replace(row, seq=row.seq + len(due), steps=steps)


SLEEPING = ("sleep", "pending")
#: What executes already is recorded while a run is cancelling; these have yet to take effect.
BEGINNING = {"atomic", "sleep", "event"}


def commit(
    row: Row, now: datetime, epoch: int, lease: timedelta, id: StepId, step: Step
) -> tuple[str, Row]:
    """Write ``step``; a pending one is a failed attempt, no outcome."""
    if not row.held_by(epoch) or (id in row.steps and row.steps[id].status != "pending"):
        return FENCED, row
    if row.status == "cancelling" and step.kind in BEGINNING:
        return FENCED, row
    outcome = step.status != "pending"
    seq = row.seq + outcome
    return "committed", replace(
        row,
        lease_until=now + lease,
        due_at=None if row.status == "paused" else now + lease,
        seq=seq,
        deaths=0 if outcome else row.deaths,
        nudges=0,
        blocked="",
        blocked_n=0,
        steps={**row.steps, id: replace(step, seq=seq if outcome else None)},
    )


def ready_at(row: Row, id: StepId, step: Step) -> datetime | None:
    """Of a sleep or wait: written once, never moves."""
    return row.steps[id].ready_at if id in row.steps else step.ready_at


def fire(
    row: Row, now: datetime, epoch: int, lease: timedelta, id: StepId, step: Step
) -> tuple[str, Row]:
    step = replace(step, status="completed", ready_at=ready_at(row, id, step))
    answer, after = commit(row, now, epoch, lease, id, step)
    if answer != FENCED and step.ready_at is not None and step.ready_at > now:
        return "not yet", row
    return answer, after


def receive(
    row: Row, now: datetime, epoch: int, lease: timedelta, id: StepId, step: Step, name: str,
    told: int | None,
) -> tuple[str, Row]:  # fmt: skip
    """The oldest event that nobody has; else the timeout, if it is due.

    Neither if the function was ``told`` of less than the row has.
    """
    step = replace(step, ready_at=ready_at(row, id, step))
    mail = list(row.mail)
    free = [n for n, m in enumerate(mail) if m.name == name and m.consumed_by is None]
    if free:
        step = replace(step, status="completed", value=mail[free[0]].payload)
        mail[free[0]] = replace(mail[free[0]], consumed_by=id[0], seen=True)
    else:
        step = replace(step, status="failed", error="timeout")
    answer, after = commit(row, now, epoch, lease, id, step)
    if answer == FENCED:
        return FENCED, row
    untold = told is not None and told != row.seq
    if untold or (not free and (step.ready_at is None or step.ready_at > now)):
        return "not yet", row
    return answer, replace(after, mail=tuple(mail))


def leave_paused(row: Row) -> tuple[str, Row]:
    return "paused", replace(row, lease_until=None)


def suspend(
    row: Row,
    now: datetime,
    epoch: int,
    seen: int,
    due: timedelta | None,
    waits: tuple[str, ...],
    pending: Mapping[StepId, Step],
    blocked: str,
) -> tuple[str, Row]:
    if not row.held_by(epoch):
        return FENCED, row
    written = replace(row, steps={**pending, **row.steps})
    if row.status == "paused":
        return leave_paused(replace(written, waits=waits))
    if row.signals != seen:
        return f"moved {row.signals}", row
    ends = [at for at in (None if due is None else now + due, row.deadline) if at is not None]
    at = min(ends, default=None)
    return f"suspended {at is not None}", replace(
        written,
        status=row.becomes("suspended"),
        lease_until=None,
        due_at=at,
        waits=waits,
        wake_n=row.wake_n + (at is not None),
        owed_at=row.owed_at if at is None else now,
        nudges=0,
        blocked=blocked,
        blocked_n=row.blocked_n + 1 if blocked else 0,
    )


def release(row: Row, now: datetime, epoch: int) -> tuple[str, Row]:
    if not row.held_by(epoch):
        return FENCED, row
    if row.status == "paused":
        return "released", leave_paused(row)[1]
    status = row.becomes("suspended")
    return "released", replace(row, status=status, lease_until=None, due_at=now)


ENDED = {
    "lease_until": None, "due_at": None, "owed_at": None, "waits": (), "blocked": "",
    "blocked_n": 0,
}  # fmt: skip


def finish(
    row: Row, epoch: int, status: str, result: str | None, uncaught: tuple[str, ...] | None
) -> tuple[str, Row]:
    if not row.held_by(epoch):
        return FENCED, row
    if row.status == "paused":
        return leave_paused(row)
    if row.status == "cancelling" and status != "cancelled":
        return f"moved {row.signals}", row  # its compensations come first
    return "finished", replace(row, **ENDED, status=status, result=result, uncaught=uncaught)
