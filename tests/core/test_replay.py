"""Tables of (journal, requests) -> decisions; no database, no loop."""

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from django_hookflow.core.decisions import Execute, Mismatch, Park, Recorded
from django_hookflow.core.entries import Entry, Kind, StepStatus
from django_hookflow.core.replay import Replay
from django_hookflow.core.requests import Request, check_step_id


def entry(step_id, seq=None, *, occurrence=1, kind=Kind.RUN, call="m.f", sha="", **more):
    status = StepStatus.PENDING if seq is None else StepStatus.COMPLETED
    return Entry(
        key=f"{step_id}#{occurrence}",
        step_id=step_id,
        occurrence=occurrence,
        kind=kind,
        call=call,
        args_sha=sha,
        status=status,
        seq=seq,
        **more,
    )


def ask(replay, step_id, *, kind=Kind.RUN, call="m.f", sha=""):
    return replay.ask(Request(step_id=step_id, kind=kind, call=call, args_sha=sha))


def test_what_is_recorded_is_not_executed():
    replay = Replay([entry("a", 1)], seq=1)
    assert ask(replay, "a") == Recorded(key="a#1")
    assert replay.hand_over().key == "a#1"
    assert isinstance(ask(replay, "b"), Execute)
    assert replay.check() is None


def test_what_is_not_recorded_is_executed_from_its_first_attempt():
    assert ask(Replay([], seq=0), "a") == Execute(
        key="a#1", occurrence=1, args_sha="", attempt=0, series=0, ready_at=None, pending=None
    )


def test_a_failed_attempt_is_gone_on_with():
    at = datetime(2026, 1, 1, tzinfo=timezone.utc)
    row = entry("a", attempt=2, series=1, ready_at=at)
    assert ask(Replay([row], seq=0), "a") == Execute(
        key="a#1", occurrence=1, args_sha="", attempt=2, series=1, ready_at=at, pending=row
    )


@pytest.mark.parametrize(("kind", "call"), [(Kind.RUN, "m.f"), (Kind.SLEEP, "")])
def test_other_arguments_of_a_pending_row_are_remembered_for_a_repeat(kind, call):
    row = entry("a", kind=kind, call=call, sha="A")
    assert ask(Replay([row], seq=0), "a", kind=kind, call=call, sha="A").args_sha == "A"
    replay = Replay([row], seq=0)
    decision = ask(replay, "a", kind=kind, call=call, sha="B")
    assert decision.args_sha == "mixed"
    written = replace(row, args_sha=decision.args_sha, status=StepStatus.COMPLETED, seq=1)
    for sha in ("A", "B"):
        replay = Replay([written], seq=1)
        assert ask(replay, "a", kind=kind, call=call, sha=sha) == Recorded(key="a#1")
        mismatch = ask(replay, "a", kind=kind, call=call, sha=sha)
        assert mismatch.reason.startswith("step 'a#1': expected one call, got attempts with ")


def test_pending_rows_stand_beside_outcomes():
    replay = Replay([entry("nap", kind=Kind.SLEEP, call=""), entry("a", 1), entry("b")], seq=1)
    ask(replay, "a")
    assert replay.hand_over().key == "a#1"
    assert replay.check() is None
    assert replay.left_over() == []


def test_requests_are_counted():
    replay = Replay([entry("a", 1)], seq=1)
    assert replay.requests == 0
    ask(replay, "a"), ask(replay, "b"), ask(replay, "b")
    assert replay.requests == 3


def test_a_wait_parks_and_keeps_its_row():
    row = entry("nap", kind=Kind.SLEEP, call="")
    assert ask(Replay([row], seq=0), "nap", kind=Kind.SLEEP, call="") == Park(
        key="nap#1", occurrence=1, args_sha="", series=0, pending=row
    )


def test_occurrences_are_numbered_in_order_of_request():
    replay = Replay([], seq=0)
    decisions = [ask(replay, "x") for _ in range(3)]
    assert [decision.key for decision in decisions] == ["x#1", "x#2", "x#3"]
    assert [decision.occurrence for decision in decisions] == [1, 2, 3]


def test_what_no_workflow_asks_for_has_the_number_of_the_step_it_is_about():
    replay = Replay([], seq=0)
    undo = Request(step_id="x", kind=Kind.UNDO, key="x#3/undo", occurrence=3)
    decision = replay.ask(undo)
    assert (decision.key, decision.occurrence) == ("x#3/undo", 3)


def test_outcomes_are_handed_over_in_seq_order_whatever_the_order_of_requests():
    replay = Replay([entry("a", 2), entry("b", 1)], seq=2)
    ask(replay, "a")
    assert replay.hand_over() is None
    ask(replay, "b")
    assert [replay.hand_over().key, replay.hand_over().key] == ["b#1", "a#1"]
    assert replay.hand_over() is None


def test_a_live_outcome_waits_for_the_one_before_it():
    replay = Replay([entry("a", 1)], seq=1)
    for name in "abc":
        ask(replay, name)
    replay.hand_over()
    replay.settle(entry("c", 3))
    assert replay.hand_over() is None
    replay.settle(entry("b", 2))
    assert replay.handed == 1
    assert [replay.hand_over().key, replay.hand_over().key] == ["b#1", "c#1"]
    assert replay.handed == 3


def test_gaps_among_recorded_outcomes_are_fine():
    replay = Replay([entry("a", 3), entry("b", 7)], seq=9)
    ask(replay, "a"), ask(replay, "b"), ask(replay, "c")
    assert replay.hand_over().seq == 3
    assert replay.hand_over().seq == 7
    replay.settle(entry("c", 10))
    assert replay.hand_over().seq == 10


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"kind": Kind.ATOMIC}, "expected run of m.f, got atomic of m.f"),
        ({"call": "m.g"}, "expected run of m.f, got run of m.g"),
        ({"kind": Kind.SLEEP, "call": ""}, "expected run of m.f, got sleep"),
    ],
)
def test_another_kind_or_callee_is_a_mismatch(asked, words):
    replay = Replay([entry("a", 1)], seq=1)
    decision = ask(replay, "a", **asked)
    assert isinstance(decision, Mismatch)
    assert words in decision.reason
    assert replay.check() is decision
    assert isinstance(ask(replay, "other"), Mismatch)  # nothing is answered any more
    assert replay.hand_over() is None


def test_arguments_count_only_where_a_step_id_repeats():
    assert isinstance(ask(Replay([entry("a", 1, sha="x")], seq=1), "a", sha="y"), Recorded)
    repeated = [entry("a", 1, sha="x"), entry("a", 2, occurrence=2, sha="y")]
    swapped = ask(Replay(repeated, seq=2), "a", sha="y")
    assert isinstance(swapped, Mismatch)
    assert "step id of its own" in swapped.reason
    assert "ctx.now()" in swapped.reason
    replay = Replay([entry("a", 1, sha="x"), entry("b", 2)], seq=2)
    ask(replay, "a", sha="other")
    # Nobody could know at its first request that the step id repeats: told at the second.
    assert isinstance(ask(replay, "a", sha="x"), Mismatch)
    replay = Replay([entry("a", 1, sha="x")], seq=1)
    ask(replay, "a", sha="x")
    assert isinstance(ask(replay, "a", sha="new"), Execute)


def test_recorded_arguments_of_a_repeated_step_fit():
    rows = [entry("a", n, occurrence=n, sha=f"{n}") for n in (1, 2, 3)]
    replay = Replay(rows, seq=3)
    assert [ask(replay, "a", sha=f"{n}") for n in (1, 2, 3)] == [
        Recorded(key=f"a#{n}") for n in (1, 2, 3)
    ]


def test_a_second_occurrence_with_another_callee_is_a_mismatch():
    rows = [entry("a", 1, sha="x"), entry("a", 2, occurrence=2, sha="x")]
    replay = Replay(rows, seq=2)
    ask(replay, "a", sha="x")
    decision = ask(replay, "a", sha="x", call="m.g")
    assert decision == Mismatch(reason="step 'a#2': expected run of m.f, got run of m.g")


def test_the_first_mismatch_is_the_one_that_is_told():
    replay = Replay([entry("unasked", 1), entry("a", 2), entry("b", 3)], seq=3)
    first = ask(replay, "a", call="m.g")
    assert ask(replay, "b", call="m.g") is first
    assert replay.check() is first
    assert replay.check_end() is first


def test_an_outcome_that_was_asked_for_may_wait_for_its_turn():
    replay = Replay([entry("a", 1)], seq=1)
    ask(replay, "a")
    assert replay.check() is None


def test_an_unasked_outcome_stops_new_work():
    replay = Replay([entry("a", 1), entry("b", 2)], seq=2)
    ask(replay, "a")
    replay.hand_over()
    ask(replay, "renamed")
    mismatch = replay.check()
    assert "expected run step 'b#1', got 'renamed#1'" in mismatch.reason


def test_an_asked_outcome_may_be_left_at_the_end_an_unasked_one_may_not():
    replay = Replay([entry("winner", 1), entry("loser", 2)], seq=2)
    ask(replay, "winner"), ask(replay, "loser")
    replay.hand_over()
    assert replay.check_end() is None
    replay = Replay([entry("winner", 1), entry("loser", 2), entry("after", 3)], seq=3)
    ask(replay, "winner"), ask(replay, "loser")
    replay.hand_over()
    assert "'after#1'" in replay.check_end().reason


def test_the_first_of_several_unasked_outcomes_is_named():
    rows = [entry("c", 2), entry("b", 3), entry("a", 4), entry("asked", 1)]
    replay = Replay(rows, seq=4)
    ask(replay, "asked")
    replay.hand_over()
    assert replay.left_over() == rows[:3]
    assert "'c#1'" in replay.check_end().reason


def test_entries_can_be_had_without_some():
    rows = [entry("a", 1), entry("b", 2), entry("nap", kind=Kind.SLEEP, call="")]
    replay = Replay(rows, seq=2)
    assert replay.without(["b#1", "other#1"]) == [rows[0], rows[2]]
    assert replay.without([]) == rows


@pytest.mark.parametrize(
    ("rows", "asked"),
    [
        ([], True),
        ([entry("a", 1)], True),
        ([entry("a", 1), entry("b", 2)], False),
        ([entry("attempted", attempt=1)], True),  # no outcome yet: it may come to none
        ([entry("nap", kind=Kind.SLEEP, call="")], False),
        ([entry("mail", kind=Kind.EVENT, call="")], False),
    ],
)
def test_whether_all_was_asked_for(rows, asked):
    replay = Replay(rows, seq=2)
    ask(replay, "a")
    assert replay.asked_for_all() is asked


def test_a_mismatch_has_not_asked_for_all():
    replay = Replay([entry("a", 1)], seq=1)
    ask(replay, "a", call="m.g")
    assert replay.asked_for_all() is False


def test_no_request_at_all_is_named():
    assert "no request at all" in Replay([entry("a", 1)], seq=1).check().reason


def test_replaying_ends_with_the_last_recorded_outcome():
    replay = Replay([entry("a", 1)], seq=1)
    assert replay.replaying
    ask(replay, "a")
    replay.hand_over()
    assert not replay.replaying
    ask(replay, "b")
    replay.settle(replace(entry("b", 2)))
    assert not replay.replaying


@pytest.mark.parametrize("bad", ["", "x" * 201, None, 5, "a\x00b", "a\ud800"])
def test_bad_step_ids(bad):
    with pytest.raises((ValueError, TypeError), match="step_id"):
        check_step_id(bad)


@pytest.mark.parametrize("good", ["a", "x" * 200, "Ünïcode #1", "charge#2"])
def test_good_step_ids(good):
    assert check_step_id(good) == good


def test_what_was_superseded_is_asked_for_under_its_next_series():
    replay = Replay([], seq=1, series={"charge#1": 2, "nap#1": 1})
    assert ask(replay, "charge").series == 2
    assert ask(replay, "nap", kind=Kind.SLEEP, call="").series == 1
    assert ask(replay, "ship").series == 0


def test_what_no_workflow_asks_for_has_its_own_key_and_is_not_numbered():
    undone = replace(entry("charge", 1, kind=Kind.UNDO), key="charge#2/undo")
    replay = Replay([undone], seq=1)
    for key in ("charge#3/undo", "charge#2/undo"):
        asked = Request(step_id="charge", kind=Kind.UNDO, call="m.f", key=key)
        answer = replay.ask(asked)
        assert answer.key == key
    assert answer == Recorded(key="charge#2/undo")


@pytest.mark.parametrize("exact", [True, False])
def test_the_items_of_a_map_are_told_apart_by_their_arguments(exact):
    replay = Replay([entry("item[0]", 1, sha="A")], seq=1)
    got = replay.ask(
        Request(step_id="item[0]", kind=Kind.RUN, call="m.f", args_sha="B", exact=exact)
    )
    assert isinstance(got, Mismatch if exact else Recorded)


def test_a_row_that_was_just_written_is_among_what_is_recorded():
    """It may have to be undone, and a body that ends early has not asked for it."""
    replay = Replay([entry("a", 1)], seq=1)
    ask(replay, "a")
    assert replay.asked_for_all()
    row = entry("child", kind=Kind.CHILD)
    replay.note(row)
    assert replay.without(["a#1"]) == [row]
    assert not replay.asked_for_all()
