"""What a holder does, living or dead."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import initialize, multiple, rule

from django_hookflow.core.entries import ErrorRecord, Kind, RunStatus, StepStatus
from django_hookflow.core.transitions import (
    Atomic,
    Attempted,
    Beat,
    Claim,
    Claimed,
    Finish,
    Fire,
    Receive,
    Record,
    Release,
    SignalsMoved,
    Suspend,
)
from tests.faults.properties import reference
from tests.faults.properties.comparing import told_step, told_steps
from tests.faults.properties.machine import (
    Holder,
    crashes,
    holders,
    later,
    runs,
    who,
)
from tests.faults.properties.outside_rules import OutsideRules
from tests.faults.properties.reference_outside import beat, signal
from tests.journals.bench import LEASE, entry, outcome

TIMEOUT = ErrorRecord(type="EventTimeout", message="timeout")
FAILED = ErrorRecord(type="ValueError", message="wrong")
#: Every replay asks in the same order.
REQUESTED = {"nap": 3, "doze": 2, "wait": 1}
WAITS = ((), ("event:paid",), ("step:child#1",), ("event:paid", "step:child#1"))


class HolderRules(OutsideRules):
    @rule(
        target=holders, id=runs, waiting=st.sampled_from([True, True, True, False]),
        wake=st.integers(1, 3), crash=crashes,
    )  # fmt: skip
    def claim(self, id: UUID, waiting: bool, wake: int, crash: str) -> Any:
        if waiting:
            self.wait_until_due(id)
        found_dead = self.rows[id].lease_until is not None
        got = self.transition(
            id,
            "claim",
            crash,
            lambda: self.journal.claim(Claim(id=id, wake=wake, lease=LEASE)),
            lambda row: reference.claim(row, self.now, wake, LEASE),
        )
        if not isinstance(got, Claimed):
            return multiple()
        assert got.found_dead == found_dead
        self.check_read(id, got)
        self.holders[id] = Holder(id, got.run.epoch, got.run.signals, dict(got.series))
        return self.holders[id]

    def wait_until_due(self, id: UUID) -> None:
        row = self.rows[id]
        free = row.lease_until and row.lease_until + timedelta(microseconds=1)
        self.bench.time = max(at for at in (self.now, row.due_at, free) if at is not None)

    @initialize(target=holders)
    def a_holder(self) -> Any:
        self.some_runs()
        return self.take_any()

    def take_any(self) -> Holder | None:
        for id, row in self.rows.items():
            if row.status in reference.ACTIVE and row.due_at is not None:
                self.claim(id, True, row.wake_n, "")
                return self.holders[id]
        return None

    def check_read(self, id: UUID, got: Claimed) -> None:
        """A holder reads what is current, and under which series the rest is tried again."""
        row = self.rows[id]
        assert (got.run.epoch, got.run.seq, got.run.signals) == (row.epoch, row.seq, row.signals)
        assert (got.run.lease_until, str(got.run.status)) == (row.lease_until, row.status)
        assert told_steps(got.entries) == row.current()
        series: dict[str, int] = {}
        for key, number in row.superseded:
            series[key] = max(series.get(key, 0), number + 1)
        assert dict(got.series) == series

    @rule(drawn=holders, who=who, name=st.sampled_from("ab"), ok=st.booleans(), crash=crashes)
    def record(self, drawn: Holder, who: str, name: str, ok: bool, crash: str) -> None:
        holder = self.holder(drawn, who)
        _, series = id = holder.step_id(f"{name}#1")
        facts = {} if ok else {"status": StepStatus.FAILED, "value": None, "error": FAILED}
        # Who wrote it is in the value, so that a foreign outcome is told from one's own.
        facts = {"value": f'"{name} by {holder.epoch}"', "series": series, **facts}
        step = outcome(name, **facts)
        self.commit(
            holder, "record", crash, Record(fence=holder.fence, entry=step),
            reference.commit, id, told_step(step),
        )  # fmt: skip

    @rule(drawn=holders, who=who, name=st.sampled_from("ab"), crash=crashes)
    def attempted(self, drawn: Holder, who: str, name: str, crash: str) -> None:
        holder = self.holder(drawn, who)
        id = holder.step_id(f"{name}#1")
        tried = entry(name, attempt=1, error=FAILED, series=id[1])
        again = entry(name, attempt=1, error=FAILED, ready_at=later(self.now, 7), series=id[1])
        transition = Attempted(fence=holder.fence, entry=tried, retry_in=timedelta(seconds=7))
        self.commit(holder, "attempted", crash, transition, reference.commit, id, told_step(again))

    @rule(drawn=holders, who=who, crash=crashes)
    def atomic(self, drawn: Holder, who: str, crash: str) -> None:
        holder = self.holder(drawn, who)
        id = holder.step_id("pay#1")
        step = outcome("pay", Kind.ATOMIC, value='"paid"', series=id[1])
        transition = Atomic(fence=holder.fence, entry=step, work=partial(self.effect, holder.id))
        self.commit(holder, "atomic", crash, transition, reference.commit, id, told_step(step))

    def effect(self, id: UUID) -> str:
        """What an atomic step does; where there is a database, it writes a row there."""
        return '"paid"'

    @rule(
        drawn=holders, who=who, name=st.sampled_from(["nap", "doze"]),
        seconds=st.sampled_from([0, 1, 300]), crash=crashes,
    )  # fmt: skip
    def fire(self, drawn: Holder, who: str, name: str, seconds: int, crash: str) -> None:
        holder = self.holder(drawn, who)
        id = holder.step_id(f"{name}#1")
        asked = entry(
            name,
            Kind.SLEEP,
            requested_seq=REQUESTED[name],
            ready_at=later(self.now, seconds),
            series=id[1],
        )
        self.commit(
            holder, "fire", crash, Fire(fence=holder.fence, entry=asked),
            reference.fire, id, told_step(asked),
        )  # fmt: skip

    @rule(
        drawn=holders, who=who, number=st.integers(1, 3),
        timeout=st.sampled_from([None, None, 0, 60]), after=st.sampled_from([None, None, 0, 1, 2]),
        crash=crashes,
    )  # fmt: skip
    def receive(
        self, drawn: Holder, who: str, number: int, timeout: int | None, after: int | None,
        crash: str,
    ) -> None:  # fmt: skip
        holder = self.holder(drawn, who)
        id = holder.step_id(f"wait#{number}")
        facts = {"ready_at": later(self.now, timeout), "event": "paid", "series": id[1]}
        facts["requested_seq"] = REQUESTED["wait"]
        asked = entry("wait", Kind.EVENT, occurrence=number, **facts)
        transition = Receive(fence=holder.fence, entry=asked, timeout_error=TIMEOUT, after=after)
        step = told_step(asked)
        self.commit(
            holder, "receive", crash, transition, reference.receive, id, step, "paid", after
        )

    # --- the ends of a delivery

    @rule(
        drawn=holders, who=who, due=st.sampled_from([None, 0, 1, 300]),
        waits=st.sampled_from(WAITS), timers=st.sets(st.sampled_from(["nap", "doze", "wait"])),
        blocked=st.sampled_from(["", "", "expected X, got Y"]), crash=crashes,
    )  # fmt: skip
    def suspend(
        self, drawn: Holder, who: str, due: int | None, waits: tuple[str, ...],
        timers: set[str], blocked: str, crash: str,
    ) -> None:  # fmt: skip
        holder = self.holder(drawn, who)
        if due is None and not waits:
            waits = ("event:paid",)  # nobody sleeps for ever without waiting for something
        delay = None if due is None else timedelta(seconds=due)
        pending = tuple(self.pending(holder, name) for name in sorted(timers))
        transition = Suspend(
            fence=holder.fence, seen=holder.seen, due=delay, waits=waits, pending=pending,
            blocked=blocked,
        )  # fmt: skip
        got = self.transition(
            holder.id, "suspend", crash,
            lambda: self.journal.suspend(transition),
            lambda row: reference.suspend(
                row, self.now, holder.epoch, holder.seen, delay, waits, told_steps(pending), blocked
            ),
        )  # fmt: skip
        if isinstance(got, SignalsMoved):
            holder.seen = got.seen

    def pending(self, holder: Holder, name: str) -> Any:
        _, series = holder.step_id(f"{name}#1")
        kind, event = (Kind.EVENT, "paid") if name == "wait" else (Kind.SLEEP, "")
        facts = {"ready_at": later(self.now, 60), "event": event, "series": series}
        return entry(name, kind, requested_seq=REQUESTED[name], **facts)

    @rule(drawn=holders, who=who, crash=crashes)
    def release(self, drawn: Holder, who: str, crash: str) -> None:
        holder = self.holder(drawn, who)
        self.transition(
            holder.id, "release", crash,
            lambda: self.journal.release(Release(fence=holder.fence)),
            lambda row: reference.release(row, self.now, holder.epoch),
        )  # fmt: skip

    @rule(
        drawn=holders, who=who, ok=st.booleans(), uncaught=st.booleans(), parent=st.none() | runs,
        crash=crashes,
    )  # fmt: skip
    def finish(
        self, drawn: Holder, who: str, ok: bool, uncaught: bool, parent: UUID | None, crash: str
    ) -> None:
        """``uncaught``: what failed is what ended the run, so a retry does it again."""
        holder = self.holder(drawn, who)
        if uncaught and not ok:
            self.record(holder, "drawn", "a", False, "")
        failed = {id[0] for id, s in self.rows[holder.id].steps.items() if s.status == "failed"}
        keys = None if ok else tuple(sorted(failed)) if uncaught else ()
        error = None if keys is None else ErrorRecord(type="E", message="no", uncaught=keys)
        status, result = (RunStatus.COMPLETED, '"done"') if ok else (RunStatus.FAILED, None)
        parent = None if parent == holder.id else parent
        transition = Finish(
            fence=holder.fence,
            status=status,
            result=result,
            error=error,
            parent=parent,
            parent_step="child#1",
        )
        ended = self.rows[holder.id]
        self.transition(
            holder.id, "finish", crash,
            lambda: self.journal.finish(transition),
            lambda row: reference.finish(row, holder.epoch, str(status), result, keys),
        )  # fmt: skip
        # The parent hears of it in the same transaction, so only if the fence held.
        if parent is not None and ended != self.rows[holder.id] and not self.is_open(holder.id):
            self.rows[parent] = signal(self.rows[parent], self.now, "step:child#1")[1]
            self.touched.add(parent)

    def is_open(self, id: UUID) -> bool:
        return self.rows[id].status in reference.OPEN

    @rule(drawn=holders, who=who)
    def beat(self, drawn: Holder, who: str) -> None:
        holder = self.holder(drawn, who)
        answer, after = beat(self.rows[holder.id], self.now, holder.epoch, LEASE)
        lost = self.journal.beat(Beat(held={holder.id: holder.epoch}, lease=LEASE))
        assert list(lost) == ([holder.id] if answer == "lost" else [])
        self.rows[holder.id] = after
        self.touched.add(holder.id)
