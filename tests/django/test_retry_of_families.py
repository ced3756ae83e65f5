"""The retry of a run that failed by its child: the child goes on from where it stopped."""

import asyncio

import pytest

from django_hookflow import RetryPolicy, workflow
from django_hookflow.exceptions import RunFinished
from django_hookflow.journals.orm import OrmJournal
from django_hookflow.models import WorkflowRun
from django_hookflow.testing import Hookflow

from .harness import hookflow_settings, row

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

ONCE = RetryPolicy(max_attempts=1)
ran: list[str] = []
closed: list[bool] = []


def charge(name):
    ran.append(f"charge {name}")


def ship(name):
    if closed:
        raise ValueError("closed")
    ran.append(f"ship {name}")


def refund(result, name):
    ran.append(f"refund {name}")


@workflow(workflow_id="tests.families.parcel")
def parcel(ctx):
    steps = ctx.step
    if "refunded" in ctx.data:
        steps = steps.options(compensate=(refund, ctx.data))
    steps.run("charge", charge, ctx.data)
    ctx.step.options(retry=ONCE).run("ship", ship, ctx.data)


@workflow(workflow_id="tests.families.plain_parcel")
async def plain_parcel(ctx):
    await ctx.step.run("charge", charge, ctx.data)
    await ctx.step.options(retry=ONCE).run("ship", ship, ctx.data)


@workflow(workflow_id="tests.families.order")
async def order(ctx):
    return await ctx.step.invoke("parcel", parcel, ctx.data)


@workflow(workflow_id="tests.families.plain_order")
def plain_order(ctx):
    return ctx.step.invoke("parcel", plain_parcel, ctx.data)


@workflow(workflow_id="tests.families.named")
def named(ctx):
    return ctx.step.invoke("parcel", parcel, ctx.data, run_id=f"{ctx.run_id}/parcel")


@workflow(workflow_id="tests.families.many")
async def many(ctx):
    await asyncio.gather(*(ctx.step.invoke(f"parcel{n}", parcel, f"{n}") for n in range(3)))


@workflow(workflow_id="tests.families.customer")
def customer(ctx):
    return ctx.step.invoke("order", order, ctx.data)


@pytest.fixture
def hookflow(alias):
    with hookflow_settings(alias), Hookflow() as kit:
        ran.clear()
        closed[:] = [True]
        yield kit


def failed(hookflow, alias, flow, data="a"):
    run_id = hookflow.run(flow, data).run_id
    run = row(run_id, alias)
    assert run.status == "failed"
    closed.clear()
    return run


def runs(alias):
    return WorkflowRun.objects.using(alias)


def all_completed(hookflow, alias):
    hookflow.drain()
    hookflow.advance(seconds=60)
    return {run.status for run in runs(alias).all()} == {"completed"}


@pytest.mark.parametrize("flow", [order, plain_order, named, customer])
def test_what_the_child_did_is_not_done_again(hookflow, alias, call, flow):
    call(failed(hookflow, alias, flow), "retry")
    assert all_completed(hookflow, alias)
    assert ran == ["charge a", "ship a"]


def test_of_many_children_each_goes_on(hookflow, alias, call):
    call(failed(hookflow, alias, many), "retry")
    assert all_completed(hookflow, alias)
    assert sorted(ran) == [f"{what} {n}" for what in ("charge", "ship") for n in range(3)]


@pytest.mark.parametrize("order_by", ["created_at", "-created_at"])
def test_all_that_failed_are_retried_at_once(hookflow, alias, order_by):
    failed(hookflow, alias, customer)
    assert runs(alias).filter(status="failed").order_by(order_by).retry() == 3
    assert all_completed(hookflow, alias)
    assert ran == ["charge a", "ship a"]


def test_a_child_that_was_retried_before_its_parent_is_taken_up(hookflow, alias, call):
    run = failed(hookflow, alias, order)
    call(run.children.using(alias).get(), "retry")
    hookflow.drain()
    assert ran == ["charge a", "ship a"]
    call(run, "retry")
    assert all_completed(hookflow, alias)
    assert ran == ["charge a", "ship a"]


def test_in_the_place_of_a_child_that_was_undone_there_is_another(hookflow, alias, call):
    run = failed(hookflow, alias, order, "refunded")
    assert ran == ["charge refunded", "refund refunded"]
    call(run, "retry")
    hookflow.drain()
    assert row(run.run_id, alias).status == "completed"
    assert ran[2:] == ["charge refunded", "ship refunded"]
    first = run.children.using(alias).get(status="failed")
    with pytest.raises(RunFinished, match="another run in its place"):
        call(first, "retry")


def test_a_child_that_fails_again_at_once_is_still_the_one_that_is_waited_for(
    hookflow, alias, monkeypatch
):
    """Its wake-up may be delivered before its parent's row is written."""
    run = failed(hookflow, alias, order)
    closed.append(True)
    retry = OrmJournal.retry

    def delivered_between(self, transition):
        if transition.id == run.pk:
            hookflow.drain()
        return retry(self, transition)

    with monkeypatch.context() as patched:
        patched.setattr(OrmJournal, "retry", delivered_between)
        run.retry()
    hookflow.drain()
    run = row(run.run_id, alias)
    assert (run.status, run.error["message"].endswith("closed")) == ("failed", True)
    closed.clear()
    run.retry()
    assert all_completed(hookflow, alias)
    assert ran == ["charge a", "ship a"]
    assert run.children.using(alias).count() == 1
