"""Two that want the same row at once, on real connections: one outcome, both ways seen.

``HOOKFLOW_TEST_RACES=1000`` runs each so often; the suite runs fewer. MariaDB and SQLite run a
tenth of them.
"""

import os
import random
import time
import uuid
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from django.db import connections

from django_hookflow.core.entries import Kind, RunStatus
from django_hookflow.core.transitions import (
    Cancel,
    Cancelled,
    Claim,
    Claimed,
    Collect,
    Committed,
    Fence,
    Fenced,
    Finish,
    Finished,
    Invoke,
    NotYet,
    Over,
    Receive,
    Record,
    SendEvent,
    Signalled,
    SignalsMoved,
    Suspend,
    Suspended,
)
from django_hookflow.journals.orm import OrmJournal
from django_hookflow.journals.orm_rows import events, runs, steps
from tests.journals.bench import LEASE, entry, outcome
from tests.journals.test_children_and_undo import CONFLICT, WAIT, child_of
from tests.journals.test_commit import LATE
from tests.journals.test_orm_races import in_threads, start

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

ASKED = int(os.environ.get("HOOKFLOW_TEST_RACES", "60"))


def races(alias: str) -> range:
    return range(ASKED if connections[alias].vendor == "postgresql" else max(ASKED // 10, 6))


def late(seed: int) -> None:
    """A head start for neither, and now and then for one of them."""
    time.sleep(random.Random(seed).choice((0, 0, 0.001, 0.003, 0.03)))


def held(journal: OrmJournal) -> tuple[uuid.UUID, Fence]:
    id = start(journal)
    return id, claim(journal, id)


def claim(journal: OrmJournal, id: uuid.UUID) -> Fence:
    view = journal.look(id)
    assert view is not None
    claimed = journal.claim(Claim(id=id, wake=view.wake_n, lease=LEASE))
    assert isinstance(claimed, Claimed)
    return Fence(id=id, epoch=claimed.run.epoch, lease=LEASE)


def check_both(seen: Counter[str], *names: str) -> None:
    """Each outcome was seen, where there are enough races to expect it."""
    if seen.total() >= 50:
        assert set(names) <= set(seen), f"not a race: {seen}"


def test_an_event_and_the_timeout_of_its_wait(alias: str) -> None:
    journal, seen = OrmJournal(alias), Counter[str]()
    for n in races(alias):
        id, fence = held(journal)
        wait = entry("w", Kind.EVENT, event="paid")
        view = journal.look(id)
        assert view is not None
        receive = Receive(fence=fence, entry=replace(wait, ready_at=view.now), timeout_error=LATE)

        def body(who: int, n: int = n, id: Any = id, receive: Any = receive) -> Any:
            late(2 * n + who)
            if who:
                return journal.send_event(SendEvent(id=id, name="paid", payload="1"))
            return journal.commit(receive)

        received, sent = in_threads(2, body)
        assert isinstance(received, Committed)
        assert isinstance(sent, Signalled)
        consumed = events(alias).filter(workflow_run=id, consumed_by__isnull=False).count()
        left = events(alias).filter(workflow_run=id, consumed_by__isnull=True).count()
        timed_out = received.entry.is_failed
        assert (consumed, left) == ((0, 1) if timed_out else (1, 0)), "lost, or taken twice"
        seen["timeout" if timed_out else "event"] += 1
    check_both(seen, "timeout", "event")


def test_an_event_and_the_suspension_that_would_wait_for_it(alias: str) -> None:
    journal, seen = OrmJournal(alias), Counter[str]()
    for n in races(alias):
        id, fence = held(journal)
        suspend = Suspend(fence=fence, seen=0, due=None, waits=("event:paid",))

        def body(who: int, n: int = n, id: Any = id, suspend: Any = suspend) -> Any:
            late(2 * n + who)
            if who:
                return journal.send_event(SendEvent(id=id, name="paid", payload="1"))
            return journal.suspend(suspend)

        suspended, sent = in_threads(2, body)
        row = runs(alias).get(pk=id)
        if isinstance(suspended, SignalsMoved):
            assert row.lease_until is not None, "its holder looks again"
            seen["holder looks"] += 1
        else:
            assert sent == Signalled(owed=True), "nobody would ever look"
            assert row.owed_at is not None
            seen["woken"] += 1
    check_both(seen, "holder looks", "woken")


def test_a_cancel_and_the_end_of_the_run(alias: str) -> None:
    journal, seen = OrmJournal(alias), Counter[str]()
    for n in races(alias):
        id, fence = held(journal)
        if n % 2:
            journal.commit(Record(fence=fence, entry=outcome("a", undo="u")))
        finish = Finish(fence=fence, status=RunStatus.COMPLETED, result="1")

        def body(who: int, n: int = n, id: Any = id, finish: Any = finish) -> Any:
            late(2 * n + who)
            if who:
                return journal.cancel(Cancel(id=id))
            try:
                return journal.finish(finish)
            except Fenced:
                return "fenced"

        ended, cancelled = in_threads(2, body)
        status = runs(alias).values_list("status", flat=True).get(pk=id)
        if ended == Finished():
            assert cancelled == Over(status=RunStatus.COMPLETED)
            assert status == RunStatus.COMPLETED
            seen["finished"] += 1
        else:
            assert isinstance(cancelled, Cancelled)
            expected = SignalsMoved(seen=1, cancelling=True) if n % 2 else "fenced"
            assert ended == expected
            assert status == (RunStatus.CANCELLING if n % 2 else RunStatus.CANCELLED)
            seen["cancelled"] += 1
    check_both(seen, "finished", "cancelled")


def test_the_end_of_a_child_and_the_suspension_of_its_parent(alias: str) -> None:
    journal, seen = OrmJournal(alias), Counter[str]()
    for n in races(alias):
        id, fence = held(journal)
        child = child_of(id)
        journal.commit(Invoke(fence=fence, entry=WAIT, child=child, conflict=CONFLICT))
        assert journal.commit(Collect(fence=fence, entry=WAIT)).__class__ is NotYet
        suspend = Suspend(fence=fence, seen=0, due=None, waits=("step:c#1",))
        finish = Finish(
            fence=claim(journal, child.id), status=RunStatus.COMPLETED, result="1",
            parent=id, parent_step="c#1",
        )  # fmt: skip

        def body(who: int, n: int = n, suspend: Any = suspend, finish: Any = finish) -> Any:
            late(2 * n + who)
            return journal.finish(finish) if who else journal.suspend(suspend)

        suspended, ended = in_threads(2, body)
        assert ended == Finished()
        if isinstance(suspended, Suspended):
            row = runs(alias).get(pk=id)
            assert (row.owed_at is not None, row.wake_n) == (True, 2), "the parent sleeps for ever"
            fence = claim(journal, id)
            seen["woken"] += 1
        else:
            assert suspended == SignalsMoved(seen=1)
            seen["holder looks"] += 1
        collected = journal.commit(Collect(fence=fence, entry=WAIT))
        assert isinstance(collected, Committed)
        assert collected.entry.value == "1"
    check_both(seen, "woken", "holder looks")


def test_two_cancels_of_a_parent_and_of_its_child_do_not_dead_lock(alias: str) -> None:
    journal = OrmJournal(alias)
    for n in races(alias):
        id, fence = held(journal)
        child = child_of(id)
        journal.commit(Invoke(fence=fence, entry=WAIT, child=child, conflict=CONFLICT))

        def body(who: int, n: int = n, id: Any = id, child: Any = child.id) -> Any:
            late(4 * n + who)
            return journal.cancel(Cancel(id=child if who % 2 else id))

        answers = in_threads(4, body)
        assert sum(isinstance(answer, Cancelled) for answer in answers) == 2
        assert runs(alias).filter(pk__in=[id, child.id], status="cancelled").count() == 2


def test_a_collected_child_is_one_outcome_whoever_collects(alias: str) -> None:
    journal = OrmJournal(alias)
    for _ in range(5):
        id, fence = held(journal)
        child = child_of(id)
        journal.commit(Invoke(fence=fence, entry=WAIT, child=child, conflict=CONFLICT))
        journal.cancel(Cancel(id=child.id))
        collect = Collect(fence=fence, entry=WAIT)

        def body(_: int, collect: Any = collect) -> Any:
            try:
                return journal.commit(collect)
            except Fenced:
                return None

        answers = in_threads(4, body)
        assert sum(answer is not None for answer in answers) == 1
        assert steps(alias).filter(workflow_run=id, seq__isnull=False).count() == 1
