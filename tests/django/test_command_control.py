"""``manage.py hookflow pause | resume | event | fork``, and the filters of ``runs``."""

import json

import pytest
from django.core.management import CommandError
from django.test import Client

from django_hookflow import workflow
from tests.django.command import hookflow
from tests.django.harness import drain, hookflow_settings, messages, row

pytestmark = pytest.mark.django_db(transaction=True)


@workflow(workflow_id="tests.control.approve")
async def approve(ctx):
    ctx.set("at", "waiting")
    await ctx.step.run("ask", str, "asked")
    answer = await ctx.step.wait_for_event("approval", "approved")
    await ctx.step.run("note", str, answer)
    return answer


@pytest.fixture(autouse=True)
def project():
    with hookflow_settings():
        messages()
        yield
        messages()


@pytest.fixture
def waiting():
    run_id = approve.trigger(tags={"order": "42", "shop": "eu"})
    drain(Client())
    return run_id


def test_runs_are_paused_and_resumed(waiting):
    assert hookflow("pause", waiting) == f"{waiting} is paused.\n"
    assert row(waiting).status == "paused"
    told = hookflow("runs")
    assert "is paused until somebody calls resume(); it waits in" in told
    assert 'for event "approved"' in told
    assert hookflow("resume", waiting) == f"{waiting} goes on.\n"
    assert row(waiting).status == "suspended"
    assert len(messages()) == 1
    row(waiting).cancel()
    for verb in ("pause", "resume"):
        with pytest.raises(CommandError, match=f"is cancelled; it cannot be {verb}d any more"):
            hookflow(verb, waiting)


def test_an_event_is_sent(waiting):
    hookflow("event", waiting, "approved", "--data", '{"by": "ada"}', "--dedup-id", "x")
    hookflow("event", waiting, "approved", "--data", "2", "--dedup-id", "x")
    drain(Client())
    assert row(waiting).result == {"by": "ada"}
    with pytest.raises(CommandError, match="takes no events any more"):
        hookflow("event", waiting, "approved")


def test_an_event_without_data_carries_none(waiting):
    assert hookflow("event", waiting, "approved") == f"{waiting} was sent 'approved'.\n"
    assert row(waiting).events.get().payload is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["approved", "--data", "{"], "--data is no JSON"),
        (["x" * 201], "an event's name has 1 to 200"),
        (["approved", "--dedup-id", ""], "dedup_id has 1 to 200"),
    ],
)
def test_a_wrong_event_is_told_in_a_line(waiting, arguments, told):
    with pytest.raises(CommandError, match=told):
        hookflow("event", waiting, *arguments)
    assert row(waiting).events.count() == 0


def test_a_run_is_forked_and_its_id_printed(waiting):
    preview = hookflow("fork", waiting, "--from-step", "ask", "--preview")
    assert preview.split() == ["ask#1", "approval#1"]
    assert approve.runs.count() == 1
    new = hookflow("fork", waiting, "--from-step", "approval").strip()
    assert new != waiting
    drain(Client())
    assert [step.key for step in row(new).steps.all()] == ["ask#1", "approval#1"]
    assert "order=42" in hookflow("show", new)
    with pytest.raises(CommandError, match="no step 'ship'; its steps are: ask#1, approval#1"):
        hookflow("fork", waiting, "--from-step", "ship")
    with pytest.raises(CommandError, match="no run 'nobody'"):
        hookflow("fork", "nobody", "--from-step", "ship")


def listed(*arguments):
    return {run["run_id"] for run in json.loads(hookflow("runs", "--json", *arguments))}


def test_runs_are_listed_by_tags_and_by_what_they_wait_for(waiting):
    other = approve.trigger(tags={"order": "43", "shop": "eu"})
    assert listed() == {waiting, other}
    assert listed("--tag", "order=42") == {waiting}
    assert listed("--tag", "shop=eu") == {waiting, other}
    assert listed("--tag", "shop=eu", "--tag", "order=43") == {other}
    assert listed("--tag", "order=4") == set()
    assert listed("--waiting-for", "approved") == {waiting}
    assert listed("--waiting-for", "Approved") == set()


def test_a_tag_may_hold_an_equals_sign(waiting):
    run_id = hookflow("trigger", "tests.control.approve", "--tag", "q=a=b", "--tag", "n=1").strip()
    assert {str(tag) for tag in row(run_id).tags.all()} == {"q=a=b", "n=1"}
    assert listed("--tag", "q=a=b") == {run_id}


@pytest.mark.parametrize("wrong", ["order", "=42", "order=", "k" * 101 + "=1"])
def test_what_is_no_tag_is_told(wrong):
    with pytest.raises(CommandError, match="is no key=value"):
        hookflow("runs", "--tag", wrong)


def test_a_run_is_shown_with_its_tags_and_its_state(waiting):
    shown = hookflow("show", waiting)
    assert "order=42 shop=eu" in shown
    assert "{'at': 'waiting'}" in shown
    read = json.loads(hookflow("show", waiting, "--json"))
    assert read["tags"] == {"order": "42", "shop": "eu"}
    assert read["state"] == {"at": "waiting"}
