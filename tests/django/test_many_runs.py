"""What is asked of many runs at once, and done to them."""

from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import connections, transaction
from django.template import Context, Template
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_hookflow import Start, TerminalError, batches, workflow
from django_hookflow.models import WorkflowRun, WorkflowTag

from .harness import drain, hookflow_settings, messages, post, row, wake

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


def fails():
    raise TerminalError("no")


@workflow(workflow_id="tests.many.waits")
async def waits(ctx):
    if ctx.data.get("fail"):
        await ctx.step.run("fail", fails)
    return await ctx.step.wait_for_event("wait", ctx.data.get("event", "paid"))


@pytest.fixture(autouse=True)
def project(alias):
    with hookflow_settings(alias):
        messages()
        yield
        messages()


def ids(runs):
    return set(runs.values_list("run_id", flat=True))


def statuses():
    return dict(waits.runs.values_list("run_id", "status"))


# --- tags


def test_runs_are_found_by_all_of_their_tags(alias):
    one = waits.trigger(tags={"order": 42, "shop": "eu"})
    two = waits.trigger(tags={"order": "42", "shop": "us"})
    many = waits.trigger_many([Start({}, tags={"order-id": "7"}), Start({}), {}])
    assert ids(waits.runs.tagged(order="42")) == {one, two}
    assert ids(waits.runs.tagged(order=42, shop="eu")) == {one}
    assert ids(waits.runs.tagged(order="42", shop="EU")) == set()
    assert ids(waits.runs.tagged(order="4")) == set()
    assert ids(waits.runs.tagged(**{"order-id": 7})) == {many[0]}
    assert ids(WorkflowRun.objects.using(alias).tagged(order=42)) == {one, two}
    assert waits.runs.tagged(order=42).count() == 2
    assert {str(tag) for tag in row(one, alias).tags.all()} == {"order=42", "shop=eu"}
    assert async_to_sync(waits.atrigger)(tags={"a": "b"}) in ids(waits.runs.tagged(a="b"))


def test_a_run_that_is_there_already_keeps_its_tags(alias):
    waits.trigger(run_id="r", tags={"order": "1"})
    waits.trigger(run_id="r", tags={"order": "2"})
    assert [str(tag) for tag in WorkflowTag.objects.using(alias)] == ["order=1"]


def test_tags_that_cannot_be_written_start_nothing(alias):
    with pytest.raises(TypeError, match="the value of tag 'order'"):
        waits.trigger(tags={"order": None})
    with pytest.raises(ValueError, match=r"items\[1\]: a tag's key"):
        waits.trigger_many([{}, Start({}, tags={"": "x"})])
    assert waits.runs.count() == 0


# --- where runs stand


def test_runs_that_wait_for_an_event_are_found_by_its_exact_name(alias):
    names = ["paid", "Paid", "paid ", "paid2", "unpaid", "a%d", "a\nb", "p\u00e4id"]
    runs = {name: waits.trigger({"event": name}) for name in names}
    assert ids(waits.runs.waiting_for("paid")) == set(), "none has asked for it yet"
    drain(Client())
    for name, run_id in runs.items():
        assert ids(waits.runs.waiting_for(name)) == {run_id}, name
    assert ids(waits.runs.waiting_for("b")) == set()
    row(runs["paid"], alias).pause()
    assert ids(waits.runs.waiting_for("paid")) == {runs["paid"]}
    row(runs["paid"], alias).cancel()
    assert ids(waits.runs.waiting_for("paid")) == set()
    with pytest.raises(ValueError, match="an event's name"):
        waits.runs.waiting_for("")


def test_where_runs_stand(alias):
    def altered(**facts):
        run_id = waits.trigger()
        waits.runs.filter(run_id=run_id).update(**facts)
        return run_id

    now, minute = timezone.now(), timedelta(minutes=1)
    held = altered(status="running", lease_until=now + minute, due_at=now + minute)
    lost = altered(status="running", lease_until=now - minute, due_at=now - minute)
    blocked = altered(status="suspended", blocked="expected a", due_at=now + minute)
    paused = altered(status="paused", blocked="expected a", due_at=None)
    late = altered(status="pending", due_at=now - minute)
    over = altered(status="cancelled", due_at=None, finished_at=now, blocked="x")
    assert ids(waits.runs.running()) == {held}
    assert ids(waits.runs.blocked()) == {blocked, paused}
    assert ids(waits.runs.overdue()) == {lost, late}
    assert ids(waits.runs.overdue(by=timedelta(hours=1))) == set()
    assert ids(waits.runs.active()) == {held, lost, blocked, late}
    assert over not in ids(waits.runs.active())


# --- controls of many


@pytest.fixture
def some(alias, monkeypatch):
    """Runs that wait, one that is over and one that has failed; pages of two."""
    monkeypatch.setattr(batches, "PAGE", 2)
    waiting = [waits.trigger({}, tags={"of": "some"}) for _ in range(5)]
    over, failed = waits.trigger({}), waits.trigger({"fail": True})
    drain(Client())
    row(over, alias).send_event("paid", 1)
    drain(Client())
    assert statuses()[over] == "completed"
    return waiting, over, failed


def test_a_reversed_queryset_reaches_all_of_its_runs_too(call, some):
    assert call(waits.runs.order_by("pk").reverse(), "pause") == 5
    assert call(waits.runs.reverse(), "resume") == 5


def test_many_are_paused_resumed_and_cancelled_each_by_its_own_row(call, alias, some):
    waiting, over, failed = some
    runs = waits.runs.all()
    assert call(runs, "pause") == 5
    assert call(runs, "pause") == 0
    assert {statuses()[id] for id in waiting} == {"paused"}
    assert call(runs.tagged(of="some").exclude(run_id=waiting[0]), "resume") == 4
    assert len(messages()) == 4
    assert call(runs, "resume") == 1
    assert len(messages()) == 1
    assert call(runs.filter(status="suspended"), "cancel") == 5
    assert call(runs, "cancel") == 0
    assert statuses() == {
        **dict.fromkeys(waiting, "cancelled"),
        over: "completed",
        failed: "failed",
    }


def test_many_are_retried(call, alias, some):
    again = waits.trigger({"fail": True})
    drain(Client())
    assert call(waits.runs.filter(status="failed"), "retry") == 2
    assert len(messages()) == 2
    assert statuses()[again] == "suspended"
    assert call(waits.runs.all(), "retry") == 0


def test_a_run_that_moves_on_meanwhile_is_not_counted(call, alias, some):
    waiting, *_ = some
    chosen = waits.runs.filter(status="suspended").order_by("-pk")

    class Overtaken(type(chosen)):
        """Its first page is read, then somebody cancels a run of it."""

        def __iter__(self):
            found = list(super().__iter__())
            row(waiting[0], alias).cancel() if statuses()[waiting[0]] == "suspended" else None
            return iter(found)

    chosen.__class__ = Overtaken
    assert call(chosen, "pause") == 4
    assert statuses()[waiting[0]] == "cancelled"


def test_a_slice_and_a_union_are_what_they_are(call, alias, some):
    waiting, *_ = some
    first = waits.runs.filter(status="suspended").order_by("pk")[:3]
    assert call(first, "pause") == 3
    assert {id for id, status in statuses().items() if status == "paused"} == set(waiting[:3])
    runs = waits.runs.order_by()
    both = runs.filter(run_id=waiting[0]).union(runs.filter(run_id=waiting[4]))
    assert call(both, "cancel", compensate=False) == 2


def test_within_a_transaction_all_or_nothing_happens(call, alias, some):
    class Undo(Exception):
        pass

    with pytest.raises(Undo), transaction.atomic(using=alias):
        assert call(waits.runs.all(), "pause") == 5
        raise Undo
    assert "paused" not in statuses().values()
    waits.runs.all().pause()
    with transaction.atomic(using=alias):
        assert call(waits.runs.all(), "resume") == 5
        assert messages() == []
    assert len(messages()) == 5


def test_pages_are_read_one_after_the_other(alias, some):
    with CaptureQueriesContext(connections[alias]) as captured:
        assert waits.runs.filter(status="suspended").pause() == 5
    reads = [q["sql"] for q in captured.captured_queries if q["sql"].startswith("SELECT")]
    assert len(reads) == 4, "three pages of two, and the end"
    assert all("LIMIT 2" in sql for sql in reads)


def test_nothing_is_done_to_every_run_there_is_by_a_manager_or_a_template(alias, some):
    for name in ("cancel", "pause", "resume", "retry", "acancel", "apause"):
        assert not hasattr(WorkflowRun.objects, name)
    run = row(some[0][0], alias)
    shown = Template("{{ runs.cancel }}{{ run.cancel }}{{ run.pause }}{{ run.run_id }}").render(
        Context({"runs": waits.runs.all(), "run": run})
    )
    assert run.run_id in shown
    assert "cancelled" not in statuses().values()
    assert "paused" not in statuses().values()
    assert post(Client(), wake(run.run_id, 1, alias)).status_code == 200
