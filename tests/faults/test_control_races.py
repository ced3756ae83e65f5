"""Controls against a holder, on real connections: either order happens, and nothing is lost.

``HOOKFLOW_TEST_RACES`` is how often each is run (60); one that has seen a single order proves
nothing.
"""

import itertools
import os
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections

from django_hookflow.core.entries import RunStatus
from django_hookflow.core.transitions import (
    Claim,
    Claimed,
    Committed,
    Fence,
    Finish,
    Finished,
    Pause,
    Paused,
    Record,
    Resume,
    Resumed,
    SignalsMoved,
    StaysPaused,
    Suspend,
    Trigger,
    Unchanged,
)
from django_hookflow.journals.orm import OrmJournal
from django_hookflow.journals.orm_rows import runs
from tests.journals.bench import LEASE, outcome

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

RACES = int(os.environ.get("HOOKFLOW_TEST_RACES", "60"))

Act = Callable[[Fence], Any]


#: Which side waits a little in each of ten races: without that the one whose act takes more
#: statements may lose all of them.
LATE = itertools.cycle([0, None, None, None, None, 1, None, None, None, None])


def raced(alias: str, fence: Fence, left: Act, right: Act) -> tuple[Any, Any]:
    """What two threads got that acted on one run at once."""
    answers: list[Any] = [None, None]
    barrier, late = threading.Barrier(2, timeout=60), next(LATE)

    def side(number: int, act: Act) -> None:
        try:
            connections[alias].ensure_connection()
            barrier.wait()
            time.sleep(0.05 if number == late else random.uniform(0, 0.002))
            answers[number] = act(fence)
        except BaseException as error:  # handed to the test's own thread
            answers[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=side, args=pair) for pair in enumerate((left, right))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers[0], answers[1]


def held(journal: OrmJournal) -> Fence:
    id = uuid.uuid4()
    facts = {"workflow_id": "w", "version": "", "seed": 1, "data": "null"}
    journal.trigger(Trigger(id=id, run_id=str(id), **facts))
    journal.published(id, 1)
    return again(journal, id, 1)


def again(journal: OrmJournal, id: uuid.UUID, wake: int) -> Fence:
    claimed = journal.claim(Claim(id=id, wake=wake, lease=LEASE))
    assert isinstance(claimed, Claimed)
    return Fence(id=id, epoch=claimed.run.epoch, lease=LEASE)


def finish(journal: OrmJournal, fence: Fence) -> Any:
    return journal.finish(Finish(fence=fence, status=RunStatus.COMPLETED, result="1"))


def test_a_pause_and_the_end_of_a_run(alias: str) -> None:
    """Paused, or over: never both, and a run that was paused in time can still be ended."""
    journal, seen = OrmJournal(alias), Counter[str]()
    for _ in range(RACES):
        fence = held(journal)
        paused, ended = raced(
            alias,
            fence,
            lambda fence: journal.pause(Pause(id=fence.id)),
            lambda fence: finish(journal, fence),
        )
        row = runs(alias).get(pk=fence.id)
        assert row.lease_until is None
        if isinstance(ended, Finished):
            seen["ended first"] += 1
            assert paused == Unchanged(status=RunStatus.COMPLETED)
            assert (row.status, row.result, row.due_at) == ("completed", 1, None)
            continue
        seen["paused first"] += 1
        assert (paused, ended) == (Paused(), StaysPaused())
        assert (row.status, row.result, row.due_at, row.owed_at) == ("paused", None, None, None)
        assert journal.resume(Resume(id=fence.id)) == Resumed()
        assert finish(journal, again(journal, fence.id, 2)) == Finished()
    assert set(seen) == {"ended first", "paused first"}, f"one order only: {seen}"


def test_a_resume_and_the_end_of_a_run(alias: str) -> None:
    """The holder of a paused run ends it, or leaves it to the wake-up that the resume owes."""
    journal, seen = OrmJournal(alias), Counter[str]()
    for _ in range(RACES):
        fence = held(journal)
        assert journal.pause(Pause(id=fence.id)) == Paused()
        resumed, ended = raced(
            alias,
            fence,
            lambda fence: journal.resume(Resume(id=fence.id)),
            lambda fence: finish(journal, fence),
        )
        assert resumed == Resumed()
        row = runs(alias).get(pk=fence.id)
        if isinstance(ended, Finished):
            seen["resumed first"] += 1
            assert (row.status, row.result, row.due_at) == ("completed", 1, None)
            continue
        seen["left first"] += 1
        assert ended == StaysPaused()
        assert (row.status, row.lease_until, row.wake_n) == ("suspended", None, 2)
        assert row.owed_at is not None
        assert row.due_at <= row.owed_at
        assert finish(journal, again(journal, fence.id, 2)) == Finished()
    assert set(seen) == {"resumed first", "left first"}, f"one order only: {seen}"


def test_a_pause_and_the_record_of_a_step(alias: str) -> None:
    """What executes is recorded whichever is first; its holder learns of a pause that was."""
    journal, seen = OrmJournal(alias), Counter[str]()
    for _ in range(RACES):
        fence = held(journal)
        paused, recorded = raced(
            alias,
            fence,
            lambda fence: journal.pause(Pause(id=fence.id)),
            lambda fence: journal.commit(Record(fence=fence, entry=outcome("a"))),
        )
        assert paused == Paused()
        assert isinstance(recorded, Committed)
        seen[str(recorded.status)] += 1
        row = runs(alias).get(pk=fence.id)
        assert (row.status, row.seq, row.due_at) == ("paused", 1, None)
        left = journal.suspend(Suspend(fence=fence, seen=0, due=None))
        assert left == StaysPaused()
    assert set(seen) == {"running", "paused"}, f"one order only: {seen}"


def test_a_resume_and_a_holder_that_leaves(alias: str) -> None:
    """It left a paused run, which is due now; or it is told to look again, and holds on."""
    journal, seen = OrmJournal(alias), Counter[str]()
    for _ in range(RACES):
        fence = held(journal)
        assert journal.pause(Pause(id=fence.id)) == Paused()
        resumed, left = raced(
            alias,
            fence,
            lambda fence: journal.resume(Resume(id=fence.id)),
            lambda fence: journal.suspend(Suspend(fence=fence, seen=0, due=None)),
        )
        assert resumed == Resumed()
        row = runs(alias).get(pk=fence.id)
        assert row.owed_at is not None, "nobody would look at it"
        if isinstance(left, SignalsMoved):
            seen["resumed first"] += 1
            assert (row.status, row.due_at) == ("running", row.lease_until)
        else:
            seen["left first"] += 1
            assert left == StaysPaused()
            assert (row.status, row.lease_until) == ("suspended", None)
            assert row.due_at <= row.owed_at
    assert set(seen) == {"resumed first", "left first"}, f"one order only: {seen}"
