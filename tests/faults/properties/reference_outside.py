"""The reference's other half: what comes from outside of a run, and wake-ups."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from tests.faults.properties.reference import ACTIVE, ENDED, OPEN, OVER, Mail, Row


def signal(row: Row, now: datetime, wait: str) -> tuple[str, Row]:
    """The mailbox moves, and a run that waits for this and that nobody holds is woken."""
    if row.status not in OPEN:
        return "signalled False", row
    wanted = wait in row.waits
    due = row.due_at is not None and row.due_at <= now
    mail = tuple(replace(m, seen=m.seen or f"event:{m.name}" == wait) for m in row.mail)
    row = replace(row, signals=row.signals + 1, mail=mail)
    if row.status != "paused" and not row.leased(now) and wanted and not due:
        row = replace(row, wake_n=row.wake_n + 1, owed_at=now, due_at=now)
    return f"signalled {row.owed_at is not None}", row


def post(row: Row, mail: Mail) -> Row:
    """EVENT alone: into the mailbox, unless it is there already."""
    known = mail.dedup_id is not None and mail.dedup_id in {m.dedup_id for m in row.mail}
    return row if row.status not in OPEN or known else replace(row, mail=(*row.mail, mail))


def send(row: Row, now: datetime, mail: Mail) -> tuple[str, Row]:
    """EVENT and SIGNAL in one; it marks no other event as seen."""
    if row.status not in OPEN:
        return OVER, row
    posted = post(row, mail)
    if posted is row:
        return "signalled False", row
    answer, signalled = signal(posted, now, f"event:{mail.name}")
    return answer, replace(signalled, mail=posted.mail)


def cancel(row: Row) -> tuple[str, Row]:
    if row.status not in OPEN:
        return OVER, row
    if row.status == "cancelling":
        return "cancelled", row  # it is being undone
    return "cancelled", replace(row, **ENDED, status="cancelled", epoch=row.epoch + 1)


def pause(row: Row) -> Row:
    may = row.status in ACTIVE - {"cancelling"}
    return replace(row, status="paused", due_at=None, owed_at=None) if may else row


def woken(row: Row, now: datetime) -> Row:
    return replace(row, wake_n=row.wake_n + 1, owed_at=now)


def resume(row: Row, now: datetime) -> Row:
    if row.status != "paused":
        return row
    status, due = ("running", row.lease_until) if row.leased(now) else ("suspended", now)
    return replace(woken(row, now), status=status, signals=row.signals + 1, due_at=due)


def compensate(row: Row, now: datetime) -> Row:
    """A cancel that leaves something to be undone."""
    if row.status not in OPEN:
        return row
    unheld = replace(row, epoch=row.epoch + 1, lease_until=None, due_at=now)
    return replace(woken(unheld, now), status="cancelling")


def retry(row: Row, now: datetime, timeout: timedelta | None) -> tuple[str, Row]:
    if row.status != "failed":
        return "not failed", row
    again = {id for id, s in row.steps.items() if s.status == "failed" and id[0] in row.uncaught}
    row = replace(woken(row, now), status="suspended", epoch=row.epoch + 1, deaths=0, due_at=now)
    superseded = row.superseded | again
    row = replace(row, signals=row.signals + 1, deadline=None if timeout is None else now + timeout)
    return "retried", replace(row, uncaught=None, superseded=superseded)


def rearm(row: Row, now: datetime, wake: int) -> tuple[str, Row]:
    may = row.status in ACTIVE and not row.leased(now) and row.due_at is not None
    return ("True", woken(row, now)) if may and row.wake_n == wake else ("False", row)


def publish(row: Row, wake: int) -> Row:
    return replace(row, owed_at=None) if row.wake_n == wake else row


def is_overdue(row: Row, now: datetime, overdue: timedelta) -> bool:
    late = row.due_at is not None and row.due_at < now - overdue
    back_off = min(timedelta(hours=1), timedelta(seconds=30) * 2**row.nudges)
    rested = row.nudged_at is None or row.nudged_at < now - back_off
    return row.status in ACTIVE and row.owed_at is None and late and rested


def nudge(row: Row, now: datetime) -> Row:
    return replace(woken(row, now), nudges=row.nudges + 1, nudged_at=now)


def beat(row: Row, now: datetime, epoch: int, lease: timedelta) -> tuple[str, Row]:
    if not row.held_by(epoch):
        return "lost", row
    due = None if row.status == "paused" else now + lease
    return "kept", replace(row, lease_until=now + lease, due_at=due)
