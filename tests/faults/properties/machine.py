"""A journal under random transitions, beside the reference: what every rule has in common.

A rule says what is asked of the journal and what the reference makes of it; a crash may end
either side of the commit. Compared are the answer and all rows; the invariants of the failure
model are looked up in the journal's own rows, without the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant

from django_hookflow.core.transitions import Fence
from tests.faults.properties.comparing import (
    attempt,
    differences,
    epochs_by_seq,
    expected,
    stored,
    told,
)
from tests.faults.properties.reference import ACTIVE, CRASHED, Row, Step, StepId
from tests.journals.bench import LEASE, Bench

runs = Bundle("runs")
#: Everybody who ever claimed; all but one for each run are zombies.
holders = Bundle("holders")

crashes = st.sampled_from([""] * 15 + ["before", "inside", "after"])
#: Who acts: one who holds a run if there is one, or the drawn one, who may have been replaced.
who = st.sampled_from(["live", "live", "live", "drawn"])

TERMINAL = {"completed", "failed", "cancelled"}


@dataclass
class Holder:
    """What a process keeps of its claim; ``seen`` moves when it looks again."""

    id: UUID
    epoch: int
    seen: int
    series: dict[str, int]

    @property
    def fence(self) -> Fence:
        return Fence(id=self.id, epoch=self.epoch, lease=LEASE)

    def step_id(self, key: str) -> StepId:
        return key, self.series.get(key, 0)


class Base(RuleBasedStateMachine):
    """``rows`` is the reference's state; ``began`` counts what each comparison costs."""

    make_bench: ClassVar[Callable[[], Bench]]
    #: All rows are compared after so many rules; those of the run that it touched after each.
    every = 1

    def __init__(self) -> None:
        super().__init__()
        self.bench = type(self).make_bench()
        self.journal = self.bench.journal
        self.rows: dict[UUID, Row] = {}
        self.ids: dict[str, UUID] = {}
        self.data: dict[UUID, str] = {}
        self.holders: dict[UUID, Holder] = {}
        self.before: dict[UUID, Row] = {}
        self.touched: set[UUID] = set()
        self.rules = 0

    @property
    def now(self) -> Any:
        return self.bench.now()

    def holder(self, drawn: Holder, who: str) -> Holder:
        if who == "drawn":
            return drawn
        live = filter(self.holds, [self.holders[drawn.id], *self.holders.values()])
        return next(live, None) or self.take_any() or drawn

    def holds(self, holder: Holder) -> bool:
        return self.rows[holder.id].held_by(holder.epoch)

    def take_any(self) -> Holder | None:
        """Claim some run that can be, waiting for it."""
        raise NotImplementedError

    def first_that_is(self, status: str) -> UUID:
        return next(id for id, row in self.rows.items() if row.status == status)

    def any_is(self, status: str) -> bool:
        return any(row.status == status for row in self.rows.values())

    # --- one rule

    def transition(
        self,
        id: UUID,
        point: str,
        crash: str,
        act: Callable[[], Any],
        model: Callable[[Row], tuple[str, Row]],
    ) -> Any:
        """Ask both, and take the reference's row over if the journal committed."""
        answer, after = model(self.rows[id])
        got = attempt(self.bench, f"{point}:{crash}" if crash else "", act)
        if got != CRASHED:
            assert told(got) == answer, f"the journal: {got}, the reference: {answer}"
            # A point inside is passed by whatever is about to commit.
            assert crash != "before"
            assert crash == "" or crash == "after" or after == self.rows[id]
        elif crash == "after" and answer == "paused":
            # Two transactions: the crash may be after the first, which found nothing to do.
            if self.bench.run(id).lease_until is not None:
                after = self.rows[id]
        elif crash in ("before", "inside"):
            after = self.rows[id]
        self.rows[id] = after
        self.touched.add(id)
        return got

    def commit(
        self,
        holder: Holder,
        point: str,
        crash: str,
        transition: Any,
        model: Callable[..., tuple[str, Row]],
        id: StepId,
        *facts: Any,
    ) -> None:
        """The same for what goes through a holder's fence and renews its lease.

        A living holder replays what it has an outcome of. If it did not, nothing would be
        written, which ``record`` tries; in their words for that journals differ otherwise.
        """
        known = self.rows[holder.id].steps.get(id)
        if self.holds(holder) and known and known.status != "pending" and point != "record":
            return
        self.transition(
            holder.id,
            point,
            crash,
            lambda: self.journal.commit(transition),
            lambda row: model(row, self.now, holder.epoch, LEASE, id, *facts),
        )

    # --- after each rule

    @invariant()
    def rows_are_those_of_the_reference(self) -> None:
        self.rules += 1
        ids = self.rows if self.rules % self.every == 0 else self.touched
        for id in list(ids):
            row = stored(self.bench, id)
            found = differences(row, expected(self.rows[id]))
            assert not found, f"(journal, reference): {found}"
            self.check(id, row)
            self.before[id] = row
        self.touched.clear()

    def check(self, id: UUID, row: Row) -> None:
        """I3, I7, I8, I9 and I11, against the rows as they were at the last look."""
        before = self.before.get(id, row)
        for step, was in before.steps.items():
            assert was.status == "pending" or row.steps[step] == was, "I3: an outcome changed"
        outcomes = [s.seq for s in row.steps.values() if s.status != "pending"]
        assert sorted(outcomes) == list(range(1, row.seq + 1)), "I3: one seq for each outcome"
        assert row.epoch >= before.epoch, "I7: the epoch went back"
        epochs = [epoch for _, epoch in epochs_by_seq(self.bench, id)]
        assert epochs == sorted(epochs), "I7: an older holder committed after a newer one"
        if before.status in TERMINAL and not self.may_reopen(before, row):
            assert row == before, "I8: something happened after the end"
        assert all(not s.ready_at or s.ready_at <= self.now for s in fired(row)), "I9: early"
        guarded = row.due_at is not None or row.waits
        assert row.status not in ACTIVE or guarded, "I11: nobody looks again"

    @staticmethod
    def may_reopen(before: Row, row: Row) -> bool:
        """Only a retry of a failed run does, and it says so by its epoch."""
        return before.status == "failed" and row.epoch > before.epoch

    def teardown(self) -> None:
        self.touched.update(self.rows)
        self.every = 1
        self.rows_are_those_of_the_reference()


def fired(row: Row) -> list[Step]:
    return [s for s in row.steps.values() if (s.kind, s.status) == ("sleep", "completed")]


def later(now: Any, seconds: int | None) -> Any:
    return None if seconds is None else now + timedelta(seconds=seconds)
