"""What a run costs: queries, transactions, messages. The figures are in the docs."""

from collections import Counter
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_hookflow import workflow
from django_hookflow.runtime import runtime

from .harness import hookflow_settings, messages, row

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


@pytest.fixture(autouse=True)
def project(alias):
    with hookflow_settings(alias, DJANGO_HOOKFLOW_DELIVERY_SECONDS=600):
        messages()
        yield
        messages()


@workflow(workflow_id="tests.costs.steps")
async def steps(ctx):
    for n in range(ctx.data["steps"]):
        if ctx.data.get("tell"):
            ctx.set("at", n)
        await ctx.step.run("noop", int, n)
    if ctx.data.get("sleep"):
        await ctx.step.sleep("nap", 60)
    return "done"


def queries_of(alias, run_id, number=1):
    """Of one delivery, without the look at other runs that the webhook takes every 15 s."""
    deliver = async_to_sync(runtime.driver.deliver)
    id = row(run_id, alias).id
    with CaptureQueriesContext(connections[alias]) as captured:
        assert deliver(id, number, lasting_loop=False).status == 200
    return [query["sql"] for query in captured.captured_queries]


def verbs(queries):
    return Counter(sql.split(None, 1)[0].upper() for sql in queries)


def test_each_step_costs_three_queries_in_one_transaction_however_long_the_run(alias):
    costs = {}
    for count in (10, 20, 120):
        run_id = steps.trigger({"steps": count})
        costs[count] = queries_of(alias, run_id)
        assert row(run_id, alias).status == "completed"
    per_step = [
        {verb: (verbs(costs[more])[verb] - verbs(costs[less])[verb]) / (more - less)
         for verb in verbs(costs[more])}
        for less, more in ((10, 20), (20, 120))
    ]  # fmt: skip
    assert per_step[0] == per_step[1]
    statements = {verb: n for verb, n in per_step[0].items() if verb not in ("BEGIN", "COMMIT")}
    assert statements == {"UPDATE": 1, "SELECT": 1, "INSERT": 1}
    assert per_step[0]["BEGIN"] == 1


def test_a_ten_step_run_costs_35_statements_in_12_transactions(alias):
    counted = verbs(queries_of(alias, steps.trigger({"steps": 10})))
    # One look; the claim's update and two reads; three for each step; one to finish.
    statements = {verb: counted[verb] for verb in ("SELECT", "UPDATE", "INSERT")}
    assert statements == {"SELECT": 13, "UPDATE": 12, "INSERT": 10}
    assert counted["BEGIN"] == 12


def test_resuming_reads_the_journal_with_one_query(alias):
    run_id = steps.trigger({"steps": 200, "sleep": True})
    queries_of(alias, run_id)
    past = timezone.now() - timedelta(seconds=1)
    model = type(row(run_id, alias))
    model.objects.using(alias).filter(run_id=run_id).update(due_at=past)
    row(run_id, alias).steps.filter(kind="sleep").update(wake_at=past)
    queries = queries_of(alias, run_id, 2)
    assert row(run_id, alias).status == "completed"
    journal = [sql for sql in queries if sql.startswith("SELECT") and "workflowstep" in sql]
    assert len(journal) == 1
    assert len(queries) < 15


def test_live_state_costs_no_query(alias):
    plain, told = steps.trigger({"steps": 5}), steps.trigger({"steps": 5, "tell": True})
    assert verbs(queries_of(alias, told)) == verbs(queries_of(alias, plain))
    assert row(told, alias).state == {"at": 4}
    assert row(plain, alias).state is None
