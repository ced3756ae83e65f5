"""``manage.py hookflow doctor``: one violation of each kind is planted, and told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_hookflow import RetryPolicy, workflow
from django_hookflow.core.identifiers import uuid7
from django_hookflow.diagnosis import COMPLAINTS, SHOWN, VIOLATIONS
from django_hookflow.models import HookflowMark, WorkflowEvent, WorkflowRun, WorkflowStep
from django_hookflow.wakes import SWEEP_MARK

from .harness import drain, hookflow_settings, messages, row

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

#: When the present test began: the whole suite takes longer than a run may be overdue.
began = [timezone.now()]
KNOWN = "tests.doctor.known"


@workflow(workflow_id=KNOWN, retry=RetryPolicy(max_attempts=1))
def known(ctx: Any) -> str:
    ctx.step.run("one", len, "a")
    ctx.step.sleep("nap", 0.01)
    ctx.step.atomic("two", len, "ab")
    if ctx.data.get("fail"):
        ctx.step.run("three", int, "x")
    return "done"


def at(seconds: float) -> Any:
    return began[0] + timedelta(seconds=seconds)


class Rows:
    """Writes rows past the journal, each run newer than the one before."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.made = 0

    def run(self, run_id: str = "r", status: str = "completed", **columns: Any) -> WorkflowRun:
        self.made += 1
        over = {"finished_at": at(-10)} if status in ("completed", "failed", "cancelled") else {}
        columns = {"workflow_id": KNOWN, "created_at": at(-60), "epoch": 5, **over, **columns}
        id = uuid7(1_700_000_000_000 + self.made, bytes(10))
        runs = WorkflowRun.objects.using(self.alias)
        return runs.create(id=id, run_id=run_id, status=status, **columns)

    def step(
        self, run: WorkflowRun, step_id: str = "s", status: str = "completed", **columns: Any
    ) -> WorkflowStep:
        over = {} if status == "pending" else {"finished_at": at(-20), "epoch": 1}
        columns = {"kind": "run", "key": f"{step_id}#1", **over, **columns}
        steps = WorkflowStep.objects.using(self.alias)
        return steps.create(workflow_run=run, step_id=step_id, status=status, **columns)

    def event(self, run: WorkflowRun, taken: WorkflowStep | None) -> WorkflowEvent:
        events = WorkflowEvent.objects.using(self.alias)
        return events.create(workflow_run=run, name="e", consumed_by=taken, created_at=at(-30))


@pytest.fixture
def rows(alias: str) -> Iterator[Rows]:
    began[0] = timezone.now()
    with hookflow_settings(alias):
        messages()
        yield Rows(alias)
        messages()


def doctor(*arguments: str) -> tuple[Any, bool]:
    """What it tells, and whether it ends with an error."""
    out = StringIO()
    try:
        call_command("hookflow", "doctor", "--json", *arguments, stdout=out)
    except CommandError:
        return json.loads(out.getvalue()), False
    return json.loads(out.getvalue()), True


def told() -> str:
    out = StringIO()
    try:
        call_command("hookflow", "doctor", stdout=out)
    except CommandError as error:
        return out.getvalue() + str(error)
    return out.getvalue()


def outcome_twice(rows: Rows) -> None:
    run = rows.run(seq=2)
    rows.step(run, seq=1)
    rows.step(run, seq=2, series=1)


def number_twice(rows: Rows) -> None:
    run = rows.run(seq=2)
    rows.step(run, "a", seq=1)
    rows.step(run, "b", seq=1)


def miscounted(rows: Rows) -> None:
    rows.step(rows.run(seq=2), seq=1)


def miscounted_none(rows: Rows) -> None:
    rows.run(seq=1)


def unnumbered(rows: Rows) -> None:
    rows.step(rows.run(seq=1), seq=None)


def numbered_pending(rows: Rows) -> None:
    rows.step(rows.run(seq=0), status="pending", seq=1)


def epochs_fall(rows: Rows) -> None:
    run = rows.run(seq=2)
    rows.step(run, "a", seq=1, epoch=3)
    rows.step(run, "b", seq=2, epoch=2)


def epoch_ahead(rows: Rows) -> None:
    rows.step(rows.run(seq=1, epoch=2), seq=1, epoch=3)


def after_the_end(rows: Rows) -> None:
    rows.step(rows.run(seq=1), seq=1, finished_at=at(-5))


def early_timer(rows: Rows) -> None:
    rows.step(rows.run(seq=1), seq=1, kind="sleep", wake_at=at(-15))


def unguarded(rows: Rows) -> None:
    rows.step(rows.run(status="suspended"), status="pending", kind="event", wake_at=at(60))


def unguarded_superseded(rows: Rows) -> None:
    rows.step(rows.run(status="suspended"), status="pending", kind="event", superseded=True)


def ended_and_due(rows: Rows) -> None:
    rows.run(due_at=at(60))


def ended_and_owed(rows: Rows) -> None:
    rows.run(status="failed", owed_at=at(0))


def ended_and_held(rows: Rows) -> None:
    rows.run(status="cancelled", lease_until=at(60))


def ended_without_time(rows: Rows) -> None:
    rows.run(finished_at=None)


def paused_and_due(rows: Rows) -> None:
    rows.run(status="paused", due_at=at(60), started_at=at(-60))


def running_unheld(rows: Rows) -> None:
    rows.run(status="running", due_at=at(60))


def waiting_held(rows: Rows) -> None:
    rows.run(status="suspended", due_at=at(60), lease_until=at(60))


def active_after_end(rows: Rows) -> None:
    rows.run(status="pending", due_at=at(60), finished_at=at(0))


def two_events(rows: Rows) -> None:
    run = rows.run(seq=1)
    step = rows.step(run, seq=1, kind="event")
    rows.event(run, step)
    rows.event(run, step)


def strange_event(rows: Rows) -> None:
    step = rows.step(rows.run("other", seq=1), seq=1, kind="event")
    rows.event(rows.run(), step)


def event_of_another_kind(rows: Rows) -> None:
    run = rows.run(seq=1)
    rows.event(run, rows.step(run, seq=1, kind="run"))


def event_of_pending(rows: Rows) -> None:
    run = rows.run(status="suspended", due_at=at(60))
    rows.event(run, rows.step(run, status="pending", kind="event"))


PLANTED = {
    outcome_twice: "outcome-twice",
    number_twice: "number-twice",
    miscounted: "miscounted",
    miscounted_none: "miscounted",
    unnumbered: "unnumbered",
    numbered_pending: "unnumbered",
    epochs_fall: "epochs-fall",
    epoch_ahead: "epoch-ahead",
    after_the_end: "after-the-end",
    early_timer: "early-timer",
    unguarded: "unguarded",
    unguarded_superseded: "unguarded",
    ended_and_due: "not-at-rest",
    ended_and_owed: "not-at-rest",
    ended_and_held: "not-at-rest",
    ended_without_time: "not-at-rest",
    paused_and_due: "not-at-rest",
    running_unheld: "misheld",
    waiting_held: "misheld",
    active_after_end: "misheld",
    two_events: "two-events",
    strange_event: "strange-event",
    event_of_another_kind: "strange-event",
    event_of_pending: "strange-event",
}


def test_every_violation_is_planted() -> None:
    assert set(PLANTED.values()) == {question.name for question in VIOLATIONS}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_violation_is_told_alone_with_its_run(plant: Any, rows: Rows) -> None:
    plant(rows)
    answer, ended_well = doctor()
    assert [
        (found["name"], found["runs"], found["more"]) for found in answer["journal"]["violations"]
    ] == [(PLANTED[plant], ["r"], False)]
    assert not ended_well
    assert not answer["ok"]
    assert "Something is wrong with the journal" in told()


def owed(rows: Rows) -> None:
    rows.run(status="pending", due_at=at(0), owed_at=at(-130))


def overdue(rows: Rows) -> None:
    HookflowMark.objects.using(rows.alias).create(key=SWEEP_MARK, at=at(-10))
    rows.run(status="pending", due_at=at(-310))


def nudged(rows: Rows) -> None:
    rows.run(status="suspended", due_at=at(0), nudges=11)


def blocked(rows: Rows) -> None:
    rows.run(status="suspended", due_at=at(60), blocked="expected a, got b")


COMPLAINED = {owed: "owed", overdue: "overdue", nudged: "nudged", blocked: "blocked"}


def test_every_complaint_is_planted() -> None:
    assert set(COMPLAINED.values()) == {question.name for question in COMPLAINTS}


@pytest.mark.parametrize("plant", COMPLAINED, ids=lambda plant: plant.__name__)
def test_what_needs_a_look_is_told_and_is_no_error(plant: Any, rows: Rows) -> None:
    plant(rows)
    answer, ended_well = doctor()
    complaints = answer["journal"]["complaints"]
    assert [(found["name"], found["runs"]) for found in complaints] == [(COMPLAINED[plant], ["r"])]
    assert answer["journal"]["violations"] == []
    assert answer["journal"]["unswept"] is None
    assert ended_well
    assert f"  {COMPLAINED[plant]}: " in told()


def test_a_healthy_journal_has_nothing_to_tell(rows: Rows) -> None:
    from django.test import Client

    for n in range(3):
        known.trigger({"fail": n == 2}, run_id=f"run-{n}")
    drain(Client())
    row("run-2", rows.alias).retry()
    drain(Client())
    known.trigger(run_id="cancelled")
    row("cancelled", rows.alias).cancel()
    known.trigger(run_id="waiting", delay=100)
    paused = rows.run("paused", status="paused", lease_until=at(60))
    waiting = rows.run("for an event", status="suspended")
    rows.step(waiting, status="pending", kind="event")
    taken = rows.step(waiting, "before", seq=1, kind="event")
    rows.event(waiting, taken)
    rows.event(paused, None)
    WorkflowRun.objects.using(rows.alias).filter(pk=waiting.pk).update(seq=1)
    answer, ended_well = doctor()
    assert ended_well, answer
    assert answer["ok"]
    assert not any(answer["journal"].values()), answer["journal"]
    assert row("run-2", rows.alias).status == "failed"
    assert f"all {len(VIOLATIONS)} invariants hold" in told()


def test_no_more_than_twenty_runs_are_named(rows: Rows) -> None:
    for n in range(SHOWN + 1):
        rows.run(f"run-{n:02}", due_at=at(60))
    answer, _ = doctor()
    [found] = answer["journal"]["violations"]
    assert (len(found["runs"]), found["more"]) == (SHOWN, True)
    assert "and more" in told()


def test_unregistered_workflows_are_told_with_their_numbers(rows: Rows) -> None:
    rows.run("a", status="suspended", due_at=at(60), workflow_id="gone")
    rows.run("b", status="paused", workflow_id="gone", version="2")
    rows.run("c", status="paused", workflow_id="gone", version="2")
    rows.run("d", workflow_id="gone")
    answer, ended_well = doctor()
    assert answer["journal"]["unregistered"] == [
        {"workflow_id": "gone", "version": "", "runs": 1},
        {"workflow_id": "gone", "version": "2", "runs": 2},
    ]
    assert ended_well
    assert "2 unfinished run(s) of gone 2, which is not registered here" in told()


def test_overdue_runs_without_a_sweep_are_told(rows: Rows) -> None:
    rows.run(status="pending", due_at=at(-400))
    assert doctor()[0]["journal"]["unswept"]["run_id"] == "r"
    assert "nothing swept since" in told()
    mark = HookflowMark.objects.using(rows.alias).create(key=SWEEP_MARK, at=at(-500))
    assert doctor()[0]["journal"]["unswept"]["swept_at"]
    mark.at = at(-399)
    mark.save(using=rows.alias)
    answer, _ = doctor()
    assert answer["journal"]["unswept"] is None
    assert answer["journal"]["swept_at"]


def test_only_select_statements_are_sent(rows: Rows) -> None:
    rows.run(status="pending", due_at=at(-400))
    with CaptureQueriesContext(connections[rows.alias]) as queries:
        doctor()
    words = {query["sql"].lstrip(" (").split()[0].upper() for query in queries.captured_queries}
    assert words <= {"SELECT", "SHOW", "PRAGMA"}


def test_a_missing_migration_is_an_error_and_the_rows_are_left_alone(rows: Rows) -> None:
    recorder = MigrationRecorder(connections[rows.alias])
    applied = recorder.migration_qs.filter(app="django_hookflow")
    names = list(applied.values_list("name", flat=True))
    applied.delete()
    try:
        answer, ended_well = doctor()
        assert answer["journal"]["migrations"] == names
        assert not ended_well
        assert "Run python manage.py migrate" in told()
    finally:
        for name in names:
            recorder.record_applied("django_hookflow", name)


def test_settings_are_told_as_the_checks_do(rows: Rows) -> None:
    with hookflow_settings(rows.alias, USE_TZ=False):
        answer, ended_well = doctor()
        assert [found["id"] for found in answer["settings"]] == ["django_hookflow.E003"]
        assert not ended_well
        assert "E003 USE_TZ is False" in told()
    with hookflow_settings(rows.alias, ALLOWED_HOSTS=[]):
        answer, ended_well = doctor()
        assert [found["level"] for found in answer["settings"]] == ["warning"]
        assert ended_well
    with hookflow_settings(
        rows.alias, ALLOWED_HOSTS=[], SILENCED_SYSTEM_CHECKS=["django_hookflow.W005"]
    ):
        assert doctor()[0]["settings"] == []


def test_a_journal_on_no_alias_is_told_and_the_rest_goes_on() -> None:
    with hookflow_settings("nowhere"):
        answer, ended_well = doctor()
    assert "key of DATABASES" in answer["journal"]["trouble"]
    assert "django_hookflow.E006" in [found["id"] for found in answer["settings"]]
    assert not ended_well
