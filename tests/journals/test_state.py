"""What the fence tells of the state is written by the holder's own statement, or not at all."""

from dataclasses import replace
from datetime import timedelta

import pytest

from django_hookflow.core.entries import RunStatus
from django_hookflow.core.transitions import (
    Atomic,
    Attempted,
    Cancel,
    Fail,
    Fence,
    Fenced,
    Finish,
    Fire,
    NotYet,
    Record,
    Release,
    State,
    Suspend,
)
from tests.journals.bench import SECOND, START, Bench, entry, outcome, sleep
from tests.journals.test_commit import LATE

pytestmark = pytest.mark.django_db(databases="__all__")

TOLD = State(text='{"at":"packing"}', calls=3)


def telling(fence: Fence) -> Fence:
    return replace(fence, state=lambda: TOLD)


def applied(bench: Bench, name: str, fence: Fence) -> object:
    journal = bench.journal
    match name:
        case "record":
            return journal.commit(Record(fence=fence, entry=outcome("a")))
        case "attempted":
            return journal.commit(Attempted(fence=fence, entry=entry("a"), retry_in=SECOND))
        case "atomic":
            return journal.commit(Atomic(fence=fence, entry=outcome("a"), work=lambda: "1"))
        case "fire":
            return journal.commit(Fire(fence=fence, entry=sleep("a", START)))
        case "fail":
            return journal.fail(Fail(fence=fence, error=LATE))
        case "suspend":
            return journal.suspend(Suspend(fence=fence, seen=0, due=None))
    return journal.finish(Finish(fence=fence, status=RunStatus.COMPLETED, result="1"))


@pytest.mark.parametrize(
    "name", ["record", "attempted", "atomic", "fire", "suspend", "fail", "finish"]
)
def test_each_transition_of_a_holder_writes_what_is_told(bench: Bench, name: str) -> None:
    id, fence = bench.held()
    applied(bench, name, telling(fence))
    assert (bench.run(id).state, bench.run(id).state_n) == (TOLD.text, 3)
    view = bench.journal.look(id)
    assert (view.state, view.state_n) == (TOLD.text, 3)


@pytest.mark.parametrize("name", ["record", "suspend", "finish"])
def test_a_holder_with_nothing_to_tell_leaves_the_state(bench: Bench, name: str) -> None:
    id, fence = bench.held()
    bench.record(telling(fence), "before")
    applied(bench, name, fence)
    assert (bench.run(id).state, bench.run(id).state_n) == (TOLD.text, 3)


@pytest.mark.parametrize("name", ["suspend", "finish"])
def test_a_holder_of_a_paused_run_tells_it_when_it_leaves(bench: Bench, name: str) -> None:
    id, fence = bench.held()
    bench.alter(id, status=RunStatus.PAUSED, due_at=None)
    applied(bench, name, telling(fence))
    assert (bench.run(id).state, bench.run(id).status) == (TOLD.text, RunStatus.PAUSED)


def test_what_is_rolled_back_tells_nothing(bench: Bench) -> None:
    id, fence = bench.held()
    early = Fire(fence=telling(fence), entry=sleep("a", START + timedelta(hours=1)))
    assert isinstance(bench.journal.commit(early), NotYet)
    assert bench.run(id).state is None
    bench.journal.cancel(Cancel(id=id))
    with pytest.raises(Fenced):
        applied(bench, "record", telling(fence))
    assert bench.run(id).state is None


def test_a_body_that_is_begun_again_tells_it_again(bench: Bench) -> None:
    id, fence = bench.held()
    bench.journal.release(Release(fence=telling(fence)))
    assert bench.run(id).state is None


def test_an_atomic_step_writes_what_is_told_when_its_work_is_done(bench: Bench) -> None:
    id, fence = bench.held()
    told = [State(text="{}", calls=1)]

    def work() -> str:
        told.append(TOLD)
        return "1"

    fence = replace(fence, state=lambda: told[-1])
    bench.journal.commit(Atomic(fence=fence, entry=outcome("a"), work=work))
    assert bench.run(id).state == TOLD.text
