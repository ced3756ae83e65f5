"""What comes from outside of a run: users, senders, the sweeper, time."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import initialize, multiple, precondition, rule

from django_hookflow.core.entries import RunStatus
from django_hookflow.core.transitions import (
    Cancel,
    Conflict,
    Rearm,
    Retry,
    SendEvent,
    Signal,
    Trigger,
    Triggered,
)
from tests.faults.properties import reference_outside as reference
from tests.faults.properties.comparing import CRASHED, attempt
from tests.faults.properties.machine import Base, crashes, runs
from tests.faults.properties.reference import ACTIVE, Mail, Row

OVERDUE, UNSENT = timedelta(seconds=30), timedelta(seconds=15)


class OutsideRules(Base):
    @initialize(target=runs)
    def some_runs(self) -> Any:
        for n in range(1, 4):
            self.trigger(f"order/{n}", '{"n":1}', 0, None, "")
        return multiple(*self.rows)

    @rule(
        target=runs, n=st.integers(1, 9), data=st.sampled_from(['{"n":1}'] * 3 + ['{"n":2}']),
        delay=st.sampled_from([0, 0, 60]), timeout=st.sampled_from([None, None, 600]),
        crash=crashes,
    )  # fmt: skip
    def triggers(self, n: int, data: str, delay: int, timeout: int | None, crash: str) -> Any:
        return self.trigger(f"order/{n}", data, delay, timeout, crash)

    def trigger(self, run_id: str, data: str, delay: int, timeout: int | None, crash: str) -> Any:
        id, transition = self.asked_for(run_id, data, delay, timeout)
        got = attempt(
            self.bench,
            f"trigger:{crash}" if crash else "",
            lambda: self.journal.trigger(transition),
        )
        known = self.ids.get(run_id)
        if known is None and (got != CRASHED or crash == "after"):
            self.add(transition, data)
        if got == CRASHED:
            return multiple() if known is not None or id not in self.rows else id
        if known is None:
            assert got == Triggered(id=id, created=True)
            return id
        same = self.data[known] == data
        answer = Triggered(id=known, created=False) if same else Conflict(workflow_id="w")
        assert got == answer
        return multiple()

    def asked_for(
        self, run_id: str, data: str, delay: int, timeout: int | None
    ) -> tuple[UUID, Trigger]:
        id = uuid.UUID(int=uuid.NAMESPACE_OID.int + len(self.rows))
        limit = None if timeout is None else timedelta(seconds=timeout)
        facts = {"workflow_id": "w", "version": "", "seed": 7, "data": data, "timeout": limit}
        wait = timedelta(seconds=delay)
        return id, Trigger(id=id, run_id=run_id, delay=wait, **facts)

    def add(self, asked: Trigger, data: str) -> None:
        due = self.now + asked.delay
        deadline = None if asked.timeout is None else due + asked.timeout
        self.rows[asked.id] = Row(due_at=due, owed_at=self.now, deadline=deadline)
        self.ids[asked.run_id] = asked.id
        self.data[asked.id] = data
        self.touched.add(asked.id)

    # --- events and signals

    @rule(
        id=runs, name=st.sampled_from(["paid", "paid", "other"]), payload=st.sampled_from("123"),
        dedup_id=st.sampled_from([None, "d1", "d2"]), crash=crashes,
    )  # fmt: skip
    def send_event(
        self, id: UUID, name: str, payload: str, dedup_id: str | None, crash: str
    ) -> None:
        event = SendEvent(id=id, name=name, payload=payload, dedup_id=dedup_id)
        self.transition(
            id, "event", crash,
            lambda: self.journal.send_event(event),
            lambda row: reference.send(row, self.now, Mail(name, payload, dedup_id)),
        )  # fmt: skip

    @rule(id=runs, wait=st.sampled_from(["event:paid", "step:child#1"]), crash=crashes)
    def signal(self, id: UUID, wait: str, crash: str) -> None:
        self.transition(
            id, "signal", crash,
            lambda: self.journal.signal(Signal(id=id, wait=wait)),
            lambda row: reference.signal(row, self.now, wait),
        )  # fmt: skip

    # --- controls

    @rule(
        id=runs,
        ask=st.sampled_from(["cancel", "retry"]),
        crash=crashes,
        timeout=st.sampled_from([None, timedelta(minutes=10)]),
    )
    def control(self, id: UUID, ask: str, crash: str, timeout: timedelta | None) -> None:
        asks = {
            "cancel": (lambda: self.journal.cancel(Cancel(id=id)), reference.cancel),
            "retry": (
                lambda: self.journal.retry(Retry(id=id, timeout=timeout)),
                lambda row: reference.retry(row, self.now, timeout),
            ),
        }
        self.transition(id, ask, crash, *asks[ask])

    @precondition(lambda self: self.any_is("failed"))
    @rule(crash=crashes)
    def retry(self, crash: str) -> None:
        self.control(self.first_that_is("failed"), "retry", crash, None)

    @rule(id=runs, compensating=st.sampled_from([False, False, True]))
    def pause(self, id: UUID, compensating: bool) -> None:
        """Or take back what it did: the two states that only the tests bring about yet."""
        row = self.rows[id]
        self.put(id, reference.compensate(row, self.now) if compensating else reference.pause(row))

    @precondition(lambda self: self.any_is("paused"))
    @rule()
    def resume(self) -> None:
        id = self.first_that_is("paused")
        self.put(id, reference.resume(self.rows[id], self.now))

    def put(self, id: UUID, row: Row) -> None:
        """By an UPDATE of the test's own: no transition of the journal does this yet."""
        before, self.rows[id] = self.rows[id], row
        columns = ("status", "epoch", "lease_until", "due_at", "owed_at", "wake_n", "signals")
        facts = {name: getattr(row, name) for name in columns}
        if row != before:
            self.bench.alter(id, **{**facts, "status": RunStatus(row.status)})
        self.touched.add(id)

    # --- wake-ups

    @rule(id=runs, off=st.sampled_from([0, 0, 1]), crash=crashes)
    def rearm(self, id: UUID, off: int, crash: str) -> None:
        wake = self.rows[id].wake_n - off
        self.transition(
            id, "rearm", crash,
            lambda: self.journal.rearm(Rearm(id=id, wake=wake)),
            lambda row: reference.rearm(row, self.now, wake),
        )  # fmt: skip

    @rule(id=runs, off=st.sampled_from([0, 0, 1]), crash=crashes)
    def published(self, id: UUID, off: int, crash: str) -> None:
        self.publish(id, self.rows[id].wake_n - off, crash)

    def publish(self, id: UUID, wake: int, crash: str) -> None:
        self.transition(
            id, "published", crash,
            lambda: self.journal.published(id, wake),
            lambda row: ("released", reference.publish(row, wake)),
        )  # fmt: skip

    @rule(silent=st.booleans(), crash=crashes)
    def sweep_the_overdue(self, silent: bool, crash: str) -> None:
        """``silent``: all that was owed is sent, and for ten minutes nothing comes of it."""
        if silent:
            for id, row in list(self.rows.items()):
                self.publish(id, row.wake_n, "")
            self.time_passes(600)
        late = [id for id, row in self.rows.items() if reference.is_overdue(row, self.now, OVERDUE)]
        point = f"nudge:{crash}" if crash and len(late) == 1 else ""
        got = attempt(self.bench, point, lambda: self.journal.nudge(overdue=OVERDUE, limit=10))
        assert set(late) == set(got) if got != CRASHED else point
        for id in late:
            if got != CRASHED or crash == "after":
                self.rows[id] = reference.nudge(self.rows[id], self.now)
        self.touched.update(late)

    @rule(crash=crashes)
    def sweep_the_unseen(self, crash: str) -> None:
        unseen = {
            (id, mail.name)
            for id, row in self.rows.items()
            for mail in row.mail
            if not mail.seen and row.status in ACTIVE
        }
        point = f"signal:{crash}" if crash and len(unseen) == 1 else ""
        got = attempt(self.bench, point, lambda: self.journal.signal_unseen(limit=10))
        woken = set()
        for id, name in unseen:
            if got != CRASHED or crash == "after":
                wait = f"event:{name}"
                told_owed, self.rows[id] = reference.signal(self.rows[id], self.now, wait)
                woken |= {id} if told_owed == "signalled True" else set()
        assert set(got) == woken if got != CRASHED else point
        self.touched.update(id for id, _ in unseen)

    # --- time, and looking

    @rule(seconds=st.sampled_from([1, 3, 20, 61, 61, 400, 7200]))
    def time_passes(self, seconds: int) -> None:
        self.bench.pass_time(seconds=seconds)

    @rule()
    def look(self) -> None:
        now = self.now
        due = {
            (id, row.wake_n)
            for id, row in self.rows.items()
            if row.status in ACTIVE and not row.leased(now) and row.due_at and row.due_at <= now
        }
        assert set(self.journal.find_due(limit=10)) == due
        unsent = {id for id, row in self.rows.items() if row.owed_at and row.owed_at < now - UNSENT}
        assert set(self.journal.find_owed(older_than=UNSENT, limit=10)) == unsent
        for id, row in self.rows.items():
            owed = self.journal.owed(id)
            assert (owed is None) == (row.owed_at is None)
            if owed is not None:
                delay = max(timedelta(0), row.due_at - now) if row.due_at else timedelta(0)
                assert (owed.number, owed.owed_at, owed.delay) == (row.wake_n, row.owed_at, delay)
