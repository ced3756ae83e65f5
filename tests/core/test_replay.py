"""Tables of (journal, requests) -> decisions; no database, no loop."""

from dataclasses import replace

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


def test_a_failed_attempt_is_gone_on_with():
    replay = Replay([entry("a", attempt=2, series=1)], seq=0)
    decision = ask(replay, "a")
    assert (decision.attempt, decision.series) == (2, 1)


def test_a_wait_parks_and_keeps_its_row():
    row = entry("nap", kind=Kind.SLEEP, call="")
    assert ask(Replay([row], seq=0), "nap", kind=Kind.SLEEP, call="") == Park(
        key="nap#1", occurrence=1, series=0, pending=row
    )


def test_occurrences_are_numbered_in_order_of_request():
    replay = Replay([], seq=0)
    assert [ask(replay, "x").key for _ in range(3)] == ["x#1", "x#2", "x#3"]


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
    assert [replay.hand_over().key, replay.hand_over().key] == ["b#1", "c#1"]


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
