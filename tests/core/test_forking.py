"""What a fork takes over, from the journal alone."""

from typing import Any
from uuid import UUID

import pytest

from django_hookflow.core.entries import Entry, Kind, StepStatus, step_key
from django_hookflow.core.forking import Cut, UnknownStep, cut


def step(step_id: str, requested: int, seq: int | None, n: int = 1, **facts: Any) -> Entry:
    return Entry(
        key=step_key(step_id, n),
        step_id=step_id,
        occurrence=n,
        requested_seq=requested,
        seq=seq,
        **{
            "kind": Kind.RUN,
            "status": StepStatus.PENDING if seq is None else StepStatus.COMPLETED,
            **facts,
        },
    )


#: Two branches: a, then a twice more; b, which ended after a#2 was asked for.
JOURNAL = [
    step("a", 0, 1),
    step("b", 1, 3, status=StepStatus.FAILED, series=2),
    step("a", 2, 2, n=2),
    step("nap", 3, None, kind=Kind.SLEEP),
    step("a", 4, 4, n=3),
    step("b", 9, 5, kind=Kind.UNDO, n=9),
]


def test_what_was_requested_before_is_kept_if_it_has_an_outcome():
    found = cut(JOURNAL, "a#3")
    assert isinstance(found, Cut)
    assert [(e.key, e.seq, e.series) for e in found.kept] == [
        ("a#1", 1, 0), ("a#2", 2, 0), ("b#1", 3, 0)
    ]  # fmt: skip
    assert found.again == ("nap#1", "a#3")


def test_what_the_source_has_to_undo_or_to_cancel_stays_the_source_s():
    child = step("ship", 0, 1, kind=Kind.CHILD, child=UUID(int=1))
    charge = step("charge", 1, 2, undo="refund")
    found = cut([child, charge, step("x", 2, None)], "x")
    assert isinstance(found, Cut)
    assert [(e.key, e.undo, e.child) for e in found.kept] == [
        ("ship#1", "", None), ("charge#1", "", None)
    ]  # fmt: skip


def test_seqs_are_without_gaps_in_the_order_of_the_outcomes():
    found = cut(JOURNAL, "nap")
    assert [(e.key, e.seq) for e in found.kept] == [("a#1", 1), ("a#2", 2), ("b#1", 3)]
    found = cut(JOURNAL, "a#2")
    assert [(e.key, e.seq) for e in found.kept] == [("a#1", 1), ("b#1", 2)]
    assert found.again == ("a#2", "nap#1", "a#3")


def test_a_step_id_is_its_first_occurrence():
    assert cut(JOURNAL, "a") == cut(JOURNAL, "a#1")
    assert cut(JOURNAL, "a").kept == ()
    named = [step("a#2", 0, 1), step("x", 1, 2)]
    assert [e.key for e in cut(named, "x").kept] == ["a#2#1"]
    assert cut(named, "a#2").again == ("a#2#1", "x#1")


@pytest.mark.parametrize("name", ["", "c", "a#4", "A", "b#9", "a#"])
def test_an_unknown_step_is_answered_with_the_known_ones(name):
    known = ("a#1", "b#1", "a#2", "nap#1", "a#3")
    assert cut(JOURNAL, name) == UnknownStep(known=known)
    assert cut([], name) == UnknownStep(known=())
