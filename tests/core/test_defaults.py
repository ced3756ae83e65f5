"""What holds where nobody says otherwise, as the documentation has it."""

from datetime import timedelta
from uuid import UUID

from django_hookflow.core.callbacks import MAX_CONFIRM
from django_hookflow.core.codec import MAX_DEPTH
from django_hookflow.core.entries import Entry, Kind, StepStatus
from django_hookflow.core.messages import MAX_BODY_BYTES
from django_hookflow.core.requests import MAX_STEP_ID, Request
from django_hookflow.core.retry import RetryPolicy
from django_hookflow.core.transitions import (
    Beat,
    Cancelled,
    Claimed,
    Fence,
    Finish,
    SendEvent,
    Suspend,
    Trigger,
)

ID = UUID(int=1)
FENCE = Fence(id=ID, epoch=1, lease=timedelta(seconds=1))


def test_a_retry_policy() -> None:
    assert RetryPolicy() == RetryPolicy(4, 1.0, 2.0, 300.0, True, (Exception,), ())


def test_an_entry() -> None:
    assert Entry(key="a#1", step_id="a", occurrence=1, kind=Kind.RUN) == Entry(
        key="a#1",
        step_id="a",
        occurrence=1,
        kind=Kind.RUN,
        call="",
        args_sha="",
        status=StepStatus.PENDING,
        seq=None,
        requested_seq=0,
        series=0,
        attempt=0,
        ready_at=None,
        value=None,
        error=None,
        undo="",
        event="",
        started_at=None,
        finished_at=None,
    )
    assert Request(step_id="a", kind=Kind.SLEEP) == Request(
        step_id="a", kind=Kind.SLEEP, call="", args_sha=""
    )


def test_transitions() -> None:
    facts = {"run_id": "r", "workflow_id": "w", "version": "", "seed": 1, "data": "{}"}
    trigger = Trigger(id=ID, **facts)
    assert (trigger.delay, trigger.not_before, trigger.timeout) == (timedelta(0), None, None)
    assert (trigger.parent, trigger.parent_step, trigger.depth) == (None, "", 0)
    suspend = Suspend(fence=FENCE, seen=0, due=None)
    assert (suspend.waits, suspend.pending, suspend.blocked) == ((), (), "")
    finish = Finish(fence=FENCE, status="completed")
    assert (finish.result, finish.error) == (None, None)
    assert (finish.parent, finish.parent_step) == (None, "")
    assert Cancelled().owed is False
    assert SendEvent(id=ID, name="n", payload="1").dedup_id is None
    assert (Beat().held, Beat().lease) == ({}, timedelta(0))
    assert Claimed(run=None, entries=(), found_dead=False).series == {}


def test_limits() -> None:
    sizes = (MAX_DEPTH, MAX_STEP_ID, MAX_BODY_BYTES, MAX_CONFIRM)
    assert sizes == (150, 200, 16_384, 200)
