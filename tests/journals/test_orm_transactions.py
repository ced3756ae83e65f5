"""The ORM journal and transactions: the caller's, a test's, and those that the database undoes."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError, connections, transaction
from django.db.backends.sqlite3.base import DatabaseWrapper

from django_hookflow.core.entries import Kind, RunStatus
from django_hookflow.core.transitions import (
    Atomic,
    Cancel,
    Cancelled,
    Claim,
    Conflict,
    Fenced,
    Finish,
    Finished,
    JournalUnavailable,
    Over,
    Record,
    SendEvent,
    Signalled,
    Suspend,
    Suspended,
    Trigger,
    Triggered,
)
from django_hookflow.exceptions import WorkflowDefinitionError
from django_hookflow.journals import orm_transactions
from django_hookflow.journals.orm import OrmJournal
from django_hookflow.journals.orm_rows import runs
from django_hookflow.journals.orm_transactions import RolledBack, _attempted
from tests.app.models import Effect
from tests.journals.bench import LEASE, SECOND, OrmBench, entry, outcome
from tests.journals.servers import end_connection

real = pytest.mark.django_db(databases="__all__", transaction=True)
in_testcase = pytest.mark.django_db(databases="__all__")


class Stop(Exception):
    pass


@contextmanager
def rolled_back(alias: str) -> Iterator[None]:
    """A transaction of the caller's that fails in the end."""
    try:
        with transaction.atomic(using=alias):
            yield
            raise Stop
    except Stop:
        pass


def trigger_of(run_id: str, **facts: Any) -> Trigger:
    values = {"workflow_id": "w", "version": "", "seed": 1, "data": "1", **facts}
    return Trigger(id=uuid.uuid4(), run_id=run_id, **values)


# --- the caller's transaction


@real
def test_trigger_is_rolled_back_with_the_callers_transaction(orm: OrmBench) -> None:
    with rolled_back(orm.alias):
        assert orm.journal.in_transaction()
        id = orm.start()
        assert orm.journal.look(id) is not None
    assert runs(orm.alias).count() == 0
    assert not orm.journal.in_transaction()


@real
def test_trigger_is_rolled_back_with_a_savepoint(orm: OrmBench) -> None:
    with transaction.atomic(using=orm.alias):
        kept = orm.start()
        with rolled_back(orm.alias):
            orm.start()
    assert list(runs(orm.alias).values_list("pk", flat=True)) == [kept]


@real
def test_conflict_leaves_the_callers_transaction_usable(orm: OrmBench) -> None:
    first = trigger_of("order-1")
    orm.journal.trigger(first)
    with transaction.atomic(using=orm.alias):
        Effect.objects.using(orm.alias).create(step="before")
        assert orm.journal.trigger(trigger_of("order-1", data="2")) == Conflict(workflow_id="w")
        again = orm.journal.trigger(trigger_of("order-1"))
        assert again == Triggered(id=first.id, created=False)
        Effect.objects.using(orm.alias).create(step="after")
    assert list(Effect.objects.using(orm.alias).values_list("step", flat=True)) == [
        "before",
        "after",
    ]
    assert runs(orm.alias).count() == 1


@real
def test_on_commit_waits_for_the_callers_commit(orm: OrmBench) -> None:
    calls: list[int] = []

    def fail() -> None:
        raise Stop

    with transaction.atomic(using=orm.alias):
        orm.journal.on_commit(fail)  # robust: the later ones are called all the same
        orm.journal.on_commit(lambda: calls.append(1))
        assert calls == []
    assert calls == [1]
    with rolled_back(orm.alias):
        orm.journal.on_commit(lambda: calls.append(2))
    assert calls == [1]


@real
def test_event_in_a_transaction_signals_after_the_commit(orm: OrmBench) -> None:
    id = orm.suspended("event:paid")
    with transaction.atomic(using=orm.alias):
        assert orm.send(id, "1") == Signalled(owed=True)
        orm.send(id, "2", dedup_id="k")
        orm.send(id, "3", dedup_id="k")
        assert orm.run(id).signals == 0
        assert [m.seen for m in orm.mail(id)] == [False, False]
    assert [(m.payload, m.seen) for m in orm.mail(id)] == [("1", True), ("2", True)]
    run = orm.run(id)
    assert (run.signals, run.wake_n, run.owed_at) == (3, 2, orm.time)


@real
def test_event_of_a_rolled_back_transaction_was_never_sent(orm: OrmBench) -> None:
    id = orm.suspended("event:paid")
    before = orm.everything(id)
    with rolled_back(orm.alias):
        orm.send(id, "1")
    assert orm.everything(id) == before


@real
def test_event_for_a_finished_run_is_refused_inside_a_transaction(orm: OrmBench) -> None:
    id = orm.start()
    orm.journal.cancel(Cancel(id=id))
    with transaction.atomic(using=orm.alias):
        assert orm.send(id, "1") == Over(status=RunStatus.CANCELLED)
        assert orm.send(uuid.uuid4(), "1") == Over(status=None)
    assert orm.mail(id) == []


@real
def test_cancel_is_rolled_back_with_the_callers_transaction(orm: OrmBench) -> None:
    id = orm.start()
    before = orm.everything(id)
    with rolled_back(orm.alias):
        assert orm.journal.cancel(Cancel(id=id)) == Cancelled()
    assert orm.everything(id) == before


@real
def test_a_holders_transition_refuses_the_callers_transaction(orm: OrmBench) -> None:
    id = orm.start()
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic(using=orm.alias):
        orm.claim(id)
    assert orm.run(id).epoch == 0


# --- an atomic step


def atomic_of(fence: Any, work: Callable[[], str], step: str = "a") -> Atomic:
    return Atomic(fence=fence, entry=entry(step, Kind.ATOMIC, attempt=1), work=work)


def effects(alias: str) -> list[str]:
    return list(Effect.objects.using(alias).values_list("step", flat=True))


@real
def test_what_a_failed_atomic_step_wrote_is_gone(orm: OrmBench) -> None:
    id, fence = orm.held()

    def work() -> str:
        Effect.objects.using(orm.alias).create(step="a")
        raise Stop

    with pytest.raises(Stop):
        orm.journal.commit(atomic_of(fence, work))
    assert effects(orm.alias) == []
    assert orm.steps(id) == ()


@real
def test_atomic_step_of_a_fenced_holder_leaves_no_effect(orm: OrmBench) -> None:
    id, fence = orm.held()
    runs(orm.alias).filter(pk=id).update(epoch=99)  # replaced while the step was running

    def work() -> str:
        Effect.objects.using(orm.alias).create(step="a")
        return "1"

    with pytest.raises(Fenced):
        orm.journal.commit(atomic_of(fence, work))
    assert effects(orm.alias) == []
    assert orm.run(id).epoch == 99


@real
def test_atomic_step_that_takes_its_own_run_away_leaves_no_effect_and_fails(orm: OrmBench) -> None:
    id, fence = orm.held()

    def work() -> str:
        Effect.objects.using(orm.alias).create(step="a")
        runs(orm.alias).filter(pk=id).update(epoch=99)  # what a cancel of one's own run does
        return "1"

    with pytest.raises(WorkflowDefinitionError, match="its own run"):
        orm.journal.commit(atomic_of(fence, work))
    assert effects(orm.alias) == []
    assert orm.run(id).epoch == fence.epoch


def database_error(code: str) -> Exception:
    """As a driver raises it, with PostgreSQL's, SQLite's and MariaDB's codes, all three."""
    codes = {"sqlstate": code, "sqlite_errorcode": 5}
    cause = type("DriverError", (Exception,), codes)(1213, "locked")
    error = OperationalError("try again")
    error.__cause__ = cause
    return error


@real
def test_atomic_step_is_repeated_whole_when_the_database_says_again(orm: OrmBench) -> None:
    _id, fence = orm.held()
    calls: list[int] = []

    def work() -> str:
        calls.append(1)
        Effect.objects.using(orm.alias).create(step="a")
        if len(calls) < 3:
            raise database_error("40P01")
        return "1"

    assert orm.journal.commit(atomic_of(fence, work)).entry.seq == 1
    assert len(calls) == 3
    assert effects(orm.alias) == ["a"]


@real
def test_repeating_ends(orm: OrmBench, monkeypatch: pytest.MonkeyPatch) -> None:

    pauses: list[float] = []
    monkeypatch.setattr(orm_transactions.time, "sleep", pauses.append)
    id, fence = orm.held()
    raised: list[Exception] = []

    def work() -> str:
        raised.append(database_error("40001"))
        raise raised[-1]

    with pytest.raises(JournalUnavailable) as unavailable:
        orm.journal.commit(atomic_of(fence, work))
    assert len(raised) == 9
    assert unavailable.value.__cause__ is raised[-1]
    assert len(pauses) == 8
    assert all(0 < pause < 3 for pause in pauses)
    assert orm.steps(id) == ()


@real
def test_other_database_errors_of_the_work_are_its_own(orm: OrmBench) -> None:
    _id, fence = orm.held()
    error = OperationalError("no such thing")
    error.__cause__ = type("DriverError", (Exception,), {"sqlstate": "42000"})()
    calls: list[int] = []

    def work() -> str:
        calls.append(1)
        raise error

    with pytest.raises(OperationalError) as raised:
        orm.journal.commit(atomic_of(fence, work))
    assert raised.value is error
    assert len(calls) == 1


@real
def test_work_that_swallows_a_broken_transaction_does_not_commit(orm: OrmBench) -> None:
    id, fence = orm.held()

    def work() -> str:
        Effect.objects.using(orm.alias).create(step="a")
        try:
            with transaction.atomic(using=orm.alias, savepoint=False):
                raise Stop
        except Stop:
            return "1"

    with pytest.raises(transaction.TransactionManagementError):
        orm.journal.commit(atomic_of(fence, work))
    assert effects(orm.alias) == []
    assert orm.steps(id) == ()


@real
def test_hook_that_fails_after_the_commit_does_not_unmake_it(orm: OrmBench) -> None:
    id, fence = orm.held()

    def work() -> str:
        def hook() -> None:
            raise Stop

        transaction.on_commit(hook, using=orm.alias)
        return "1"

    committed = orm.journal.commit(atomic_of(fence, work))
    assert orm.steps(id) == (committed.entry,)


# --- a COMMIT whose answer was lost


def lose_answers(alias: str, monkeypatch: pytest.MonkeyPatch, *, committed: bool) -> list[int]:
    """The next COMMIT happens, or not, and then the server ends the connection."""
    connection = connections[alias]
    if connection.vendor == "sqlite":
        pytest.skip("no connection to lose")
    real_commit = connection._commit
    lost: list[int] = []

    def commit() -> None:
        if lost:
            return real_commit()
        lost.append(1)
        if committed:
            real_commit()
        end_connection(alias)
        # What the driver raises does not depend on what is said to a server that hung up;
        # without a transaction some send no COMMIT at all.
        connection.cursor().execute("SELECT 1")
        raise AssertionError("the connection is still there")

    monkeypatch.setattr(connection, "_commit", commit)
    return lost


@real
@pytest.mark.parametrize("committed", [True, False])
def test_atomic_step_with_an_unknown_commit_takes_effect_once(
    orm: OrmBench, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    id, fence = orm.held()
    calls: list[int] = []

    def work() -> str:
        calls.append(1)
        Effect.objects.using(orm.alias).create(step="a")
        return "1"

    lost = lose_answers(orm.alias, monkeypatch, committed=committed)
    answer = orm.journal.commit(atomic_of(fence, work))
    assert lost == [1]
    assert len(calls) == (1 if committed else 2)
    assert effects(orm.alias) == ["a"]
    assert orm.steps(id) == (answer.entry,)
    assert (answer.entry.seq, answer.now) == (1, orm.time)


@real
@pytest.mark.parametrize("committed", [True, False])
def test_other_transitions_with_an_unknown_commit(
    orm: OrmBench, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    def unknown(call: Callable[[], Any]) -> Any:
        with monkeypatch.context() as patch:
            lost = lose_answers(orm.alias, patch, committed=committed)
            answer = call()
            assert lost == [1]
            return answer

    trigger = trigger_of("order")
    journal = orm.journal
    assert unknown(lambda: journal.trigger(trigger)) == Triggered(id=trigger.id, created=True)
    id, fence = orm.held()
    record = Record(fence=fence, entry=outcome("a"))
    assert unknown(lambda: journal.commit(record)).entry.seq == 1
    assert len(orm.steps(id)) == orm.run(id).seq == 1
    event = SendEvent(id=id, name="x", payload="1")
    assert isinstance(unknown(lambda: journal.send_event(event)), Signalled)
    assert len(orm.mail(id)) == 1
    seen = orm.run(id).signals
    suspend = Suspend(fence=fence, seen=seen, due=SECOND)
    assert unknown(lambda: journal.suspend(suspend)) == Suspended(owed=True)
    assert orm.run(id).wake_n == 2
    id, fence = orm.held()
    finish = Finish(fence=fence, status=RunStatus.COMPLETED, result="1")
    assert unknown(lambda: journal.finish(finish)) == Finished()
    id = orm.start()
    claimed = unknown(lambda: journal.claim(Claim(id=id, wake=1, lease=LEASE)))
    assert (claimed.run.epoch, orm.run(id).epoch, orm.run(id).deaths) == (1, 1, 0)
    id = orm.start()
    assert unknown(lambda: journal.cancel(Cancel(id=id))) == Cancelled()


@pytest.mark.parametrize("ends", [RolledBack("not yet"), Fenced(), None])
def test_a_commit_that_comes_through_after_the_first_look_is_found_by_the_second(
    ends: BaseException | None,
) -> None:
    looks = [None, "written"]

    def once() -> Any:
        if ends is not None:
            raise ends

    assert _attempted(once, lambda: looks.pop(0)) == "written"
    if isinstance(ends, RolledBack):
        assert _attempted(once, None) == "not yet"
        assert _attempted(once, lambda: None) == "not yet"


# --- a test's transaction


@in_testcase
def test_transaction_of_a_testcase_is_not_the_callers(orm: OrmBench) -> None:
    journal = orm.journal
    assert journal.pinned() is True
    assert journal.in_transaction() is False
    calls: list[int] = []
    journal.on_commit(lambda: calls.append(1))
    assert calls == []  # as Django has it: a TestCase never commits, nothing leaves it
    with transaction.atomic(using=orm.alias):
        assert journal.in_transaction() is True
        journal.on_commit(lambda: calls.append(2))
    assert calls == []
    journal.close_thread()
    assert connections[orm.alias].connection is not None
    assert orm.claim(orm.start()).run.epoch == 1


@real
def test_thread_with_its_own_connections(orm: OrmBench) -> None:
    journal = orm.journal
    assert journal.pinned() is False
    closed: list[Any] = []

    def body() -> None:
        journal.look(uuid.uuid4())
        closed.append(connections[orm.alias].connection)
        journal.close_thread()
        closed.append(connections[orm.alias].connection)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert closed[0] is not None
    assert closed[1] is None


def test_database_in_memory_pins() -> None:

    for name, pins in ((":memory:", True), ("file:x?mode=memory&cache=shared", True), ("a", False)):
        settings = {**connections["default"].settings_dict, "NAME": name}
        before = connections["default"]
        connections["default"] = DatabaseWrapper(settings, "default")
        try:
            assert OrmJournal("default").pinned() is pins
        finally:
            connections["default"] = before


@real
def test_alias_may_be_a_function(orm: OrmBench) -> None:
    journal = OrmJournal(lambda: orm.alias, orm.now)
    id = orm.start()
    assert isinstance(journal.claim(Claim(id=id, wake=1, lease=LEASE)).run.epoch, int)
    assert orm.run(id).epoch == 1


@real
def test_unreachable_database_is_said_so(orm: OrmBench, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = connections[orm.alias]

    def refuse() -> None:
        raise InterfaceError("connection already closed")

    connection.close()
    monkeypatch.setattr(connection, "connect", refuse)
    with pytest.raises(JournalUnavailable) as raised:
        orm.journal.look(uuid.uuid4())
    assert isinstance(raised.value.__cause__, orm.journal.infrastructure_errors)
    with pytest.raises(JournalUnavailable):
        orm.journal.mark("x")
