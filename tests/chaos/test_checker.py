"""The checker against histories that are right, and against falsified ones.

Longer than other modules because it is a list: one function for each way to falsify.
"""

from dataclasses import replace

import pytest

from tests.chaos.checker import check
from tests.chaos.facts import Facts, Row, Run, Step
from tests.chaos.ledger import Line
from tests.chaos.report import Figures, fill, table, trouble
from tests.chaos.shapes import CAUGHT

PLAN = [
    {"kind": "run", "id": "first", "ms": 1},
    {"kind": "gather", "id": "side", "width": 2, "ms": 1},
    {"kind": "sleep", "id": "nap", "seconds": 2.0},
    {"kind": "atomic", "id": "book", "ms": 1},
    {"kind": "call", "id": "ask", "ms": 1, "fail": 1},
    {"kind": "retry", "id": "flaky", "ms": 1, "fail": 1, "delay": 0.5},
    {"kind": "caught", "id": "refused"},
]
RUN = "async-all-1"
LEASE = 3.0
#: When each step of the right history starts; it is recorded half a second later.
AT = {
    "first#1": 10.0, "side-0#1": 11.0, "side-1#1": 11.1, "nap#1": 12.0, "book#1": 15.0,
    "ask#1": 16.0, "flaky#1": 18.0, "refused#1": 20.0,
}  # fmt: skip
FINISHED = 21.0


class History:
    """A run that went right, in process 100; tests add to it and take from it."""

    def __init__(self):
        self.lines, self.ended = [], {RUN: "as it ended"}
        self.steps = {key: self._step(key) for key in AT}
        self.rows = {"book#1": [Row(note="book#1-n", created=15.2)]}
        result = {key: f"{key}-n" for key in AT if key != "nap#1"} | {"refused#1": CAUGHT}
        self.run = Run(status="completed", result=result, finished=FINISHED)
        for key in ("first#1", "side-0#1", "side-1#1", "book#1"):
            self.execute(key, AT[key], effect=key != "book#1")
        self.execute("ask#1", 15.8, note="ask-failed", effect=False, end=False, attempt=0)
        self.execute("ask#1", AT["ask#1"], attempt=0)
        self.execute("flaky#1", 17.4, note="flaky-failed", effect=False, end=False)
        self.execute("flaky#1", AT["flaky#1"], attempt=2)
        self.execute("refused#1", 19.5, note="refused-1", effect=False, end=False)
        self.execute("refused#1", 20.0, note="refused-2", effect=False, end=False, attempt=2)

    def _step(self, key):
        kind = {"nap": "sleep", "book": "atomic", "ask": "call"}.get(key[:-2], "run")
        note = f"{key}-n"
        values = {"call": {"data": {"note": note}}, "sleep": None}
        step = Step(key=key, kind=kind, status="completed", result=values.get(kind, note),
                    started=AT[key], finished=AT[key] + 0.5)  # fmt: skip
        if kind == "sleep":
            return replace(step, wake=14.0, finished=14.5)
        return replace(step, status="failed", result=None) if key == "refused#1" else step

    def line(self, at, kind, key, *, pid=100, note="", attempt=0, idem="", run=RUN):
        self.lines.append(Line(seq=0, at=at, kind=kind, run=run, key=key, attempt=attempt,
                               idem=idem, pid=pid, note=note))  # fmt: skip

    def execute(self, key, at, *, note=None, effect=True, end=True, **facts):
        facts = {"attempt": 1, "idem": f"idem-{key}", "note": note or f"{key}-n", **facts}
        self.line(at, "start", key, **facts)
        if effect:
            self.line(at + 0.1, "effect", key, **facts)
        if end:
            self.line(at + 0.2, "end", key, **facts)

    def fault(self, what, pid, began, done):
        number = str(len(self.lines))
        self.line(began, "fault", what, pid=pid, note=number, run="")
        self.line(done, "done", what, pid=pid, note=number, run="")

    def change(self, key, **facts):
        self.steps[key] = replace(self.steps[key], **facts)

    def facts(self):
        ordered = sorted(self.lines, key=lambda line: line.at)
        return Facts(
            lease=LEASE,
            plans={RUN: PLAN},
            runs={RUN: self.run} if self.run else {},
            steps={RUN: list(self.steps.values())},
            rows={(RUN, key): rows for key, rows in self.rows.items()},
            lines=[replace(line, seq=n) for n, line in enumerate(ordered)],
            ended=self.ended,
            final={RUN: "as it ended"},
        )


def broken(history):
    return {violation.invariant for violation in check(history.facts())}


def test_a_right_history_breaks_nothing():
    assert check(History().facts()) == []


# --- falsified: the run


def lose(history):
    history.run = replace(history.run, status="running", finished=None, result=None)


def vanish(history):
    history.run = None


def fail(history):
    history.run = replace(history.run, status="failed")


def mix_up(history):
    history.run.result["first#1"] = history.run.result["book#1"]


def swallow(history):
    history.run.result["refused#1"] = "no failure"


def change_afterwards(history):
    history.ended[RUN] = "otherwise"


# --- falsified: the journal


def forget_outcome(history):
    del history.steps["first#1"]


def record_twice(history):
    history.steps["again"] = history.steps["first#1"]


def invent(history):
    history.steps["unplanned"] = replace(history.steps["first#1"], key="unplanned#1")


def record_the_other(history):
    history.change("first#1", result="nobody returned this")
    history.run.result["first#1"] = "nobody returned this"


def succeed_in_vain(history):
    history.change("refused#1", status="completed")


def record_late(history):
    history.change("refused#1", finished=FINISHED + 0.1)


def overtake(history):
    history.change("first#1", finished=AT["side-0#1"] + 0.01)


def wake_early(history):
    history.change("nap#1", finished=13.9)


def wait_less(history):
    history.change("nap#1", wake=13.0)


# --- falsified: the rows


def book_twice(history):
    history.rows["book#1"].append(Row(note="another", created=15.3))


def book_never(history):
    history.rows["book#1"].clear()


def book_another(history):
    history.rows["book#1"][:] = [Row(note="another", created=15.3)]


def book_unasked(history):
    history.rows["first#1"] = [Row(note="first#1-n", created=10.2)]


def book_late(history):
    history.rows["book#1"][:] = [Row(note="book#1-n", created=FINISHED + 1)]


# --- falsified: the ledger


def lose_effect(history):
    history.lines = [each for each in history.lines if (each.kind, each.key) != ("effect", "ask#1")]


def repeat_without_reason(history):
    history.execute("first#1", 10.1, note="more")


def repeat_after_its_record(history):
    history.fault("kill", 100, 10.6, 10.7)
    history.execute("first#1", 10.8, note="more", pid=200)


def repeat_twice_for_one_kill(history):
    history.execute("first#1", 9.0, note="killed", pid=90, end=False)
    history.execute("first#1", 9.6, note="not killed", pid=91, end=False)
    history.fault("kill", 90, 9.2, 9.3)


def repeat_a_failed_attempt(history):
    history.execute("flaky#1", 17.5, note="more", effect=False, end=False)


def use_two_keys(history):
    history.execute("first#1", 9.0, note="killed", pid=90, end=False, idem="another")
    history.fault("kill", 90, 9.2, 9.3)


def blame_another(history):
    history.execute("first#1", 9.0, note="more", pid=90, end=False)
    history.fault("kill", 100, 9.2, 9.3)


def oversleep_not(history):
    history.execute("book#1", 13.0, note="early", pid=90, effect=False)
    history.fault("kill", 90, 13.1, 13.2)


def start_after_the_end(history):
    history.execute("refused#1", FINISHED + 0.5, note="more", effect=False, end=False, pid=90)


def start_the_unplanned(history):
    history.execute("unplanned#1", 12.0)


@pytest.mark.parametrize(
    ("falsify", "invariant"),
    [
        (lose, "I1"), (vanish, "I1"), (fail, "I1"), (mix_up, "I1"), (swallow, "I1"),
        (forget_outcome, "I3"), (record_twice, "I3"), (invent, "I3"), (record_the_other, "I3"),
        (succeed_in_vain, "I3"), (start_the_unplanned, "I3"),
        (book_twice, "I4"), (book_never, "I4"), (book_another, "I4"), (book_unasked, "I4"),
        (lose_effect, "I5"), (repeat_without_reason, "I5"), (repeat_after_its_record, "I5"),
        (repeat_twice_for_one_kill, "I5"), (repeat_a_failed_attempt, "I5"), (use_two_keys, "I5"),
        (blame_another, "I5"),
        (overtake, "I6"), (oversleep_not, "I6"),
        (change_afterwards, "I8"), (record_late, "I8"), (book_late, "I8"),
        (start_after_the_end, "I8"),
        (wake_early, "I9"), (wait_less, "I9"), (oversleep_not, "I9"),
    ],
)  # fmt: skip
def test_a_falsified_history_breaks_its_invariant(falsify, invariant):
    history = History()
    falsify(history)
    assert invariant in broken(history)


# --- what faults explain


def test_a_kill_during_a_body_explains_one_repeat():
    history = History()
    history.execute("first#1", 9.0, note="killed", pid=90, end=False)
    history.fault("kill", 90, 9.2, 9.3)
    assert check(history.facts()) == []


def test_a_stop_explains_a_body_that_starts_when_another_process_has_ended_the_run():
    history = History()
    history.fault("stop", 90, 9.0, FINISHED + 1)
    history.execute("first#1", FINISHED + 1.2, note="late", pid=90)
    assert check(history.facts()) == []


def test_a_cut_explains_a_repeat_of_what_starts_soon_after_it():
    history = History()
    history.fault("backend", 100, 14.5, 14.6)
    history.execute("book#1", 14.8, note="rolled back", effect=False, end=False)
    assert check(history.facts()) == []


def test_a_stop_that_is_long_over_explains_nothing():
    history = History()
    history.fault("stop", 90, 1.0, 9.0)
    history.execute("first#1", 9.5 + LEASE, note="late", pid=90)
    assert broken(history) == {"I5"}


# --- what is told


def test_the_report_counts_and_shows_what_to_look_at():
    history = History()
    history.execute("first#1", 9.0, note="killed", pid=90, end=False)
    history.fault("kill", 90, 9.2, 9.3)
    repeat_without_reason(history)
    book_twice(history)
    facts = history.facts()
    figures = Figures(
        database="sqlite", seconds=1, drained=0, done={"kill": 1}, qstash={}, doctor=[]
    )
    fill(figures, facts)
    assert (figures.runs, figures.lost, figures.atomic_twice) == (1, 0, 1)
    assert (figures.repeats, figures.bound, figures.unexplained) == (2, 1, 1)
    assert figures.struck == {"kill": 1}
    assert "2; 1 explained by faults at most, 1 unexplained" in "\n".join(table(figures))
    told = "\n".join(trouble(check(facts), facts))
    assert f"I4 {RUN}: book#1 left rows" in told
    assert "effect first#1 attempt 1 pid 100" in told
    assert "fault  kill" in told
