"""What real servers do to a transaction: they undo it, let it wait too long, hang up.

And how servers differ: isolation, time zones, what an INSERT returns.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.db import DataError, connections, transaction
from django.utils import timezone

from django_hookflow.core.entries import Kind
from django_hookflow.core.transitions import (
    Atomic,
    Beat,
    Claim,
    Committed,
    Fence,
    JournalUnavailable,
    NotClaimed,
    Receive,
    Record,
    SendEvent,
    Trigger,
)
from django_hookflow.exceptions import ConfigurationError
from django_hookflow.journals.orm import OrmJournal
from django_hookflow.journals.orm_rows import events, runs
from tests.app.models import Effect
from tests.journals.bench import LEASE, OrmBench, entry, outcome
from tests.journals.servers import (
    another_connection,
    connected_with,
    end_connection,
    isolation_levels,
)
from tests.journals.test_commit import LATE
from tests.journals.test_orm_races import in_threads, real_clock_decides

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


#: SQLite has one writer at a time, and no connection to lose.
SERVERS = [a for a, db in settings.DATABASES.items() if not db["ENGINE"].endswith("sqlite3")]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    """An alias of a server, where several write at once."""
    return request.param


def atomic_of(fence: Fence, work: Callable[[], Any], step: str = "a") -> Atomic:
    def value() -> str:
        work()
        return "1"

    return Atomic(fence=fence, entry=entry(step, Kind.ATOMIC, attempt=1), work=value)


def effects(alias: str) -> list[str]:
    return sorted(Effect.objects.using(alias).values_list("step", flat=True))


# --- undone by the server


def test_deadlocked_atomic_steps_are_both_repeated_until_both_are_done(server: str) -> None:
    bench = OrmBench(server)
    fences = [bench.held()[1] for _ in range(2)]
    rows = [Effect.objects.using(server).create(step=f"row {n}").pk for n in range(2)]
    meet = threading.Barrier(2)
    attempts: list[int] = []

    def act(number: int) -> None:
        def work() -> None:
            attempts.append(number)
            for turn, row in enumerate((rows[number], rows[1 - number])):
                if turn == 1 and attempts.count(number) == 1:
                    meet.wait(30)
                Effect.objects.using(server).filter(pk=row).update(note="seen")
            Effect.objects.using(server).create(step=f"effect {number}")

        bench.journal.commit(atomic_of(fences[number], work))

    in_threads(2, act)
    assert len(attempts) > 2, "nobody was undone: the test proves nothing"
    assert effects(server) == ["effect 0", "effect 1", "row 0", "row 1"]
    assert [bench.run(fence.id).seq for fence in fences] == [1, 1]


SHORT_LOCK_WAIT = {
    "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
    "postgresql": "SET lock_timeout = '300ms'",
}


@contextmanager
def row_locked(alias: str, fence: Fence) -> Iterator[threading.Event]:
    """Another transaction holds the run's row until the event is set."""
    locked, enough = threading.Event(), threading.Event()

    def hold(number: int) -> None:
        with transaction.atomic(using=alias):
            runs(alias).filter(pk=fence.id).update(nudges=3)
            locked.set()
            enough.wait(30)

    thread = threading.Thread(target=in_threads, args=(1, hold))
    thread.start()
    assert locked.wait(30)
    try:
        yield enough
    finally:
        enough.set()
        thread.join()


def test_what_waits_too_long_for_a_lock_is_repeated_whole(server: str) -> None:
    """MySQL undoes the statement only: what the transaction did before it has to go too."""
    bench = OrmBench(server)
    _id, fence = bench.held()
    attempts: list[int] = []

    def work() -> None:
        attempts.append(1)
        if len(attempts) > 1:  # the first one has waited for too long
            enough.set()
        Effect.objects.using(server).create(step="effect")

    with connections[server].cursor() as cursor:
        cursor.execute(SHORT_LOCK_WAIT[connections[server].vendor])
    try:
        with row_locked(server, fence) as enough:
            bench.journal.commit(atomic_of(fence, work))
    finally:
        connections[server].close()
    assert len(attempts) > 1, "it did not wait too long: the test proves nothing"
    assert effects(server) == ["effect"]
    assert bench.run(fence.id).seq == 1


def read_while_the_lease_is_renewed(
    alias: str, step: str, attempts: list[int], renew: Callable[[], Any]
) -> None:
    attempts.append(1)
    runs(alias).count()  # takes the snapshot, if there is one
    Effect.objects.using(alias).create(step=step)
    if len(attempts) == 1:
        in_threads(1, lambda _: renew())


def test_a_row_that_moved_under_a_snapshot_is_taken_as_it_is_now(server: str) -> None:
    """A lease is renewed while an atomic step reads: at READ COMMITTED that is nothing."""
    for name, options in isolation_levels(server).items():
        with connected_with(server, **options):
            bench = OrmBench(server)
            id, fence = bench.held()
            attempts: list[int] = []

            beat = Beat(held={fence.id: fence.epoch}, lease=2 * LEASE)
            renew = partial(bench.journal.beat, beat)
            work = partial(read_while_the_lease_is_renewed, server, name, attempts, renew)
            committed = bench.journal.commit(atomic_of(fence, work))
            assert isinstance(committed, Committed)
            assert (bench.run(id).seq, bench.run(id).lease_until) == (1, bench.time + LEASE)
            # PostgreSQL (40001) and MariaDB 11.6's default (1020) undo it.
            undone = name == "snapshot isolation" or (
                name == "repeatable read" and connections[server].vendor == "postgresql"
            )
            assert (name, len(attempts)) == (name, 2 if undone else 1)
    assert effects(server) == sorted(isolation_levels(server))


# --- the server hangs up


def test_a_connection_that_ends_between_two_statements_leaves_nothing_half(server: str) -> None:
    bench = OrmBench(server)
    id, fence = bench.held()
    attempts: list[int] = []

    def work() -> None:
        attempts.append(1)
        Effect.objects.using(server).create(step="effect")
        if len(attempts) == 1:
            end_connection(server)

    committed = bench.journal.commit(atomic_of(fence, work))
    assert isinstance(committed, Committed)
    assert (len(attempts), effects(server)) == (2, ["effect"])
    assert bench.steps(id) == (committed.entry,)
    assert (bench.run(id).seq, committed.entry.seq) == (1, 1)


def test_a_connection_that_ended_while_idle_is_replaced(server: str) -> None:
    bench = OrmBench(server)
    id, fence = bench.held()
    calls: tuple[Callable[[], Any], ...] = (
        lambda: bench.journal.look(id),
        lambda: bench.journal.commit(Record(fence=fence, entry=outcome("a"))),
        lambda: bench.journal.send_event(SendEvent(id=id, name="x", payload="1")),
        lambda: bench.journal.owed(id),
        lambda: bench.journal.mark("m"),
    )
    for call in calls:
        end_connection(server)
        call()
    assert len(bench.steps(id)) == len(bench.mail(id)) == bench.run(id).seq == 1


def test_an_error_in_the_callers_transaction_is_the_callers(server: str) -> None:
    """Repeating would lose what the caller wrote before."""
    bench = OrmBench(server)
    facts: dict[str, Any] = {"workflow_id": "w", "version": "", "seed": 1, "data": "1"}
    id = bench.start()
    trigger = Trigger(id=id, run_id="order", **facts)
    with pytest.raises(Exception) as raised, transaction.atomic(using=server):
        Effect.objects.using(server).create(step="before")
        end_connection(server)
        bench.journal.trigger(trigger)
    assert isinstance(raised.value, bench.journal.infrastructure_errors)
    assert effects(server) == []
    assert not runs(server).filter(run_id="order").exists()


def test_a_server_that_refuses_every_connection_is_said_so(server: str) -> None:
    with settings_entry(server, PORT=1), pytest.raises(JournalUnavailable):
        in_threads(1, lambda _: OrmJournal(server).marked_at("m"))


# --- what an INSERT returns


def test_an_event_is_received_once_where_an_insert_returns_no_key(orm: OrmBench) -> None:
    """MySQL's never does, SQLite's only since 3.35."""
    features = connections[orm.alias].features
    if connections[orm.alias].vendor == "postgresql":
        pytest.skip("PostgreSQL always returns them")
    before = vars(features).copy()
    # Django 6.1 knows the second by itself; before that it follows from the first.
    for name in ("can_return_columns_from_insert", "can_return_rows_from_bulk_insert"):
        vars(features)[name] = False
    try:
        assert not features.can_return_rows_from_bulk_insert
        id, fence = orm.held()
        orm.send(id, "1")
        got = [
            orm.journal.commit(
                Receive(
                    fence=fence,
                    entry=entry(step, Kind.EVENT, event="paid", ready_at=orm.time),
                    timeout_error=LATE,
                )
            )
            for step in ("first", "second")
        ]
    finally:
        vars(features).clear()
        vars(features).update(before)
    assert [answer.entry.value for answer in got] == ["1", None]
    assert [m.consumed_by for m in orm.mail(id)] == ["first#1"]
    assert events(orm.alias).filter(consumed_by__isnull=True).count() == 0


# --- clocks and zones

INDIA = {
    "mysql": {"init_command": "SET time_zone = '+05:30'"},
    "postgresql": {"options": "-c TimeZone=Asia/Kolkata"},
}


def test_the_servers_time_zone_moves_no_timer(server: str) -> None:
    with connected_with(server, **INDIA[connections[server].vendor]):
        if connections[server].vendor == "mysql":  # Django sets PostgreSQL's itself
            with connections[server].cursor() as cursor:
                cursor.execute("SELECT @@session.time_zone")
                assert cursor.fetchone() == ("+05:30",)
        real_clock_decides(server)


@contextmanager
def settings_entry(alias: str, **changes: Any) -> Iterator[None]:
    """Connections of other threads are opened with these entries in DATABASES."""
    entry_of: dict[str, Any] = connections.settings[alias]
    before = {name: entry_of[name] for name in changes}
    entry_of.update(changes)
    try:
        yield
    finally:
        entry_of.update(before)


def test_a_time_zone_of_the_database_moves_no_timer_or_is_refused(alias: str) -> None:
    """Where a column keeps no zone, the hour that comes twice each autumn cannot be told."""
    with settings_entry(alias, TIME_ZONE="Asia/Kolkata"):
        if connections[alias].vendor == "postgresql":
            in_threads(1, lambda _: real_clock_decides(alias))
            return
        with pytest.raises(ConfigurationError, match=r"TIME_ZONE.*Asia/Kolkata"):
            in_threads(1, lambda _: OrmBench(alias).start())
    with settings_entry(alias, TIME_ZONE="UTC"):
        in_threads(1, lambda _: real_clock_decides(alias))


def test_the_databases_clock_is_read_to_the_microsecond(alias: str) -> None:
    journal = OrmJournal(alias)
    bench = OrmBench(alias)
    seen = []
    for _ in range(5):
        view = journal.look(bench.start())
        assert view is not None
        assert abs(view.now - timezone.now()) < timedelta(seconds=5)
        seen.append(view.now)
    assert seen == sorted(seen)
    assert any(now.microsecond % 1000 for now in seen)


# --- characters


def test_a_connection_that_cannot_carry_every_character_is_refused(server: str) -> None:
    """Before Django 5.2 it is MySQL's default; without strict mode emoji become "?"."""
    bench = OrmBench(server)
    if connections[server].vendor != "mysql":
        assert bench.start()
        return
    refused = pytest.raises(ConfigurationError, match=r'utf8.*"charset": "utf8mb4"')
    with connected_with(server, charset="utf8"), refused:
        bench.start()
    assert runs(server).count() == 0


@pytest.mark.parametrize("column", ["run_id", "dedup_id"])
def test_what_is_too_long_for_a_column_is_never_cut(server: str, column: str) -> None:
    """MySQL's INSERT IGNORE would cut it: two different ones would then be one."""
    bench = OrmBench(server)
    id = bench.start()
    with pytest.raises(DataError):
        if column == "run_id":
            bench.start("x" * 300)
        else:
            bench.send(id, "1", dedup_id="x" * 300)
    assert (runs(server).count(), events(server).count()) == (1, 0)


# --- autocommit


def test_nothing_is_taken_for_written_where_autocommit_is_off(alias: str) -> None:
    bench = OrmBench(alias)
    id = bench.start()

    def act(number: int) -> None:
        claim = Claim(id=id, wake=1, lease=LEASE)
        facts: dict[str, Any] = {"workflow_id": "w", "version": "", "seed": 1, "data": "1"}
        with pytest.raises(ConfigurationError, match="autocommit"):
            bench.journal.claim(claim)
        with pytest.raises(ConfigurationError, match="autocommit"):
            bench.journal.trigger(Trigger(id=id, run_id="other", **facts))

    with settings_entry(alias, AUTOCOMMIT=False):
        in_threads(1, act)
    assert bench.run(id).epoch == 0
    assert runs(alias).count() == 1
    transaction.set_autocommit(False, using=alias)
    try:
        with pytest.raises(ConfigurationError, match="autocommit"):
            bench.claim(id)
    finally:
        transaction.rollback(using=alias)
        transaction.set_autocommit(True, using=alias)
    assert bench.claim(id) != NotClaimed()


def test_options_are_what_the_other_tests_say_they_are(server: str) -> None:
    asked = {
        "mysql": "SELECT @@session.tx_isolation",
        "postgresql": "SHOW transaction_isolation",
    }
    found = {}
    for name, options in isolation_levels(server).items():
        with connected_with(server, **options), another_connection(server) as connection:
            connection.set_autocommit(False)  # PostgreSQL's is said when a transaction begins
            cursor = connection.cursor()
            cursor.execute(asked[connection.vendor])
            found[name] = cursor.fetchone()[0].lower().replace("-", " ")
    assert found.pop("snapshot isolation", "repeatable read") == "repeatable read"
    assert found == {"read committed": "read committed", "repeatable read": "repeatable read"}
