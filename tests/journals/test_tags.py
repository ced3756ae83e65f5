"""Tags are written with the run, once, the same for every journal."""

import uuid

import pytest

from django_hookflow.core.entries import TERMINAL
from django_hookflow.core.transitions import Cancel, Conflict, Trigger, Triggered
from tests.journals.bench import SECOND, Bench, Crash

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

TAGS = (("Order", "42"), ("order", "42 "))


def trigger(run_id: str, tags: object = TAGS, data: str = "1") -> Trigger:
    facts = {"workflow_id": "w", "version": "", "seed": 1, "data": data, "tags": tags}
    return Trigger(id=uuid.uuid4(), run_id=run_id, **facts)


def test_a_run_is_tagged_exactly(bench: Bench) -> None:
    start = trigger("a")
    bench.journal.trigger(start)
    assert bench.tags(start.id) == dict(TAGS)
    assert bench.tags(bench.start()) == {}


def test_the_same_run_again_keeps_the_tags_that_it_has(bench: Bench) -> None:
    first = trigger("a")
    bench.journal.trigger(first)
    for again in (trigger("a", ()), trigger("a", (("x", "y"),)), trigger("a")):
        assert bench.journal.trigger(again) == Triggered(id=first.id, created=False)
        [answer] = bench.journal.trigger_many([again])
        assert answer.id == first.id
    assert bench.tags(first.id) == dict(TAGS)


def test_many_runs_are_tagged_each_by_its_own(bench: Bench) -> None:
    starts = [trigger(f"r{n}", (("n", str(n)), ("all", "yes"))) for n in range(600)]
    bench.journal.trigger_many(starts)
    for n in (0, 1, 499, 500, 599):
        assert bench.tags(starts[n].id) == {"n": str(n), "all": "yes"}


def test_a_conflict_among_many_tags_nothing(bench: Bench) -> None:
    bench.journal.trigger(trigger("there", ()))
    new = trigger("new")
    answers = bench.journal.trigger_many([new, trigger("there", data="2")])
    assert isinstance(answers[1], Conflict)
    assert bench.journal.look(new.id) is None
    assert bench.tags(new.id) == {}


def test_run_and_tags_are_written_together_or_not_at_all(bench: Bench) -> None:
    start = trigger("a")
    for place in ("before", "inside"):
        bench.crash_at = f"trigger:{place}"
        with pytest.raises(Crash):
            bench.journal.trigger(start)
        assert bench.tags(start.id) == {}
    bench.crash_at = ""
    for _ in range(2):  # repeated after a COMMIT whose answer was lost
        assert bench.journal.trigger(start).id == start.id
    assert bench.tags(start.id) == dict(TAGS)


def test_tags_go_with_their_run(bench: Bench) -> None:
    start = trigger("a")
    bench.journal.trigger(start)
    bench.journal.cancel(Cancel(id=start.id))
    bench.pass_time(days=1)
    assert bench.journal.prune(older_than=SECOND, statuses=TERMINAL, limit=5) == 1
    assert bench.tags(start.id) == {}
