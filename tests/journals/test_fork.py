"""FORK, the same for every journal."""

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from django_hookflow.core.entries import Kind, RunStatus, StepStatus
from django_hookflow.core.forking import UnknownStep
from django_hookflow.core.transitions import (
    Attempted,
    Cancel,
    Fence,
    Finish,
    Fork,
    Forked,
    Over,
    Trigger,
)
from tests.journals.bench import LEASE, SECOND, Bench, entry
from tests.journals.test_commit import LATE

pytestmark = pytest.mark.django_db(databases="__all__")


def fork(bench: Bench, source: uuid.UUID, from_step: str) -> tuple[uuid.UUID, Any]:
    id = uuid.uuid4()
    return id, bench.journal.fork(Fork(source=source, id=id, run_id=str(id), from_step=from_step))


def journaled(bench: Bench) -> tuple[uuid.UUID, Any]:
    """Three outcomes and a failed attempt."""
    id, fence = bench.held()
    bench.record(fence, "a", requested_seq=0, args_sha="x", call="f", undo='{"undo": 1}')
    failed = {"status": StepStatus.FAILED, "value": None, "error": LATE}
    bench.record(fence, "b", requested_seq=1, **failed)
    bench.record(fence, "c", kind=Kind.CALL, requested_seq=2)
    pending = entry("d", attempt=1, requested_seq=3)
    bench.journal.commit(Attempted(fence=fence, entry=pending, retry_in=SECOND))
    return id, fence


def test_the_new_run_has_the_outcomes_before_the_step_and_is_due(bench: Bench) -> None:
    source, _ = journaled(bench)
    bench.alter(source, state='{"at":1}', state_n=2, signals=4)
    bench.alter(source, parent=bench.start(), parent_step="c#1", depth=1)
    before = bench.everything(source)
    bench.pass_time(hours=1)
    id = uuid.uuid4()
    transition = Fork(
        source=source, id=id, run_id=str(id), from_step="c", timeout=timedelta(hours=2)
    )
    assert bench.journal.fork(transition) == Forked()
    assert bench.everything(source) == before
    run, original = bench.run(id), before[0]
    assert (run.run_id, run.status, run.epoch) == (str(id), RunStatus.PENDING, 0)
    assert (run.due_at, run.owed_at, run.wake_n) == (bench.time, bench.time, 1)
    for fact in ("workflow_id", "version", "seed", "data", "generation", "started_at"):
        assert getattr(run, fact) == getattr(original, fact), fact
    assert (run.state, run.state_n, run.signals) == (None, 0, 0)
    assert (run.parent, run.parent_step, run.depth) == (None, "", 0), "nobody waits for it"
    assert (run.created_at, run.deadline) == (bench.time, bench.time + timedelta(hours=2))
    assert (run.seq, run.error) == (2, None)
    # What they did is the source's to undo: a fork that fails must not refund it once more.
    assert bench.steps(id) == tuple(replace(e, undo="") for e in bench.steps(source)[:2])
    claimed = bench.claim(id)
    assert [e.key for e in claimed.entries] == ["a#1", "b#1"]
    fence = Fence(id=id, epoch=claimed.run.epoch, lease=LEASE)
    assert bench.record(fence, "c", requested_seq=2).entry.seq == 3


@pytest.mark.parametrize("end", ["failed", "completed", "cancelled", "going", "paused"])
def test_runs_of_every_status_are_forked(bench: Bench, end: str) -> None:
    source, fence = journaled(bench)
    if end == "cancelled":
        bench.journal.cancel(Cancel(id=source))
    elif end == "paused":
        bench.alter(source, status=RunStatus.PAUSED, due_at=None)
    elif end != "going":
        error = LATE if end == "failed" else None
        bench.journal.finish(Finish(fence=fence, status=RunStatus(end), error=error))
    id, answer = fork(bench, source, "d")
    assert answer == Forked()
    assert [e.key for e in bench.steps(id)] == ["a#1", "b#1", "c#1"]


def test_superseded_outcomes_are_left_behind(bench: Bench) -> None:
    source, fence = journaled(bench)
    bench.supersede(source)
    bench.record(fence, "a", requested_seq=0, series=1, value='"again"')
    bench.record(fence, "z", requested_seq=1)
    id, _ = fork(bench, source, "z")
    [copied] = bench.steps(id)
    assert (copied.value, copied.series, copied.seq) == ('"again"', 0, 1)
    assert bench.claim(id).series == {}


def test_a_fork_of_a_later_pass_is_in_that_pass(bench: Bench) -> None:
    source, fence = bench.held()
    bench.record(fence, "earlier", requested_seq=0)
    bench.alter(source, generation=2)
    bench.record(fence, "a", requested_seq=0)
    bench.record(fence, "b", requested_seq=1)
    id, _ = fork(bench, source, "b")
    assert bench.run(id).generation == 2
    assert [e.key for e in bench.claim(id).entries] == ["a#1"]


def test_what_is_taken_over_was_written_by_no_holder_of_the_fork(bench: Bench) -> None:
    """Its first one has epoch 1, and may look whether a COMMIT of its own has landed."""
    source, _ = journaled(bench)
    id, _ = fork(bench, source, "c")
    assert bench.epochs(id) == [0, 0]
    fence = Fence(id=id, epoch=bench.claim(id).run.epoch, lease=LEASE)
    bench.record(fence, "c", requested_seq=2)
    assert bench.epochs(id) == [0, 0, 1]


def test_an_unknown_step_and_an_unknown_run_write_nothing(bench: Bench) -> None:
    source, _ = journaled(bench)
    id, answer = fork(bench, source, "e")
    assert answer == UnknownStep(known=("a#1", "b#1", "c#1", "d#1"))
    assert bench.journal.look(id) is None
    id, answer = fork(bench, uuid.uuid4(), "a")
    assert answer == Over(status=None)
    assert bench.journal.look(id) is None


def test_a_fork_of_a_fork(bench: Bench) -> None:
    source, _ = journaled(bench)
    first, _ = fork(bench, source, "d")
    second, answer = fork(bench, first, "b")
    assert answer == Forked()
    assert [e.key for e in bench.steps(second)] == ["a#1"]


def test_the_tags_are_the_sources(bench: Bench) -> None:
    facts = {"workflow_id": "w", "version": "", "seed": 1, "data": "1"}
    source = uuid.uuid4()
    bench.journal.trigger(
        Trigger(id=source, run_id="r", tags=(("order", "42"), ("shop", "eu")), **facts)
    )
    fence = Fence(id=source, epoch=bench.claim(source).run.epoch, lease=LEASE)
    bench.record(fence, "a")
    id, _ = fork(bench, source, "a")
    assert bench.tags(id) == {"order": "42", "shop": "eu"}
    assert bench.steps(id) == ()
    assert bench.run(id).started_at is None, "nothing was kept: its clock is its own"


def test_many_outcomes_are_copied(bench: Bench) -> None:
    source, fence = bench.held()
    for n in range(520):
        bench.record(fence, f"s{n}", requested_seq=n)
    id, _ = fork(bench, source, "s519")
    assert [e.seq for e in bench.steps(id)] == list(range(1, 520))
    assert len(bench.journal.entries(id)) == 519


def test_entries_are_those_in_force(bench: Bench) -> None:
    source, fence = journaled(bench)
    bench.supersede(source)
    bench.record(fence, "z", requested_seq=1)
    assert [e.key for e in bench.journal.entries(source)] == ["z#1"]
    assert bench.journal.entries(uuid.uuid4()) is None
