"""Cancel, retry and get_result, on the instance, with their awaitable twins."""

import enum
import threading
import time
from datetime import timedelta

import pytest
from django.db import connections, transaction
from django.test import Client
from django.utils import timezone

from django_hookflow import TerminalError, workflow
from django_hookflow.conf import options
from django_hookflow.exceptions import (
    RunCancelled,
    RunFailed,
    RunFinished,
    RunNotFinished,
    WorkflowDefinitionError,
)
from django_hookflow.registry import registry

from .harness import drain, hookflow_settings, messages, post, row, wake

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


def fails():
    raise TerminalError("out of stock")


@workflow(workflow_id="tests.controls.flow")
async def flow(ctx):
    if ctx.data.get("sleep"):
        await ctx.step.sleep("nap", ctx.data["sleep"])
    if ctx.data.get("fail"):
        await ctx.step.run("reserve", fails)
    return (1, 2)


stock: list[str] = []


def take():
    if not stock:
        raise TerminalError("out of stock")
    return stock.pop()


@workflow(workflow_id="tests.controls.reserving")
def reserving(ctx):
    ctx.step.run("count", len, "abc")
    return ctx.step.run("reserve", take)


@workflow(workflow_id="tests.controls.within", timeout=timedelta(hours=1))
def within(ctx):
    return ctx.step.run("reserve", take)


@pytest.fixture(autouse=True)
def project(alias):
    with hookflow_settings(alias):
        messages()
        yield
        messages()


def started(alias, **data):
    return row(flow.trigger(data), alias)


def test_the_result_comes_back_as_it_was_returned(call, alias):
    run = started(alias)
    drain(Client())
    assert call(run, "get_result") == (1, 2)


class Colour(enum.Enum):
    RED = "r"


@workflow(workflow_id="tests.controls.painting")
def painting(ctx) -> dict[str, Colour]:
    return {"door": ctx.step.run("paint", paint)}


def paint() -> Colour:
    return Colour.RED


def test_an_enum_comes_back_by_the_workflows_annotation(call, alias):
    """The fields know no annotation: they show the stored text."""
    run = row(painting.trigger(), alias)
    drain(Client())
    assert call(run, "get_result") == {"door": Colour.RED}
    run.refresh_from_db()
    shown = '{"$":"enum","t":"tests.django.test_controls.Colour","v":"RED"}'
    assert (run.result, run.steps.get().result) == (f'{{"door":{shown}}}', shown)
    registry.remove("tests.controls.painting", "")
    try:
        assert call(run, "get_result") == run.result
    finally:
        registry.add("tests.controls.painting", "", painting)


def test_a_run_that_is_not_finished(call, alias):
    run = started(alias)
    with pytest.raises(RunNotFinished, match="pending"):
        call(run, "get_result")
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="still pending"):
        call(run, "get_result", timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 3


def test_a_failed_run_carries_its_error(call, alias):
    run = started(alias, fail=True)
    drain(Client())
    with pytest.raises(RunFailed, match="out of stock") as caught:
        call(run, "get_result")
    assert caught.value.error["step"] == "reserve"
    assert caught.value.error["type"] == "django_hookflow.exceptions.TerminalError"


def test_waiting_sees_the_run_end(call, alias):
    run = started(alias)
    body = wake(run.run_id, alias=alias)

    def later():
        time.sleep(0.3)
        post(Client(), body)
        connections.close_all()

    thread = threading.Thread(target=later)
    thread.start()
    try:
        assert call(run, "get_result", timeout=10) == (1, 2)
    finally:
        thread.join()


def test_waiting_inside_a_transaction_is_refused(call, alias):
    run = started(alias)
    with (
        transaction.atomic(using=alias),
        pytest.raises(WorkflowDefinitionError, match=r"transaction\.atomic"),
    ):
        call(run, "get_result", timeout=1)
    with transaction.atomic(using=alias), pytest.raises(RunNotFinished):
        call(run, "get_result")


@pytest.mark.parametrize("timeout", [-1, "1", True, float("nan")])
def test_timeouts_are_numbers(call, alias, timeout):
    with pytest.raises((TypeError, ValueError), match="timeout is a number of seconds"):
        call(started(alias), "get_result", timeout=timeout)


@pytest.mark.parametrize("sleep", [0, 3600])
def test_a_cancelled_run_goes_no_further(call, alias, sleep):
    run = started(alias, sleep=sleep)
    if sleep:
        post(Client(), wake(run.run_id, alias=alias))
    call(run, "cancel")
    run.refresh_from_db()
    assert (run.status, run.due_at, run.owed_at) == ("cancelled", None, None)
    assert run.finished_at is not None
    for number in (1, 2):
        assert post(Client(), wake(run.run_id, number, alias)).json() == {"status": "done"}
    with pytest.raises(RunCancelled):
        call(run, "get_result")


def test_a_finished_run_cannot_be_cancelled(call, alias):
    run = started(alias)
    drain(Client())
    with pytest.raises(RunFinished, match="completed"):
        call(run, "cancel")
    run.refresh_from_db()
    assert run.status == "completed"


def test_a_run_that_is_gone_does_not_exist(call, alias):
    run = started(alias)
    type(run).objects.using(alias).filter(pk=run.pk).delete()
    with pytest.raises(type(run).DoesNotExist):
        call(run, "cancel")
    with pytest.raises(type(run).DoesNotExist):
        call(run, "get_result")


def test_a_rolled_back_cancel_did_not_happen(call, alias):
    run = started(alias)

    class Undo(Exception):
        pass

    with pytest.raises(Undo), transaction.atomic(using=alias):
        call(run, "cancel")
        raise Undo
    drain(Client())
    assert call(run, "get_result") == (1, 2)


# --- retry


@pytest.fixture
def failed(alias):
    stock.clear()
    run = row(reserving.trigger(), alias)
    drain(Client())
    run.refresh_from_db()
    assert run.status == "failed"
    messages()
    return run


def test_a_failed_run_goes_on_from_what_failed_it(call, alias, failed):
    stock.append("book")
    call(failed, "retry")
    failed.refresh_from_db()
    assert (failed.status, failed.error, failed.finished_at) == ("suspended", None, None)
    drain(Client())
    assert call(failed, "get_result") == "book"
    rows = failed.steps.values_list("step_id", "status", "superseded", "series")
    assert list(rows) == [
        ("count", "completed", False, 0),
        ("reserve", "failed", True, 0),
        ("reserve", "completed", False, 1),
    ]


def test_a_retried_run_has_the_timeout_of_its_workflow_anew(call, alias):
    run = row(within.trigger(), alias)
    type(run).objects.using(alias).filter(pk=run.pk).update(deadline=timezone.now())
    drain(Client())
    run.refresh_from_db()
    assert (run.status, run.error["type"]) == ("failed", "TimeoutError")
    stock.append("it")
    call(run, "retry")
    run.refresh_from_db()
    assert timedelta(minutes=59) < run.deadline - timezone.now() <= timedelta(hours=1)
    drain(Client())
    assert call(run, "get_result") == "it"


def test_a_retry_that_fails_again_says_so(call, alias, failed):
    call(failed, "retry")
    drain(Client())
    with pytest.raises(RunFailed, match="out of stock"):
        call(failed, "get_result")


def test_a_rolled_back_retry_did_not_happen(call, alias, failed):
    class Undo(Exception):
        pass

    with pytest.raises(Undo), transaction.atomic(using=alias):
        call(failed, "retry")
        raise Undo
    failed.refresh_from_db()
    assert failed.status == "failed"
    assert failed.error["message"] == "out of stock"
    assert messages() == []


def test_a_retry_inside_a_transaction_is_sent_after_its_commit(call, alias, failed):
    with transaction.atomic(using=alias):
        call(failed, "retry")
        assert messages() == []
    assert len(messages()) == 1


def test_a_run_that_is_still_going_is_not_retried(call, alias):
    run = started(alias)
    with pytest.raises(RunNotFinished, match="only a failed run"):
        call(run, "retry")


def test_a_run_that_ended_otherwise_is_not_retried(call, alias):
    completed, cancelled = started(alias), started(alias)
    cancelled.cancel()
    drain(Client())
    for run in (completed, cancelled):
        with pytest.raises(RunFinished, match="only a failed run"):
            call(run, "retry")


def test_an_unknown_run_is_not_retried(call, alias):
    run = started(alias)
    type(run).objects.using(alias).filter(pk=run.pk).delete()
    with pytest.raises(type(run).DoesNotExist):
        call(run, "retry")


# --- pause and resume


def test_a_paused_run_stands_still_until_it_is_resumed(call, alias):
    run = started(alias)
    call(run, "pause")
    run.refresh_from_db()
    assert (run.status, run.due_at, run.owed_at) == ("paused", None, None)
    assert post(Client(), wake(run.run_id, 1, alias)).json() == {"status": "paused"}
    messages()
    call(run, "pause")  # what is asked for is the case already
    call(run, "resume")
    assert len(messages()) == 1
    assert post(Client(), wake(run.run_id, 2, alias)).status_code == 200
    assert call(run, "get_result") == (1, 2)


def test_a_run_that_goes_on_anyway_is_not_woken_by_a_resume(call, alias):
    run = started(alias)
    before = type(run).objects.using(alias).values().get(pk=run.pk)
    messages()
    call(run, "resume")
    assert messages() == []
    assert type(run).objects.using(alias).values().get(pk=run.pk) == before


@pytest.mark.parametrize("name", ["pause", "resume"])
def test_a_run_whose_end_is_decided_is_neither_paused_nor_resumed(call, alias, name):
    run, undone = started(alias), started(alias)
    drain(Client())
    with pytest.raises(RunFinished, match=f"is completed; it cannot be {name}d any more"):
        call(run, name)
    type(run).objects.using(alias).filter(pk=undone.pk).update(status="cancelling")
    with pytest.raises(RunFinished, match=f"is being cancelled; it cannot be {name}d any more"):
        call(undone, name)
    type(run).objects.using(alias).filter(pk=undone.pk).delete()
    with pytest.raises(type(run).DoesNotExist):
        call(undone, name)


def test_a_rolled_back_pause_did_not_happen(call, alias):
    run = started(alias)

    class Undo(Exception):
        pass

    with pytest.raises(Undo), transaction.atomic(using=alias):
        call(run, "pause")
        raise Undo
    drain(Client())
    assert call(run, "get_result") == (1, 2)


def test_a_resume_inside_a_transaction_is_sent_after_its_commit(call, alias):
    run = started(alias)
    run.pause()
    messages()
    with transaction.atomic(using=alias):
        call(run, "resume")
        assert messages() == []
    assert len(messages()) == 1


def test_a_paused_run_can_be_cancelled(call, alias):
    run = started(alias)
    run.pause()
    call(run, "cancel")
    with pytest.raises(RunCancelled):
        call(run, "get_result")


@workflow(workflow_id="tests.controls.pauses_itself")
def pauses_itself(ctx):
    row(ctx.run_id, options.database).pause()


def test_a_pause_in_a_body_is_refused(alias):
    run = row(pauses_itself.trigger(), alias)
    drain(Client())
    run.refresh_from_db()
    assert run.status == "failed"
    assert "pausing a run in a workflow's body" in run.error["message"]


# --- fork


def test_a_run_is_forked_from_a_step(call, alias, failed):
    stock.append("book")
    failed._state.db = "a replica that lags behind"
    forked = call(failed, "fork", "reserve")
    failed._state.db = alias
    assert (forked.workflow_id, forked.status) == ("tests.controls.reserving", "pending")
    assert forked.run_id != failed.run_id
    drain(Client())
    assert call(forked, "get_result") == "book"
    failed.refresh_from_db()
    assert failed.status == "failed"
    assert failed.error["message"] == "out of stock"
    copied, own = forked.steps.all()
    [count, _] = failed.steps.all()
    assert (copied.result, copied.finished_at) == (count.result, count.finished_at)
    assert own.finished_at > failed.finished_at


def test_a_preview_writes_nothing(call, alias, failed):
    before = type(failed).objects.using(alias).count()
    assert call(failed, "fork", "count", preview=True) == ["count#1", "reserve#1"]
    assert call(failed, "fork", "reserve#1", preview=True) == ["reserve#1"]
    assert type(failed).objects.using(alias).count() == before
    assert messages() == []


@pytest.mark.parametrize("preview", [True, False])
def test_a_step_that_is_not_there_is_told_with_those_that_are(call, alias, failed, preview):
    with pytest.raises(ValueError, match="no step 'ship'; its steps are: count#1, reserve#1"):
        call(failed, "fork", "ship", preview=preview)
    with pytest.raises(TypeError, match="from_step is a step id"):
        call(failed, "fork", 5, preview=preview)
    type(failed).objects.using(alias).filter(pk=failed.pk).delete()
    with pytest.raises(type(failed).DoesNotExist):
        call(failed, "fork", "count", preview=preview)


def test_a_rolled_back_fork_did_not_happen(call, alias, failed):
    class Undo(Exception):
        pass

    with pytest.raises(Undo), transaction.atomic(using=alias):
        call(failed, "fork", "reserve")
        raise Undo
    assert reserving.runs.count() == 1
    assert messages() == []
    with transaction.atomic(using=alias):
        call(failed, "fork", "reserve")
        assert messages() == []
    assert len(messages()) == 1
