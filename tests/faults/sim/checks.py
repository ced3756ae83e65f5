"""The invariants of the protocol, looked at after every commit and at the end of a seed."""

from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import UUID

from django_hookflow.core.entries import ACTIVE, TERMINAL, Kind, RunStatus
from django_hookflow.core.transitions import EVENT, wait_for
from django_hookflow.journals.memory_rows import MemoryRun, MemoryStep
from tests.faults.sim.ledger import Violation

#: The transitions that may ask for a new wake-up, each for one.
WAKING = {"suspend", "signal", "event", "rearm", "nudge", "retry", "cancel", "resume"}

#: What is written down outside when it is done.
WORKS = {Kind.RUN, Kind.CALL, Kind.UNDO, Kind.ON_FAILURE}

Seen = tuple[MemoryRun, dict[tuple[str, int], MemoryStep]]


class Watch:
    """Compares each run with what it was after the commit before."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._seen: dict[UUID, Seen] = {}
        self.commits = 0

    def forget(self, run: UUID) -> None:
        """What comes next is no move from what was: somebody altered the rows by hand."""
        self._seen.pop(run, None)

    def look(self, runs: tuple[UUID, ...], point: str) -> None:
        name = point.partition(":")[0]
        for run in runs:
            row = self._store.row(run)
            if row is None:
                continue
            self.commits += 1
            rows = {(s.entry.key, s.entry.series): s for s in self._store.steps(run)}
            before = self._seen.get(run)
            if before is not None and row is before[0] and rows == before[1]:
                continue  # the commit was another run's: what held of this one still does
            check_row(row, rows)
            if row.due_at is None and row.waits:
                self._check_waits(row)
            if before is not None:
                check_move(before, (row, rows), name)
                if name == "receive":
                    self._check_timeouts(before, row, rows)
            self._seen[run] = (row, rows)

    def _check_waits(self, row: MemoryRun) -> None:
        """What waits without end waits for nothing that is there, but for what the sweeper sees."""
        there = {
            wait_for(EVENT, mail.name)
            for mail in self._store.mail(row.id)
            if mail.consumed_by is None and mail.seen
        }
        if lost := there.intersection(row.waits):
            raise Violation(f"run {row.run_id} waits for ever for {lost}, which have come")

    def _check_timeouts(
        self, before: Seen, row: MemoryRun, rows: dict[tuple[str, int], MemoryStep]
    ) -> None:
        """Nobody is told that nothing came while something is there."""
        unread = {mail.name for mail in self._store.mail(row.id) if mail.consumed_by is None}
        for key, step in rows.items():
            old = before[1].get(key)
            ended = step.entry.is_failed and (old is None or not old.entry.is_outcome)
            if step.entry.kind is Kind.EVENT and ended and step.entry.event in unread:
                raise Violation(f"{key} of run {row.run_id} timed out beside its event")


def check_row(row: MemoryRun, rows: dict[tuple[str, int], MemoryStep]) -> None:
    """What holds at any instant."""
    listens = row.status is RunStatus.SUSPENDED and bool(row.waits)
    if row.status in ACTIVE and row.due_at is None and not listens:
        raise Violation(f"I11: run {row.run_id} is {row.status} and nothing guards it")
    outcomes = sorted(
        (step for step in rows.values() if step.entry.is_outcome),
        key=lambda step: step.entry.seq or 0,
    )
    numbers = [step.entry.seq for step in outcomes]
    if numbers != list(range(1, row.seq + 1)):
        raise Violation(f"I3: run {row.run_id} counts {row.seq} outcomes, they are {numbers}")
    epochs = [step.epoch for step in outcomes]
    if epochs != sorted(epochs):
        raise Violation(f"I7: outcomes of run {row.run_id} under epochs {epochs}")
    for step in outcomes:
        entry = step.entry
        if entry.kind is not Kind.SLEEP:
            continue
        assert entry.ready_at is not None
        assert entry.finished_at is not None
        if entry.finished_at < entry.ready_at:
            raise Violation(f"I9: {entry.key} of run {row.run_id} fired early")


def check_move(before: Seen, after: Seen, name: str) -> None:
    """What one transaction may change."""
    (old, old_rows), (new, new_rows) = before, after
    for key, step in old_rows.items():
        now = new_rows.get(key)
        if now is step:
            continue  # rows are never altered, only replaced
        if step.entry.is_outcome and (
            now is None or replace(now, superseded=step.superseded) != step
        ):
            raise Violation(f"I3: outcome {key} of run {old.run_id} became {now}")
        moved = now is not None and now.entry.ready_at != step.entry.ready_at
        if step.entry.kind is Kind.SLEEP and moved:
            raise Violation(f"I9: the time of {key} of run {old.run_id} was moved by {name}")
    if old.status in TERMINAL and name not in {"retry", "published"} and after != before:
        raise Violation(f"I8: {name} changed run {old.run_id}, which was {old.status}")
    for counter in ("epoch", "wake_n", "signals", "seq"):
        if getattr(new, counter) < getattr(old, counter):
            raise Violation(f"I7: {counter} of run {old.run_id} went back in {name}")
    if name == "retry" and new != old and any(s.entry.kind is Kind.UNDO for s in new_rows.values()):
        raise Violation(f"run {old.run_id} was undone and is opened again")
    asked = new.wake_n - old.wake_n
    # The end of a child wakes its parent.
    may_ask = name in WAKING or (name == "finish" and new.status not in TERMINAL)
    if asked > int(may_ask):
        raise Violation(f"I15: {name} asked {asked} wake-ups for run {old.run_id}")


def check_effects(world: Any, row: MemoryRun, run: UUID) -> None:
    """I4, I5: effects against outcomes, and how often each attempt repeated."""
    atomic = world.store.atomic_effects(row.run_id)
    written = world.ledger.attempts(row.run_id)
    keys: dict[tuple[str, int], set[str]] = {}
    worked = Counter(line.key for line in world.ledger.of(row.run_id))
    for step in world.store.steps(run):
        entry = step.entry
        done = entry.is_outcome and not entry.is_failed
        if entry.kind is Kind.ATOMIC:
            if not step.superseded and atomic[entry.key] != int(done):
                raise Violation(f"I4: {entry.key} is {entry.status}, effects: {atomic[entry.key]}")
        elif entry.kind in WORKS and done and not worked[entry.key]:
            raise Violation(f"I5: {entry.key} is completed and never worked")
    for (key, idempotency_key, attempt), times in written.items():
        keys.setdefault((key, attempt), set()).add(idempotency_key)
        if times - 1 > world.faults.disruptions:
            raise Violation(f"I5: attempt {attempt} of {key} worked {times} times")
    for (key, _), distinct in keys.items():
        # What a retry repeats has a key of its own, also where nothing was recorded under it any
        # more because the run was cancelled at once.
        series = {
            s.entry.series + s.superseded for s in world.store.steps(run) if s.entry.key == key
        }
        if len(distinct) > max(series, default=0) + 1:
            raise Violation(f"I5: {key} worked under {len(distinct)} idempotency keys")


def check_end(row: MemoryRun | None, run: str) -> MemoryRun:
    """I1: a run that was accepted comes to its end."""
    if row is None:
        raise Violation(f"I1: run {run} is gone")
    if row.status not in TERMINAL:
        raise Violation(
            f"I1: run {run} is {row.status} for ever: due {row.due_at}, owed {row.owed_at}, "
            f"lease {row.lease_until}, nudges {row.nudges}, deaths {row.deaths}, {row.blocked!r}"
        )
    if row.status is RunStatus.FAILED and row.result is not None:
        raise Violation(f"run {run} failed with a result")
    return row
