"""Identities are compared exactly and texts survive whole, on every journal alike.

MariaDB's and MySQL's defaults take case, accents and spaces at the end for nothing, and the
database of these tests is latin1 there.
"""

import re
import uuid
from dataclasses import replace
from typing import Any

import pytest
from django.db import connections

from django_hookflow.core.entries import ErrorRecord, Kind, RunStatus, StepStatus
from django_hookflow.core.transitions import (
    Attempted,
    Committed,
    Conflict,
    Fence,
    Finish,
    NotYet,
    Receive,
    Record,
    Retry,
    Signal,
    Signalled,
    Suspend,
    Suspended,
    Trigger,
    Triggered,
)
from django_hookflow.journals.orm_rows import runs, steps
from django_hookflow.models import WorkflowRun, WorkflowTag
from tests.journals.bench import LEASE, SECOND, START, Bench, OrmBench, entry, outcome, sleep
from tests.journals.test_commit import LATE

pytestmark = pytest.mark.django_db(databases="__all__")

PAIRS = {
    "case": ("Charge", "charge"),
    "accent": ("pâté", "pate"),
    "space at the end": ("charge", "charge "),
    "composed": ("caf\u00e9", "cafe\u0301"),
    "sharp s": ("straße", "strasse"),
    "beyond the basic plane": ("\U0001f600", "\U0001f601"),
}
nearly = pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS)


@nearly
def test_steps(bench: Bench, one: str, other: str) -> None:
    id, fence = bench.held()
    bench.record(fence, one)
    attempt = Attempted(fence=fence, entry=entry(other, attempt=1), retry_in=SECOND)
    assert isinstance(bench.journal.commit(attempt), Committed)
    stored = {e.key: (e.step_id, e.status, e.value) for e in bench.steps(id)}
    assert stored == {
        f"{one}#1": (one, StepStatus.COMPLETED, f'"{one}"'),
        f"{other}#1": (other, StepStatus.PENDING, None),
    }
    bench.record(fence, other)  # the pending row, not the other's
    bench.pass_time(seconds=61)
    assert [(e.key, e.seq) for e in bench.claim(id).entries] == [(f"{one}#1", 1), (f"{other}#1", 2)]


@nearly
def test_sleeps_that_fire_at_a_claim(bench: Bench, one: str, other: str) -> None:
    id, fence = bench.held()
    pending = (sleep(one, START + 2 * SECOND), sleep(other, START + SECOND))
    suspend = Suspend(fence=fence, seen=0, due=SECOND, pending=pending)
    assert isinstance(bench.journal.suspend(suspend), Suspended)
    bench.pass_time(seconds=9)
    assert {e.step_id: e.seq for e in bench.claim(id).entries} == {one: 2, other: 1}
    assert {e.step_id: e.seq for e in bench.steps(id)} == {one: 2, other: 1}


@nearly
def test_steps_that_a_retry_repeats(bench: Bench, one: str, other: str) -> None:
    id, fence = bench.held()
    error = ErrorRecord(type="ValueError", message="no")
    for step in (one, other):
        bench.record(fence, step, status=StepStatus.FAILED, value=None, error=error)
    fatal = replace(error, uncaught=(f"{one}#1",))
    bench.journal.finish(Finish(fence=fence, status=RunStatus.FAILED, error=fatal))
    bench.journal.retry(Retry(id=id))
    claimed = bench.claim(id, wake=2)
    assert ([e.step_id for e in claimed.entries], claimed.series) == ([other], {f"{one}#1": 1})


@nearly
def test_names_of_events(bench: Bench, one: str, other: str) -> None:
    id, fence = bench.held()
    bench.send(id, "1", other)
    wait = Receive(fence=fence, entry=entry("w", Kind.EVENT, event=one), timeout_error=LATE)
    assert isinstance(bench.journal.commit(wait), NotYet)
    bench.send(id, "2", one)
    received = bench.journal.commit(wait)
    assert isinstance(received, Committed)
    assert (received.entry.value, received.entry.event) == ("2", one)
    assert [(m.name, m.consumed_by) for m in bench.mail(id)] == [(other, None), (one, "w#1")]


@nearly
@pytest.mark.parametrize("kind", ["event:{}", "step:{}#1"])
def test_waits(bench: Bench, kind: str, one: str, other: str) -> None:
    id = bench.suspended(kind.format(one))
    answers = [bench.journal.signal(Signal(id=id, wait=kind.format(w))) for w in (other, one)]
    assert answers == [Signalled(owed=False), Signalled(owed=True)]


@nearly
def test_unseen_events(bench: Bench, one: str, other: str) -> None:
    ids = [bench.suspended(f"event:{name}") for name in (one, other)]
    id = bench.suspended("event:x")
    for name in (one, other):
        bench.add_unseen_event(id, name)
        for waiting in ids:
            bench.add_unseen_event(waiting, name)
    bench.journal.signal_unseen(limit=50)
    assert all(mail.seen for run in (id, *ids) for mail in bench.mail(run))
    # Each was looked at for itself: nobody was told of another's name.
    assert [bench.run(run).signals for run in (id, *ids)] == [4, 4, 4]


@nearly
def test_dedup_ids(bench: Bench, one: str, other: str) -> None:
    id = bench.start()
    for payload, dedup_id in (("1", one), ("2", other), ("3", one)):
        bench.send(id, payload, dedup_id=dedup_id)
    assert [(m.payload, m.dedup_id) for m in bench.mail(id)] == [("1", one), ("2", other)]


@nearly
def test_workflow_ids(bench: Bench, one: str, other: str) -> None:
    bench.start("order-1", workflow_id=one)
    facts: dict[str, Any] = {"version": "", "seed": 7, "data": '{"n":1}', "run_id": "order-1"}
    again = Trigger(id=uuid.uuid4(), workflow_id=one, **facts)
    assert isinstance(bench.journal.trigger(again), Triggered)
    another = Trigger(id=uuid.uuid4(), workflow_id=other, **facts)
    assert bench.journal.trigger(another) == Conflict(workflow_id=one)


def test_run_ids(bench: Bench) -> None:
    ids = {name: bench.start(name) for name in ("Order", "order", "ORDER", "order.1", "order-1")}
    assert {name: bench.run(id).run_id for name, id in ids.items()} == {name: name for name in ids}


@nearly
def test_marks(bench: Bench, one: str, other: str) -> None:
    bench.journal.mark(one)
    assert (bench.journal.marked_at(one), bench.journal.marked_at(other)) == (START, None)
    bench.pass_time(seconds=1)
    bench.journal.mark(other)
    assert bench.journal.marked_at(one) == START


@nearly
def test_what_users_filter_by(orm: OrmBench, one: str, other: str) -> None:
    ids = [orm.start(workflow_id=name, version=name) for name in (one, other)]
    rows = WorkflowRun.objects.using(orm.alias)
    assert list(rows.filter(workflow_id=one).values_list("pk", flat=True)) == ids[:1]
    assert rows.filter(version__in=[other]).get().pk == ids[1]
    for id, name in zip(ids, (one, other), strict=True):
        WorkflowTag.objects.using(orm.alias).create(workflow_run_id=id, key=name, value=name)
    tags = WorkflowTag.objects.using(orm.alias)
    assert (tags.filter(key=one).count(), tags.filter(value=other).count()) == (1, 1)


# --- texts

TEXT = 'ünï \\ "\u20ac" \U0001f980 \u0623 \n\t\x7f '


def test_every_character_survives(bench: Bench) -> None:
    id = bench.start(data=f'"{TEXT}"', version=TEXT, workflow_id=TEXT)
    claimed = bench.claim(id)
    assert (claimed.run.data, claimed.run.version) == (f'"{TEXT}"', TEXT)
    fence = Fence(id=id, epoch=claimed.run.epoch, lease=LEASE)
    error = ErrorRecord(type="Oops", message=TEXT, step=TEXT)
    facts = {"status": StepStatus.FAILED, "call": TEXT, "undo": TEXT, "event": TEXT}
    failed = outcome(TEXT, value=TEXT, error=error, **facts)
    assert isinstance(bench.journal.commit(Record(fence=fence, entry=failed)), Committed)
    bench.send(id, TEXT, TEXT, dedup_id=TEXT)
    suspend = Suspend(fence=fence, seen=1, due=None, waits=(TEXT,), blocked=TEXT)
    assert isinstance(bench.journal.suspend(suspend), Suspended)
    run, (step,), (mail,) = bench.everything(id)
    assert (run.workflow_id, run.blocked, run.data) == (TEXT, TEXT, f'"{TEXT}"')
    assert (step.key, step.step_id, step.call) == (f"{TEXT}#1", TEXT, TEXT)
    assert (step.value, step.undo, step.event, step.error) == (TEXT, TEXT, TEXT, error)
    assert (mail.name, mail.payload, mail.dedup_id) == (TEXT, TEXT, TEXT)
    assert bench.journal.signal(Signal(id=id, wait=TEXT)).owed


def test_error_of_a_run_survives(bench: Bench) -> None:
    id, fence = bench.held()
    error = ErrorRecord(type="Oops", message=TEXT, step=TEXT)
    bench.journal.finish(Finish(fence=fence, status=RunStatus.FAILED, error=error))
    assert bench.run(id).error == error


# --- the columns

#: Names that the library itself gives, of ASCII: as the database has it.
OUR_OWN = {"status", "kind", "args_sha"}


def mysql_columns(alias: str) -> list[tuple[str, str, str, str]]:
    connection = connections[alias]
    if connection.vendor != "mysql":
        pytest.skip("a database that compares exactly by itself")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name, column_name, column_type, collation_name"
            " FROM information_schema.columns WHERE table_schema = DATABASE()"
            " AND table_name LIKE 'django_hookflow_%' AND collation_name IS NOT NULL"
        )
        return list(cursor.fetchall())


def test_no_column_depends_on_the_databases_default(alias: str) -> None:
    columns = mysql_columns(alias)
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT @@character_set_database")
        assert cursor.fetchone() == ("latin1",), "the default would have hidden it"
    text = [c for c in columns if not c[2].startswith("char(") and c[1] not in OUR_OWN]
    assert len(text) > 15
    exact = re.compile(r"utf8mb4_(nopad_bin|0900_bin)")
    assert [column for column in text if not exact.fullmatch(column[3])] == []


def test_ids_have_the_same_column_whatever_the_version_of_django(alias: str) -> None:
    """Django 4.2 keeps them in char(32) on MariaDB, 5.0 would in another type."""
    ids = [(c[0], c[1]) for c in mysql_columns(alias) if c[2] == "char(32)"]
    assert ("django_hookflow_workflowrun", "id") in ids
    assert {c for _, c in ids} == {"id", "parent_id", "workflow_run_id", "child"}
    assert len(ids) == 6
    bench = OrmBench(alias)
    id = bench.start()
    assert runs(alias).filter(pk=str(id)).get().pk == id
    assert steps(alias).filter(workflow_run_id=id).count() == 0
