"""The rows as users read them."""

import uuid
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone as django_timezone

from django_hookflow.core import ports
from django_hookflow.core.entries import ErrorRecord, RunStatus, StepStatus
from django_hookflow.core.transitions import Fence, Finish, Record
from django_hookflow.models import LOST, Encoded, WorkflowRun, WorkflowStep
from tests.journals.bench import LEASE, OrmBench, outcome

pytestmark = pytest.mark.django_db(databases="__all__")

VALUE = {"at": datetime(2026, 1, 2, tzinfo=timezone.utc), "ids": (1, 2)}


class Color(Enum):
    RED = 1


def test_values_are_decoded_when_read(orm: OrmBench) -> None:
    text = ports.codec().encode(VALUE)
    id, fence = orm.held()
    orm.alter(id, data=Encoded(text))
    orm.record(fence, "a", value=text)
    orm.journal.finish(Finish(fence=fence, status=RunStatus.COMPLETED, result=text))
    run = WorkflowRun.objects.using(orm.alias).get(pk=id)
    assert run.data == run.result == VALUE
    assert run.state is None
    (step,) = run.steps.all()
    assert (step.step_id, step.occurrence, step.kind) == ("a", 1, "run")
    assert (step.status, step.attempts, step.result) == ("completed", 1, VALUE)
    assert (step.error, step.wake_at) == (None, None)
    assert step.workflow_run == run
    (only,) = WorkflowStep.objects.using(orm.alias).values_list("result", flat=True)
    assert only == VALUE


def test_values_that_are_written_are_encoded(orm: OrmBench) -> None:
    id = orm.start()
    rows = WorkflowRun.objects.using(orm.alias).filter(pk=id)
    rows.update(data=VALUE, state=Encoded("[1]"))
    run = rows.get()
    assert (run.data, run.state) == (VALUE, [1])
    run.save()
    assert rows.get().data == VALUE
    assert orm.run(id).data == ports.codec().encode(VALUE)


@pytest.mark.parametrize("hint", [Color, None], ids=["needs an annotation", "broken"])
def test_value_that_cannot_be_read_hides_no_row(orm: OrmBench, hint: Any) -> None:
    text = ports.codec().encode(Color.RED, hint=hint) if hint else "{broken"
    id = orm.start(data=text)
    rows = WorkflowRun.objects.using(orm.alias).filter(pk=id)
    run = rows.get()
    assert (type(run.data), run.data) == (Encoded, text)
    run.save()  # nothing is encoded twice
    assert orm.run(id).data == text
    assert orm.claim(id).run.data == text


def test_error_is_three_facts(orm: OrmBench) -> None:
    id, fence = orm.held()
    error = ErrorRecord(type="ValueError", message="no", step="a", classes=("x",), response=[1])
    orm.record(fence, "a", status=StepStatus.FAILED, value=None, error=error)
    orm.journal.finish(Finish(fence=fence, status=RunStatus.FAILED, error=error))
    run = WorkflowRun.objects.using(orm.alias).get(pk=id)
    assert run.error == {"type": "ValueError", "message": "no", "step": "a"}
    assert run.steps.get().error == run.error
    assert orm.steps(id)[0].error == error


def test_broken_error_is_a_message(orm: OrmBench) -> None:
    id = orm.start()
    orm.alter(id, error="oops")
    run = WorkflowRun.objects.using(orm.alias).get(pk=id)
    assert run.error == {"type": "", "message": "oops", "step": None}


def test_status_now_tells_a_lost_holder(orm: OrmBench) -> None:
    run = WorkflowRun.objects.using(orm.alias).get(pk=orm.held()[0])
    now = django_timezone.now()
    run.lease_until = now + timedelta(seconds=30)
    assert run.status_now == "running"
    run.lease_until = now - timedelta(seconds=1)
    assert run.status_now == LOST
    run.status = RunStatus.SUSPENDED.value
    assert run.status_now == "suspended"


def test_active_runs(orm: OrmBench) -> None:
    ids = {}
    for status in RunStatus:
        ids[status] = orm.start()
        orm.alter(ids[status], status=status)
    active = set(WorkflowRun.objects.using(orm.alias).active().values_list("pk", flat=True))
    names = {"pending", "running", "suspended", "cancelling"}
    assert active == {id for status, id in ids.items() if status.value in names}


class Calls:
    def __init__(self) -> None:
        self.made: list[Any] = []

    def cancel(self, run: uuid.UUID, *, compensate: bool = True) -> None:
        self.made.append(("cancel", run, compensate))

    async def acancel(self, run: uuid.UUID, *, compensate: bool = True) -> None:
        self.made.append(("acancel", run, compensate))

    def get_result(self, run: uuid.UUID, *, timeout: float = 0) -> Any:
        self.made.append(("get_result", run, timeout))
        return 1

    async def aget_result(self, run: uuid.UUID, *, timeout: float = 0) -> Any:
        self.made.append(("aget_result", run, timeout))
        return 2


async def test_controls_go_through_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls()
    monkeypatch.setattr(ports._Installed, "controls", calls)
    run = WorkflowRun(id=uuid.uuid4(), run_id="order", workflow_id="w")
    run.cancel()
    await run.acancel(compensate=False)
    assert (run.get_result(), await run.aget_result(timeout=3)) == (1, 2)
    assert calls.made == [
        ("cancel", run.pk, True),
        ("acancel", run.pk, False),
        ("get_result", run.pk, 0),
        ("aget_result", run.pk, 3),
    ]
    assert str(run) == "w order"


def test_longest_names_fit(orm: OrmBench) -> None:
    id = orm.start(run_id="r" * 128, workflow_id="w" * 255)
    claimed = orm.claim(id)
    assert claimed.run.workflow_id == "w" * 255
    done = outcome("s" * 200, occurrence=10**9, call="c" * 2000)

    fence = Fence(id=id, epoch=claimed.run.epoch, lease=LEASE)
    orm.journal.commit(Record(fence=fence, entry=done))
    assert orm.steps(id)[0].key == "s" * 200 + "#1000000000"
    orm.send(id, "1", "e" * 200)


def test_migrations_say_what_the_models_say() -> None:
    call_command("makemigrations", "django_hookflow", check=True, dry_run=True, verbosity=0)
