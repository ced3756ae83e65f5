"""What is asked of a run that is not there (any more), the same for every journal."""

import uuid

import pytest

from django_hookflow.core.entries import RunStatus
from django_hookflow.core.transitions import (
    Atomic,
    Beat,
    Fence,
    Fenced,
    Finish,
    Finished,
    Record,
    Release,
    Signal,
    Signalled,
    Suspend,
)
from tests.journals.bench import LEASE, SECOND, Bench, outcome

pytestmark = pytest.mark.django_db(databases="__all__")


@pytest.fixture
def fence() -> Fence:
    return Fence(id=uuid.uuid4(), epoch=1, lease=LEASE)


def test_a_commit_is_fenced(bench: Bench, fence: Fence) -> None:
    for commit in (
        Record(fence=fence, entry=outcome("a")),
        Atomic(fence=fence, entry=outcome("a"), work=lambda: "1"),
    ):
        with pytest.raises(Fenced):
            bench.journal.commit(commit)


def test_the_end_of_a_delivery_is_fenced(bench: Bench, fence: Fence) -> None:
    with pytest.raises(Fenced):
        bench.journal.suspend(Suspend(fence=fence, seen=0, due=SECOND))
    with pytest.raises(Fenced):
        bench.journal.release(Release(fence=fence))
    with pytest.raises(Fenced):
        bench.journal.finish(Finish(fence=fence, status=RunStatus.COMPLETED, result="1"))


def test_its_lease_is_lost(bench: Bench, fence: Fence) -> None:
    id, held = bench.held()
    beat = Beat(held={fence.id: 1, id: held.epoch}, lease=LEASE)
    assert list(bench.journal.beat(beat)) == [fence.id]


def test_nothing_is_owed_published_or_signalled(bench: Bench, fence: Fence) -> None:
    assert bench.journal.owed(fence.id) is None
    bench.journal.published(fence.id, 1)
    assert bench.journal.signal(Signal(id=fence.id, wait="step:a#1")) == Signalled(owed=False)
    assert bench.journal.look(fence.id) is None


def test_a_child_of_a_parent_that_was_removed_goes_on(bench: Bench) -> None:
    """Nothing in the database holds a child's parent there."""
    child = bench.start()
    bench.alter(child, parent=uuid.uuid4())
    assert list(bench.journal.orphans(limit=9)) == []


def test_a_child_of_a_parent_that_was_removed_finishes(bench: Bench) -> None:
    id, held = bench.held()
    finish = Finish(fence=held, status=RunStatus.COMPLETED, result="1", parent=uuid.uuid4())
    assert bench.journal.finish(finish) == Finished()
    assert bench.run(id).status is RunStatus.COMPLETED
