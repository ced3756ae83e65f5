"""Real threads on real connections: one wins, nothing is recorded twice."""

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from django_hookflow.core.entries import Kind, StepStatus
from django_hookflow.core.transitions import (
    Atomic,
    Beat,
    Claim,
    Claimed,
    Committed,
    Fence,
    Fenced,
    Fire,
    NotYet,
    Receive,
    Record,
    SendEvent,
    Suspend,
    Suspended,
    Trigger,
    Triggered,
)
from django_hookflow.journals.orm import OrmJournal
from django_hookflow.journals.orm_rows import read_entries, runs, steps
from tests.app.models import Effect
from tests.journals.bench import LEASE, SECOND, OrmBench, entry, outcome
from tests.journals.servers import connected_with, isolation_levels
from tests.journals.test_commit import LATE

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


#: The levels under which a server may be used, Django's default first.
LEVELS = {
    "sqlite3": ["serializable"],
    "postgresql": ["read committed", "repeatable read"],
    "mysql": ["read committed", "repeatable read", "snapshot isolation"],
}
PLACES = [
    (alias, level)
    for alias, database in settings.DATABASES.items()
    for level in LEVELS[database["ENGINE"].rpartition(".")[2]]
]


@pytest.fixture(params=PLACES, ids=[f"{alias}, {level}" for alias, level in PLACES])
def alias(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each database at each level of isolation in turn."""
    alias, level = request.param
    levels = isolation_levels(alias)
    if level not in levels:
        pytest.skip(f"this server knows no {level}")
    with connected_with(alias, **levels[level]):
        yield alias


def in_threads(count: int, body: Callable[[int], Any]) -> list[Any]:
    """What ``body`` returned or raised in each of so many threads that start together."""
    barrier = threading.Barrier(count)
    answers: list[Any] = [None] * count

    def run(number: int) -> None:
        try:
            barrier.wait(30)
            answers[number] = body(number)
        except BaseException as error:  # handed to the test's own thread
            answers[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers


def start(journal: OrmJournal, run_id: str = "") -> uuid.UUID:
    id = uuid.uuid4()
    journal.trigger(
        Trigger(id=id, run_id=run_id or str(id), workflow_id="w", version="", seed=1, data="null")
    )
    return id


# One worker for all of them: the server has connections for a hundred, with those of the others.
@pytest.mark.xdist_group("twenty connections")
def test_one_of_twenty_claims_wins(alias: str) -> None:
    journal = OrmJournal(alias)
    for _ in range(5):
        id = start(journal)
        claim = Claim(id=id, wake=1, lease=LEASE)
        answers = in_threads(20, lambda _, claim=claim: journal.claim(claim))
        assert sum(isinstance(answer, Claimed) for answer in answers) == 1
        assert runs(alias).get(pk=id).epoch == 1


STEPS = 200


def test_commits_under_forced_loss_of_the_lease_are_recorded_once(alias: str) -> None:
    """Two holders that again and again take the run from each other, 200 atomic steps."""
    journal = OrmJournal(alias)
    id = start(journal)
    fenced: Counter[int] = Counter()

    def holder(number: int) -> None:
        while True:
            past = timezone.now() - SECOND
            runs(alias).filter(pk=id).update(lease_until=past, due_at=past)
            claimed = journal.claim(Claim(id=id, wake=1, lease=LEASE))
            if not isinstance(claimed, Claimed):
                continue
            fence = Fence(id=id, epoch=claimed.run.epoch, lease=LEASE)
            done = len(claimed.entries)
            if done >= STEPS:
                return
            try:
                for step in range(done, min(done + 5, STEPS)):
                    time.sleep(random.uniform(0, 0.004))  # SQLite's waiters are not fair
                    journal.commit(atomic(fence, step))
            except Fenced:
                fenced[number] += 1

    def atomic(fence: Fence, step: int) -> Atomic:
        def work() -> str:
            Effect.objects.using(alias).create(run_id=str(id), step=str(step))
            return str(step)

        step_entry = entry(f"s{step}", Kind.ATOMIC, attempt=1)
        return Atomic(fence=fence, entry=step_entry, work=work)

    in_threads(2, holder)
    effects = Counter(Effect.objects.using(alias).values_list("step", flat=True))
    assert effects == {str(step): 1 for step in range(STEPS)}
    journaled = read_entries(steps(alias).filter(workflow_run=id))
    assert [e.key for e in journaled] == [f"s{step}#1" for step in range(STEPS)]
    assert sorted(e.seq or 0 for e in journaled) == list(range(1, STEPS + 1))
    assert runs(alias).get(pk=id).seq == STEPS
    assert sum(fenced.values()) > 0, "nobody lost a lease: the test proves nothing"


def test_same_run_id_in_parallel_creates_one_run(alias: str) -> None:
    journal = OrmJournal(alias)

    def trigger(number: int) -> Any:
        facts = {"workflow_id": "w", "version": "", "seed": 1, "data": "null"}
        return journal.trigger(Trigger(id=uuid.uuid4(), run_id="order", **facts))

    answers = in_threads(8, trigger)
    assert all(isinstance(answer, Triggered) for answer in answers)
    assert len({answer.id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    assert runs(alias).count() == 1


def test_events_sent_while_the_run_suspends_are_never_slept_through(alias: str) -> None:
    """A sender and a holder that suspends, at once: the event is received or a wake is owed."""
    journal = OrmJournal(alias)
    for _ in range(25):
        id = start(journal)
        journal.published(id, 1)
        claimed = journal.claim(Claim(id=id, wake=1, lease=LEASE))
        assert isinstance(claimed, Claimed)
        fence = Fence(id=id, epoch=claimed.run.epoch, lease=LEASE)

        def act(number: int, id: uuid.UUID = id, fence: Fence = fence) -> Any:
            if number:
                return journal.send_event(SendEvent(id=id, name="paid", payload="1"))
            wait = entry("w", Kind.EVENT, event="paid")
            got = journal.commit(Receive(fence=fence, entry=wait, timeout_error=LATE))
            if isinstance(got, Committed):
                return got
            suspend = Suspend(fence=fence, seen=0, due=None, waits=("event:paid",))
            return journal.suspend(suspend)

        ended, _ = in_threads(2, act)
        row = runs(alias).get(pk=id)
        if isinstance(ended, Suspended):
            assert row.owed_at is not None
            assert row.due_at <= timezone.now()
        assert row.signals == 1


def test_crossing_signals_repeat_instead_of_failing(alias: str) -> None:
    """Finishing children lock parent then child; beats lock in any order.

    Not more at once than this: PostgreSQL takes a second to see each deadlock, and so many in a
    row that a transaction gives up are a storm of the test's own.
    """
    journal = OrmJournal(alias)
    fences = []
    for _ in range(6):
        id = start(journal)
        claimed = journal.claim(Claim(id=id, wake=1, lease=LEASE))
        assert isinstance(claimed, Claimed)
        fences.append(Fence(id=id, epoch=claimed.run.epoch, lease=LEASE))

    def act(number: int) -> list[uuid.UUID]:
        lost: list[uuid.UUID] = []
        for n in range(12):
            order = fences if number % 2 else fences[::-1]
            held = {fence.id: fence.epoch for fence in order}
            lost += journal.beat(Beat(held=held, lease=LEASE + timedelta(seconds=n)))
            done = outcome(f"s{number}-{n}")
            journal.commit(Record(fence=order[n % 6], entry=done))
        return lost

    assert in_threads(3, act) == [[]] * 3
    assert steps(alias).filter(status=StepStatus.COMPLETED.value).count() == 36


def test_real_clock_decides_leases_and_timers(alias: str) -> None:
    real_clock_decides(alias)


#: Seconds within which the next transaction has to come: it does in the first unless the machine
#: is busy, and then the next one is tried.
MOMENTS = (1, 4, 16)


def real_clock_decides(alias: str) -> None:
    journal = OrmJournal(alias)
    id = start(journal)
    view = journal.look(id)
    assert view is not None
    assert abs(view.now - timezone.now()) < timedelta(seconds=5)
    assert view.due_at is not None
    assert view.created_at <= view.now
    assert view.due_at <= view.now
    for seconds in MOMENTS:
        lease = timedelta(seconds=seconds)
        claimed = journal.claim(Claim(id=id, wake=1, lease=lease))
        assert isinstance(claimed, Claimed)
        assert claimed.run.lease_until == claimed.run.now + lease
        early = journal.claim(Claim(id=id, wake=1, lease=LEASE))
        if not isinstance(early, Claimed):
            break
        assert early.run.now >= claimed.run.lease_until  # it was not early
        runs(alias).filter(pk=id).delete()
        id = start(journal)
    else:
        pytest.fail("the machine is too slow for any lease")
    time.sleep(seconds + 0.05)
    view = journal.look(id)
    assert view is not None
    assert view.leased is False
    again = journal.claim(Claim(id=id, wake=1, lease=LEASE))
    assert isinstance(again, Claimed)
    assert again.found_dead
    fence = Fence(id=id, epoch=again.run.epoch, lease=LEASE)
    for seconds in MOMENTS:
        now = journal.look(id)
        assert now is not None
        until = now.now + timedelta(seconds=seconds)
        nap = entry(f"nap-{seconds}", Kind.SLEEP)
        fire = Fire(fence=fence, entry=replace(nap, ready_at=until))
        soon = journal.commit(fire)
        if isinstance(soon, NotYet):
            break
        assert isinstance(soon, Committed)
        assert soon.now >= until  # it was due
    else:
        pytest.fail("the machine is too slow for any sleep")
    time.sleep(seconds + 0.05)
    fired = journal.commit(fire)
    assert isinstance(fired, Committed)
    assert fired.now >= until
    suspended = journal.suspend(Suspend(fence=fence, seen=0, due=timedelta(hours=1), pending=()))
    assert suspended == Suspended(owed=True)
    owed = journal.owed(id)
    assert owed is not None
    assert timedelta(minutes=59) < owed.delay <= timedelta(hours=1)
    journal.mark("sweep")
    marked = journal.marked_at("sweep")
    assert marked is not None
    assert abs(marked - timezone.now()) < timedelta(seconds=5)
    assert list(journal.find_owed(older_than=timedelta(hours=1), limit=5)) == []
    assert list(journal.find_owed(older_than=timedelta(0), limit=5)) == [id]
    assert list(journal.nudge(overdue=timedelta(0), limit=5)) == []


def test_of_two_sweepers_one_wins_even_if_the_other_has_published_already(orm: OrmBench) -> None:
    id = orm.start()
    orm.journal.published(id, 1)
    orm.pass_time(hours=2)
    other = OrmJournal(orm.alias, orm.now)
    won: list[list[uuid.UUID]] = []

    def overtake(point: str) -> None:
        if point == "nudge:before":
            won.append(list(other.nudge(overdue=SECOND, limit=9)))
            other.published(id, 2)

    late = OrmJournal(orm.alias, orm.now, overtake)
    assert list(late.nudge(overdue=SECOND, limit=9)) == []
    assert won == [[id]]
    assert (orm.run(id).wake_n, orm.run(id).nudges, orm.run(id).owed_at) == (2, 1, None)
