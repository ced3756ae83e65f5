"""How many statements a transition costs, and that history does not make it more."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from django_hookflow.core.entries import Kind, RunStatus
from django_hookflow.core.transitions import (
    Atomic,
    Attempted,
    Beat,
    Cancel,
    Claim,
    Fence,
    Finish,
    Fire,
    Rearm,
    Receive,
    Record,
    Release,
    Signal,
    Suspend,
)
from django_hookflow.journals.orm import OrmJournal
from tests.journals.bench import LEASE, SECOND, START, OrmBench, entry, outcome, sleep
from tests.journals.test_commit import LATE
from tests.journals.test_crash_points import TRANSITIONS, prepare

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

FRAME = ("BEGIN", "COMMIT", "ROLLBACK")


def statements(alias: str, call: Callable[[], Any]) -> list[str]:
    """The statements between BEGIN and COMMIT."""
    with CaptureQueriesContext(connections[alias]) as captured:
        call()
    found = [query["sql"] for query in captured.captured_queries]
    return [sql for sql in found if not sql.startswith(FRAME)]


def verbs(alias: str, call: Callable[[], Any]) -> str:
    return " ".join(sql.split()[0] for sql in statements(alias, call))


@pytest.fixture(params=[0, 60], ids=["no history", "60 steps of history"])
def held(request: pytest.FixtureRequest, orm: OrmBench) -> tuple[UUID, Fence]:
    id, fence = orm.held()
    for n in range(request.param):
        orm.record(fence, f"step {n}")
    return id, fence


def test_fenced_commits(orm: OrmBench, held: tuple[UUID, Fence]) -> None:
    id, fence = held
    commit = orm.journal.commit
    record = Record(fence=fence, entry=outcome("a"))
    assert verbs(orm.alias, lambda: commit(record)) == "UPDATE SELECT INSERT"
    attempt = Attempted(fence=fence, entry=entry("b", attempt=1), retry_in=SECOND)
    assert verbs(orm.alias, lambda: commit(attempt)) == "UPDATE SELECT INSERT"
    again = replace(attempt, entry=entry("b", attempt=2))
    assert verbs(orm.alias, lambda: commit(again)) == "UPDATE SELECT UPDATE"
    record = Record(fence=fence, entry=outcome("b", attempt=3))
    assert verbs(orm.alias, lambda: commit(record)) == "UPDATE SELECT UPDATE"
    atomic = Atomic(fence=fence, entry=outcome("c", Kind.ATOMIC), work=lambda: "1")
    assert verbs(orm.alias, lambda: commit(atomic)) == "UPDATE SELECT INSERT"
    fire = Fire(fence=fence, entry=sleep("d", START))
    assert verbs(orm.alias, lambda: commit(fire)) == "UPDATE SELECT INSERT"
    wait = entry("e", Kind.EVENT, event="paid")
    receive = Receive(fence=fence, entry=wait, timeout_error=LATE)
    assert verbs(orm.alias, lambda: commit(receive)) == "UPDATE SELECT SELECT"
    orm.send(id, "1")
    sql = "UPDATE SELECT SELECT INSERT UPDATE"
    assert verbs(orm.alias, lambda: commit(receive)) == sql


def test_look_and_claim(orm: OrmBench, held: tuple[UUID, Fence]) -> None:
    id, fence = held
    look = orm.journal.look
    assert verbs(orm.alias, lambda: look(id)) == "SELECT"
    claim = Claim(id=id, wake=1, lease=LEASE)
    assert verbs(orm.alias, lambda: orm.journal.claim(claim)) == "UPDATE UPDATE"  # leased
    orm.pass_time(seconds=61)
    dead = verbs(orm.alias, lambda: orm.journal.claim(claim))
    assert dead == "UPDATE UPDATE SELECT SELECT"
    fence = replace(fence, epoch=2)
    pending = tuple(sleep(f"nap {n}", orm.time) for n in range(7))
    orm.journal.suspend(Suspend(fence=fence, seen=0, due=orm.time, pending=pending))
    fires = verbs(orm.alias, lambda: orm.journal.claim(claim))
    assert fires == "UPDATE SELECT SELECT UPDATE UPDATE"
    orm.journal.suspend(Suspend(fence=replace(fence, epoch=3), seen=0, due=orm.time))
    assert verbs(orm.alias, lambda: orm.journal.claim(claim)) == "UPDATE SELECT SELECT"


def test_ends(orm: OrmBench) -> None:
    def cost(end: Any) -> str:
        _, fence = orm.held()
        apply = getattr(orm.journal, type(end).__name__.lower())
        return verbs(orm.alias, lambda: apply(replace(end, fence=fence)))

    nobody: Any = None
    assert cost(Suspend(fence=nobody, seen=0, due=SECOND)) == "UPDATE"
    assert cost(Suspend(fence=nobody, seen=0, due=None)) == "UPDATE SELECT"
    pending = tuple(sleep(f"nap {n}", START) for n in range(5))
    writes = cost(Suspend(fence=nobody, seen=0, due=SECOND, pending=pending))
    assert writes == "UPDATE SELECT INSERT"
    assert cost(Release(fence=nobody)) == "UPDATE"
    assert cost(Finish(fence=nobody, status=RunStatus.COMPLETED, result="1")) == "UPDATE"
    parent = orm.start()
    child = Finish(fence=nobody, status=RunStatus.COMPLETED, parent=parent)
    assert cost(child) == "UPDATE UPDATE"


def test_from_outside(orm: OrmBench) -> None:
    alias, journal = orm.alias, orm.journal
    assert verbs(alias, orm.start) == "INSERT"
    assert verbs(alias, lambda: orm.start(run_id="mine")) == "INSERT SELECT"
    id = orm.suspended("event:paid")
    assert verbs(alias, lambda: orm.send(id, "1")) == "UPDATE INSERT SELECT"
    cost = verbs(alias, lambda: orm.send(id, "1", dedup_id="k"))
    assert cost == "UPDATE SELECT INSERT SELECT"
    signal = Signal(id=id, wait="step:x#1")
    assert verbs(alias, lambda: journal.signal(signal)) == "UPDATE SELECT"
    assert verbs(alias, lambda: journal.owed(id)) == "SELECT"
    assert verbs(alias, lambda: journal.published(id, 1)) == "UPDATE"
    assert verbs(alias, lambda: journal.rearm(Rearm(id=id, wake=1))) == "UPDATE"
    assert verbs(alias, lambda: journal.cancel(Cancel(id=id))) == "SELECT UPDATE SELECT UPDATE"
    assert verbs(alias, lambda: journal.find_owed(older_than=SECOND, limit=9)) == "SELECT"
    assert verbs(alias, lambda: journal.nudge(overdue=SECOND, limit=9)) == "SELECT"


def test_one_beat_renews_all_leases_with_one_statement(orm: OrmBench) -> None:
    fences = [orm.held()[1] for _ in range(20)]
    held = {fence.id: fence.epoch for fence in fences}
    assert verbs(orm.alias, lambda: orm.journal.beat(Beat(held=held, lease=LEASE))) == "UPDATE"


def assignments(sql: str) -> list[tuple[str, str]]:
    """Of an UPDATE: each column and the text that is assigned to it, in order."""
    quote = "`" if "`" in sql else '"'
    sql = re.sub(r"'(?:[^'\\]|\\.|'')*'", "''", sql)  # a text may hold anything
    _, _, rest = sql.partition(" SET ")
    listed, depth, part, text = [], 0, "", re.split(r"( WHERE |[(),])", rest)
    for token in text:
        depth += {"(": 1, ")": -1}.get(token, 0)
        if depth == 0 and token in {",", " WHERE "}:
            listed.append(part.strip())
            part = ""
            if token == " WHERE ":
                break
        else:
            part += token
    pairs = (assigned.split(" = ", 1) for assigned in listed)
    return [(column.strip(quote), value.replace(quote, " ")) for column, value in pairs]


@pytest.mark.parametrize("name", TRANSITIONS)
def test_no_set_list_reads_a_column_that_it_wrote_before(orm: OrmBench, name: str) -> None:
    """MariaDB and MySQL evaluate it from left to right, every other database all at once."""
    _, call = prepare(orm, name)
    updates = [sql for sql in statements(orm.alias, call) if sql.startswith("UPDATE")]
    for sql in updates:
        written: set[str] = set()
        for column, value in assignments(sql):
            names = re.findall(r"[a-z_]+", re.sub(r"'[^']*'", "", value))
            stale = written.intersection(names)
            assert not stale, f"{column} is computed from {stale}, which are changed by now: {sql}"
            written.add(column)
        assert written, sql


def test_sqlite_transactions_take_the_write_lock_when_they_begin(orm: OrmBench) -> None:
    connection = connections[orm.alias]
    if connection.vendor != "sqlite":
        pytest.skip("SQLite's own way to begin")
    journal = OrmJournal(orm.alias)
    with CaptureQueriesContext(connection) as captured:
        orm.journal.published(orm.start(), 1)
        journal.mark("x")
    begins = [q["sql"] for q in captured.captured_queries if q["sql"].startswith("BEGIN")]
    assert len(begins) == 3
    assert set(begins) == {"BEGIN IMMEDIATE"}
    # Only ours: the project's transactions begin as the project says.
    assert "_start_transaction_under_autocommit" not in vars(connection)
