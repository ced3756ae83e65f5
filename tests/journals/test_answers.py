"""Answers to callbacks: one to each question, and none to what is decided; in both journals."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from django_hookflow.core.entries import Kind, RunStatus, StepStatus
from django_hookflow.core.transitions import CALLBACK, Over, Signalled
from tests.journals.bench import Bench, entry
from tests.journals.test_commit import LATE

pytestmark = pytest.mark.django_db(databases="__all__")

REFUSED = Signalled(owed=False, stored=False)


def answer(bench: Bench, id: uuid.UUID, payload: str, **facts: Any) -> Any:
    facts = {"source": CALLBACK, "generation": 0, **facts}
    return bench.send(id, payload, "approve#1", dedup_id="approve#1", **facts)


def test_the_first_answer_wakes_the_run_that_waits_and_the_second_changes_nothing(
    bench: Bench,
) -> None:
    id = bench.suspended("callback:approve#1")
    assert answer(bench, id, "1") == Signalled(owed=True, stored=True)
    before = bench.everything(id)
    assert answer(bench, id, "2") == REFUSED
    assert bench.everything(id) == before


def test_what_was_asked_and_is_not_decided_takes_its_answer(bench: Bench) -> None:
    asked = entry("approve", Kind.CALLBACK, event="approve#1")
    id = bench.suspended("callback:approve#1", pending=(asked,))
    assert [step.status for step in bench.steps(id)] == [StepStatus.PENDING]
    assert answer(bench, id, "1") == Signalled(owed=True, stored=True)


def test_an_early_answer_wakes_nobody(bench: Bench) -> None:
    id = bench.suspended("callback:approve#2", "event:approve#1")
    assert answer(bench, id, "1") == Signalled(owed=False, stored=True)


@pytest.mark.parametrize("status", [StepStatus.COMPLETED, StepStatus.FAILED])
def test_what_is_decided_takes_no_answer_until_a_retry_asks_again(
    bench: Bench, status: StepStatus
) -> None:
    id, fence = bench.held()
    bench.record(fence, "approve", kind=Kind.CALLBACK, event="approve#1", status=status)
    before = bench.everything(id)
    assert answer(bench, id, "1") == REFUSED
    assert bench.everything(id) == before
    bench.supersede(id)
    assert answer(bench, id, "1").stored


def test_other_steps_decide_nothing(bench: Bench) -> None:
    id, fence = bench.held()
    bench.record(fence, "a", kind=Kind.EVENT, event="approve#1")
    bench.record(fence, "b", kind=Kind.CALLBACK, event="approve#2")
    assert answer(bench, id, "1").stored


def test_an_answer_is_to_one_pass(bench: Bench) -> None:
    id = bench.suspended("callback:approve#1")
    before = bench.everything(id)
    assert answer(bench, id, "1", generation=1) == REFUSED
    assert bench.everything(id) == before


def test_what_an_earlier_pass_decided_is_open_in_the_next(bench: Bench) -> None:
    id, fence = bench.held()
    bench.record(fence, "approve", kind=Kind.CALLBACK, event="approve#1")
    bench.alter(id, generation=1)
    assert answer(bench, id, "1") == REFUSED
    assert answer(bench, id, "1", generation=1).stored


def test_a_run_that_is_being_cancelled_takes_none_and_a_failing_one_may_be_retried(
    bench: Bench,
) -> None:
    id = bench.suspended("callback:approve#1")
    bench.alter(id, status=RunStatus.CANCELLING)
    before = bench.everything(id)
    assert answer(bench, id, "1") == REFUSED
    assert bench.everything(id) == before
    assert bench.send(id, "1").stored  # an event is no answer
    bench.alter(id, status=RunStatus.SUSPENDED, error=LATE)
    assert answer(bench, id, "1").stored


def test_a_run_that_is_over_or_unknown_takes_none(bench: Bench) -> None:
    id = bench.suspended("callback:approve#1")
    bench.alter(id, status=RunStatus.FAILED)
    assert answer(bench, id, "1") == Over(status=RunStatus.FAILED)
    assert answer(bench, uuid.uuid4(), "1") == Over(status=None)
