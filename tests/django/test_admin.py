"""Runs in the admin: who may see and do what, what pages cost, and that nothing breaks them."""

import re
from datetime import timedelta
from html import unescape

import pytest
from asgiref.sync import sync_to_async
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from django_hookflow import TerminalError, workflow
from django_hookflow.admin import WorkflowRunAdminMixin
from django_hookflow.admin.acting import AT_ONCE
from django_hookflow.admin.listing import MOST
from django_hookflow.admin.page import STEPS_PER_PAGE
from django_hookflow.core.entries import ErrorRecord
from django_hookflow.models import WorkflowRun, WorkflowStep

from .command import Rows, ago
from .harness import drain, hookflow_settings, messages, post

pytestmark = pytest.mark.django_db(databases="__all__")

LIST = "/admin/django_hookflow/workflowrun/"
ALL = (
    "view_workflowrun",
    "cancel_workflowrun",
    "pause_workflowrun",
    "retry_workflowrun",
    "view_payload",
)
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "</pre><svg onload=alert(1)>",
    "{{ 7|add:7 }}{% load x %}",
    "javascript:alert(1)",
    "</details></td></tr></table><b>",
)


def url(run: WorkflowRun, verb: str = "change") -> str:
    return reverse(f"admin:django_hookflow_workflowrun_{verb}", args=[run.pk])


def user_of(*codenames: str, staff: bool = True) -> Client:
    name = "-".join(codenames) or "nobody"
    user = User.objects.create_user(name if staff else f"{name}-visitor", is_staff=staff)
    found = Permission.objects.filter(codename__in=codenames)
    assert len(found) == len(codenames)
    user.user_permissions.set(found)
    client = Client()
    client.force_login(user)
    return client


def text_of(response) -> str:
    """What the page says, without its markup."""
    assert response.status_code == 200, response
    body = re.sub(r"<[^>]*>", " ", response.content.decode().replace("<wbr>", ""))
    return " ".join(unescape(body).split())


def said(response) -> list[str]:
    return [str(message) for message in response.context["messages"]]


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def boss() -> Client:
    return user_of(*ALL)


def secret_run(rows: Rows) -> WorkflowRun:
    run = rows.run(
        "order-1", "failed", data={"card": "4111-data"}, state={"x": "state-secret"},
        result="result-secret", finished_at=ago(1),
        error={"type": "Declined", "message": "run-secret", "step": "charge"},
    )  # fmt: skip
    error = ErrorRecord(type="Declined", message="step-secret", response={"body": "answer-secret"})
    rows.step(run, "charge", "failed", attempts=4, error=error, started_at=ago(2))
    rows.step(run, "reserve", result="kept-secret", started_at=ago(3), finished_at=ago(2))
    return run


SECRETS = ["4111-data", "state-secret", "result-secret", "run-secret", "step-secret"]
SECRETS += ["answer-secret", "kept-secret"]


# --- who may see and do what


@pytest.mark.parametrize("who", ["anonymous", "visitor", "staff"])
def test_who_may_not_view_sees_nothing_and_does_nothing(rows: Rows, who: str) -> None:
    run = rows.run("order-1", "pending")
    clients = {
        "anonymous": Client,
        # Even with every permission: the admin is for staff.
        "visitor": lambda: user_of(*ALL, staff=False),
        "staff": user_of,
    }
    client = clients[who]()
    refused = 403 if who == "staff" else 302
    chosen = {"action": "cancel_selected", "_selected_action": [str(run.pk)], "confirmed": "yes"}
    answers = [
        client.get(LIST),
        client.post(LIST, chosen),
        *(client.get(url(run, verb)) for verb in ("change", "cancel", "retry", "history")),
        *(client.post(url(run, verb)) for verb in ("change", "cancel", "retry")),
    ]
    assert {answer.status_code for answer in answers} == {refused}
    assert all("/login/" in answer.url for answer in answers if refused == 302)
    run.refresh_from_db()
    assert run.status == "pending"


def test_who_may_only_view_sees_runs_and_no_buttons(rows: Rows) -> None:
    runs = [rows.run("order-1", "pending"), rows.run("order-2", "failed")]
    client = user_of("view_workflowrun")
    page = client.get(LIST).content.decode()
    assert "order-1" in page
    assert "cancel_selected" not in page
    assert "retry_selected" not in page
    for run in runs:
        shown = client.get(url(run)).content.decode()
        assert url(run, "cancel") not in shown
        assert url(run, "retry") not in shown
        for verb in ("cancel", "retry"):
            assert client.get(url(run, verb)).status_code == 403
            assert client.post(url(run, verb)).status_code == 403
        run.refresh_from_db()
    assert [run.status for run in runs] == ["pending", "failed"]


@pytest.mark.parametrize(
    ("may", "other"),
    [
        ("cancel", "retry"),
        ("retry", "cancel"),
        ("pause", "cancel"),
        ("cancel", "pause"),
        ("retry", "resume"),
    ],
)
def test_one_permission_does_not_give_the_other(rows: Rows, may: str, other: str) -> None:
    run = rows.run("order-1", "failed" if may == "retry" else "pending")
    client = user_of("view_workflowrun", f"{may}_workflowrun")
    page = client.get(LIST).content.decode()
    assert f'value="{may}_selected"' in page
    assert f'value="{other}_selected"' not in page
    assert url(run, may) in client.get(url(run)).content.decode()
    assert client.get(url(run, may)).status_code == 200
    assert client.post(url(run, other)).status_code == 403
    client.post(
        LIST,
        {"action": f"{other}_selected", "_selected_action": [str(run.pk)], "confirmed": "yes"},
    )
    before = run.status
    run.refresh_from_db()
    assert run.status == before


def test_to_cancel_takes_the_permission_to_view_too(rows: Rows) -> None:
    run = rows.run("order-1", "pending")
    assert user_of("cancel_workflowrun").post(url(run, "cancel")).status_code == 403


def test_nobody_adds_changes_or_deletes(rows: Rows) -> None:
    run = rows.run("order-1", "completed")
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    assert client.get(f"{LIST}add/").status_code == 403
    assert client.get(url(run, "delete")).status_code == 403
    assert client.post(url(run, "delete"), {"post": "yes"}).status_code == 403
    assert client.post(url(run), {"run_id": "other"}).status_code == 405
    assert "delete_selected" not in client.get(LIST).content.decode()
    assert WorkflowRun.objects.get().run_id == "order-1"


def test_values_and_messages_take_a_permission_of_their_own(rows: Rows, boss: Client) -> None:
    run = secret_run(rows)
    seen = text_of(boss.get(LIST)) + text_of(boss.get(url(run)))
    assert [secret for secret in SECRETS if secret not in seen] == []

    viewer = user_of("view_workflowrun")
    pages = [viewer.get(LIST), viewer.get(url(run)), viewer.get(url(run, "history"))]
    bodies = "".join(page.content.decode() for page in pages)
    assert [secret for secret in SECRETS if secret in bodies] == []
    shown = text_of(pages[1])
    assert "Declined: (message hidden)" in shown
    assert "Can view data, results and error messages of workflow runs" in shown


def test_the_error_of_a_step_that_is_tried_again_is_hidden_too(rows: Rows) -> None:
    run = rows.run("order-1", "suspended")
    error = ErrorRecord(type="Busy", message="step-secret")
    rows.step(run, "charge", "pending", attempts=1, wake_at=ago(-60), error=error)
    viewer = user_of("view_workflowrun")
    for page in (viewer.get(LIST), viewer.get(url(run))):
        assert "Busy: (message hidden)" in text_of(page)
        assert "step-secret" not in page.content.decode()


def test_without_the_permission_values_are_not_even_read(rows: Rows) -> None:
    run = secret_run(rows)
    viewer = user_of("view_workflowrun")
    with CaptureQueriesContext(connections["default"]) as queries:
        viewer.get(url(run))
    columns = '."data"', '."result"', '."state"'
    told = [query["sql"] for query in queries if any(column in query["sql"] for column in columns)]
    assert told == []


@pytest.mark.parametrize(
    "lookup",
    ["data__startswith", "error__contains", "steps__result__contains", "result", "events__payload"],
)
def test_the_address_cannot_ask_for_a_hidden_value(rows: Rows, lookup: str) -> None:
    secret_run(rows)
    assert user_of("view_workflowrun").get(LIST, {lookup: '{"card"'}).status_code == 400


# --- the list


def test_the_list_says_how_each_run_stands(rows: Rows, boss: Client) -> None:
    run = rows.run("order-1", "suspended", created_at=ago(125))
    rows.step(run, "reserve", started_at=ago(100), finished_at=ago(99))
    rows.step(run, "old", superseded=True, started_at=ago(100), finished_at=ago(99))
    rows.step(run, "approval", "pending", kind="event", event="approved", started_at=ago(99))
    rows.run("order-2", "running", lease_until=ago(100))
    page = text_of(boss.get(LIST))
    assert 'suspended waits in "approval" for event "approved"' in page
    assert re.search(r"2m 5s 1\b", page)
    assert "lost its process went silent at" in page


def test_the_number_of_queries_is_that_of_one_row(rows: Rows, boss: Client) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connections["default"]) as queries:
            assert boss.get(LIST).status_code == 200
        return len(queries)

    def add(number: int) -> None:
        for n in range(number):
            run = rows.run(f"order-{rows.made}", "suspended")
            rows.step(run, f"nap-{n}", "pending", kind="sleep", wake_at=ago(-60))
            rows.step(run, "done", result=n)

    add(1)
    first = cost()
    add(40)
    assert cost() == first <= 9


def test_the_list_reads_no_values(rows: Rows, boss: Client) -> None:
    secret_run(rows)
    with CaptureQueriesContext(connections["default"]) as queries:
        boss.get(LIST)
    told = [q["sql"] for q in queries if re.search(r'"(data|result|state)"', q["sql"])]
    assert told == []


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, "abcdef"),
        ({"status": "running"}, "b"),
        ({"status": "lost"}, "c"),
        ({"status": "failed"}, "d"),
        ({"blocked": "yes"}, "e"),
        ({"blocked": "no"}, "abcdf"),
        ({"workflow": "shop.other"}, "f"),
        ({"workflow": "no such one"}, ""),
        ({"q": "a-"}, "a"),
        ({"q": "-1"}, ""),
        ({"q": "%"}, ""),
        ({"q": "a- 1"}, ""),
        ({"status": "failed", "q": "a"}, ""),
    ],
)
def test_filters_and_search_choose(
    rows: Rows, boss: Client, filters: dict[str, str], found: str
) -> None:
    rows.run("a-1", "completed", blocked="once, long ago")
    rows.run("b-1", "running", lease_until=ago(-100))
    rows.run("c-1", "running", lease_until=ago(100))
    rows.run("d-1", "failed")
    rows.run("e-1", "suspended", blocked="expected a, got b")
    rows.run("f-1", "paused", workflow_id="shop.other")
    page = boss.get(LIST, filters)
    assert page.status_code == 200
    assert sorted(run.run_id[0] for run in page.context["cl"].result_list) == list(found)


def test_a_run_is_found_by_the_key_of_log_lines(rows: Rows, boss: Client) -> None:
    run = rows.run("a-1")
    rows.run("a-2")
    page = boss.get(LIST, {"q": str(run.pk)})
    assert [found.run_id for found in page.context["cl"].result_list] == ["a-1"]


@pytest.mark.parametrize("name", ["workflow", "status", "blocked", "q", "o", "p", "seed__x"])
@pytest.mark.parametrize("value", ["\0", "\ud800".encode("utf-8", "surrogatepass"), "9" * 5000])
def test_hostile_addresses_are_answered(alias: str, boss: Client, name: str, value: str) -> None:
    with hookflow_settings(alias):
        assert boss.get(LIST, {name: value}).status_code in {200, 302, 400}


def test_what_is_not_indexed_cannot_be_sorted_by(rows: Rows, boss: Client) -> None:
    rows.run("order-1")
    page = boss.get(LIST).content.decode()
    assert set(re.findall(r'href="\?o=-?(\d)', page)) == {"1", "5"}
    for column in "234567":
        ordered = boss.get(LIST, {"o": column}).context["cl"].queryset.query.order_by
        assert {name.lstrip("-") for name in ordered} <= {"id", "pk"}


def test_a_million_rows_are_not_counted(rows: Rows, boss: Client) -> None:
    rows.run("order-1")
    with CaptureQueriesContext(connections["default"]) as queries:
        boss.get(LIST)
    counts = [q["sql"] for q in queries if "COUNT(*)" in q["sql"] and "workflowrun" in q["sql"]]
    assert [f"LIMIT {MOST}" in sql for sql in counts] == [True]


# --- one run


def test_a_run_with_its_steps_in_order(rows: Rows, boss: Client) -> None:
    run = rows.run("order-1", "suspended", state={"stage": "paying"}, started_at=ago(50))
    rows.step(run, "later", "pending")
    rows.step(run, "second", attempts=2, started_at=ago(8), finished_at=ago(4), result=[1, 2])
    rows.step(run, "first", started_at=ago(9), finished_at=ago(8), result="x", superseded=True)
    page = boss.get(url(run))
    assert re.findall(r'<th scope="row">(\w+)', page.content.decode()) == [
        "first", "second", "later",
    ]  # fmt: skip
    shown = text_of(page)
    assert 'waits for run "later"' in shown
    assert re.search(r"first run superseded \S \S+ \S+ 1\.0s \"x\"", shown)
    assert re.search(r"second run completed 2 \S+ \S+ 4\.0s \[1, 2\]", shown)
    assert '{"stage": "paying"}' in shown
    assert 'class="hookflow-row-superseded"' in page.content.decode()


def test_a_run_that_is_not_there_is_told(boss: Client, rows: Rows) -> None:
    gone = rows.run("order-1")
    addresses = [url(gone), url(gone, "cancel"), f"{LIST}no-uuid/change/"]
    WorkflowRun.objects.all().delete()
    for address in addresses:
        page = boss.get(address, follow=True)
        assert page.redirect_chain
        assert "There is no workflow run" in said(page)[0]


def test_a_run_of_ten_thousand_steps_opens(rows: Rows, boss: Client) -> None:
    run = rows.run("big", "failed", error={"type": "E", "message": "m", "step": "row"})
    WorkflowStep.objects.bulk_create(
        [
            WorkflowStep(
                workflow_run=run, key=f"row#{n}", step_id="row", occurrence=n, kind="run",
                status="failed" if n == 9_871 else "completed", started_at=ago(20_000 - n),
                finished_at=ago(20_000 - n), result="x" * 5000 if n < 50 else n,
                error=ErrorRecord(type="E", message="no price") if n == 9_871 else None,
            )
            for n in range(1, 10_001)
        ],
        batch_size=500,
    )  # fmt: skip
    with CaptureQueriesContext(connections["default"]) as queries:
        page = boss.get(url(run))
    shown = page.content.decode()
    assert len(queries) <= 12
    assert len(shown) < 1_000_000
    assert shown.count('class="hookflow-row-') == STEPS_PER_PAGE + 1
    # The failed one is on the 50th page, and visible at once.
    assert shown.index("row#9871") < shown.index("row#2<")
    assert "?steps=50" in shown
    last = boss.get(url(run), {"steps": "50"})
    assert "row#10000" in last.content.decode()
    for wrong in ("0", "999", "-1", "x", "\0"):
        assert boss.get(url(run), {"steps": wrong}).status_code == 200


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_out_of_a_row_becomes_markup(rows: Rows, boss: Client, hostile: str) -> None:
    run = rows.run(
        hostile, "failed", workflow_id=hostile, version=hostile, blocked=hostile,
        data={hostile: hostile}, result=[hostile], state=hostile,
        error={"type": hostile, "message": hostile, "step": hostile},
    )  # fmt: skip
    error = ErrorRecord(type=hostile, message=hostile, response={hostile: hostile})
    rows.step(run, hostile, "failed", kind="event", event=hostile, result=hostile, error=error)
    waiting = rows.run(f"{hostile}2", "suspended", blocked=hostile, workflow_id=hostile)
    rows.step(waiting, hostile, "pending", kind="call", wake_at=ago(-9), attempts=1, error=error)
    boss.post(url(waiting, "cancel"))
    pages = [
        boss.get(LIST, {"workflow": hostile, "q": hostile}),
        boss.get(url(run)),
        boss.get(url(run, "retry")),
        boss.get(url(waiting, "history")),
        boss.post(LIST, {"action": "cancel_selected", "_selected_action": [str(run.pk)]}),
        boss.get(url(waiting, "cancel")),
    ]
    for page in pages:
        body = page.content.decode()
        assert escape(hostile) in body
        assert escape(hostile) == hostile or hostile not in body.replace("javascript:", "")
        assert 'href="javascript:' not in body


def test_pages_hold_no_inline_script_or_style(rows: Rows, boss: Client) -> None:
    run = secret_run(rows)
    for address in (LIST, url(run), url(run, "retry")):
        body = boss.get(address).content.decode()
        assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>", body) == []
        assert re.findall(r"<style|\sstyle=|\son\w+=", body) == []


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("{broken", "{broken"),
        ('{"$":"nothing we know"}', '{"$":"nothing we know"}'),
        ('{"$":"enum","t":"shop.Colour","v":"RED"}', "shop.Colour"),
        ("[" * 5_000, "[[["),
        ('"\\ud800"', "\\ud800"),
        ('"\\u0000"', "\\u0000"),
        ("NaN", "NaN"),
        ('{"$":"decimal","v":"9.90"}', "Decimal('9.90')"),
        ('{"$":"tuple","v":[1,2]}', "(1, 2)"),
        ("[" * 140 + "1" + ",1" * 900 + "]" * 140, "[[["),
    ],
)
def test_any_stored_value_has_a_page(rows: Rows, boss: Client, stored: str, shown: str) -> None:
    run = rows.run("order-1")
    step = rows.step(run, "charge", "failed", started_at=ago(1), finished_at=ago(1))
    table, steps = WorkflowRun._meta.db_table, WorkflowStep._meta.db_table
    with connections["default"].cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET data = %s, result = %s, state = %s", [stored] * 3)
        cursor.execute(
            f"UPDATE {steps} SET result = %s, error = %s WHERE id = %s", [stored, stored, step.pk]
        )
    page = boss.get(url(run))
    assert shown in text_of(page)
    assert len(page.content) < 400_000
    assert boss.get(LIST).status_code == 200


def test_large_values_are_cut_by_the_database(rows: Rows, boss: Client, alias: str) -> None:
    with hookflow_settings(alias):
        run = run_on(alias, rows, "order-1", data={"blob": "x" * 1_000_000})
        error = ErrorRecord(type="E", message="told " * 300, response={"body": "y" * 500_000})
        WorkflowStep.objects.using(alias).create(
            workflow_run=run, key="call#1", step_id="call", kind="call", status="failed",
            error=error, result="z" * 500_000,
        )  # fmt: skip
        page = boss.get(url(run))
    assert len(page.content) < 100_000
    shown = text_of(page)
    assert f"The beginning of {1_000_000 + len('{~blob~:~~}')} characters" in shown
    assert "told told told" in shown
    assert '"raises"' not in shown


# --- cancel and retry


def refuse():
    raise TerminalError("out of stock")


@workflow(workflow_id="tests.admin.flow")
def flow(ctx):
    ctx.step.sleep("nap", 3600)


@workflow(workflow_id="tests.admin.failing")
def failing(ctx):
    ctx.step.run("reserve", refuse)


@pytest.fixture
def project(alias):
    with hookflow_settings(alias):
        messages()
        yield
        messages()


def run_on(alias: str, rows: Rows, run_id: str, status: str = "completed", **columns):
    made = rows.run(run_id, status, **columns)
    if alias != "default":
        WorkflowRun.objects.filter(pk=made.pk).delete()
        made.save(using=alias, force_insert=True)
    return made


def get(alias: str, run_id: str) -> WorkflowRun:
    return WorkflowRun.objects.using(alias).get(run_id=run_id)


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_cancel_asks_and_then_cancels_and_says_who_did(project, alias, boss) -> None:
    run = get(alias, flow.trigger(run_id="order-1"))
    asked = boss.get(url(run, "cancel"))
    assert "Cancel this run?" in text_of(asked)
    assert get(alias, "order-1").status == "pending"
    done = boss.post(url(run, "cancel"), follow=True)
    assert done.redirect_chain == [(url(run), 302)]
    assert said(done) == ["1 run was cancelled."]
    assert get(alias, "order-1").status == "cancelled"
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.object_id) == ("-".join(ALL), str(run.pk))
    assert "Cancelled the run." in text_of(boss.get(url(run, "history")))


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_a_run_is_paused_and_resumed(project, alias, boss) -> None:
    run = get(alias, flow.trigger(run_id="order-1"))
    assert url(run, "resume") not in boss.get(url(run)).content.decode()
    assert "until it is resumed" in text_of(boss.get(url(run, "pause")))
    assert said(boss.post(url(run, "pause"), follow=True)) == ["1 run is paused."]
    assert get(alias, "order-1").status == "paused"
    page = boss.get(url(run)).content.decode()
    assert url(run, "pause") not in page
    assert url(run, "resume") in page
    chosen = {"action": "resume_selected", "_selected_action": [str(run.pk)], "confirmed": "1"}
    assert said(boss.post(LIST, chosen, follow=True)) == ["1 run goes on."]
    assert get(alias, "order-1").status == "suspended"
    assert "Paused the run." in text_of(boss.get(url(run, "history")))


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_retry_lets_a_failed_run_go_on(project, alias, boss) -> None:
    run = get(alias, failing.trigger(run_id="order-1"))
    drain(Client())
    assert get(alias, "order-1").status == "failed"
    assert url(run, "cancel") not in boss.get(url(run)).content.decode()
    done = boss.post(url(run, "retry"), follow=True)
    assert said(done) == ["1 run goes on."]
    assert get(alias, "order-1").status in {"pending", "suspended"}
    assert [entry.get_change_message() for entry in LogEntry.objects.all()] == ["Retried the run."]
    drain(Client())
    shown = boss.get(url(run)).content.decode()
    assert shown.count("hookflow-row-superseded") == 1
    assert shown.count("hookflow-row-failed") == 1


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_what_one_run_refuses_is_told_and_the_others_are_done(project, alias, boss) -> None:
    for number in range(3):
        flow.trigger(run_id=f"order-{number}")
    get(alias, "order-1").cancel()
    keys = [str(get(alias, f"order-{n}").pk) for n in range(3)]
    chosen = {"action": "cancel_selected", "_selected_action": keys}
    asked = boss.post(LIST, chosen)
    assert "Cancel these 3 runs?" in text_of(asked)
    assert get(alias, "order-0").status == "pending"
    done = boss.post(LIST, {**chosen, "confirmed": "yes"}, follow=True)
    assert [get(alias, f"order-{n}").status for n in range(3)] == ["cancelled"] * 3
    told = said(done)
    assert told[0] == "2 runs were cancelled."
    assert re.fullmatch(r"order-1: run \S+ is cancelled; it cannot be cancelled any more", told[1])
    assert LogEntry.objects.count() == 2
    again = boss.post(LIST, {**chosen, "action": "retry_selected", "confirmed": "1"}, follow=True)
    assert len(said(again)) == 3
    assert all("only a failed run can be retried" in text for text in said(again))


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_what_was_asked_about_is_done_although_the_filter_has_moved_on(
    project, alias, boss
) -> None:
    run = get(alias, flow.trigger(run_id="order-1"))
    for message in messages():
        assert post(Client(), message.body.encode()).status_code == 200
    assert get(alias, "order-1").status == "suspended"
    chosen = {"action": "cancel_selected", "_selected_action": [str(run.pk)], "confirmed": "yes"}
    boss.post(f"{LIST}?status=pending", chosen)
    assert get(alias, "order-1").status == "cancelled"


def test_many_refusals_are_summed_up(rows: Rows, boss: Client) -> None:
    keys = [str(rows.run(f"order-{n}", "completed").pk) for n in range(14)]
    chosen = {"action": "cancel_selected", "_selected_action": keys, "confirmed": "yes"}
    told = said(boss.post(LIST, chosen, follow=True))
    assert len(told) == 11
    assert told[-1] == "4 more were refused."


def test_more_runs_than_one_request_can_do_are_not_begun(rows: Rows, boss: Client) -> None:
    for n in range(AT_ONCE + 1):
        rows.run(f"order-{n}", "pending")
    key = str(WorkflowRun.objects.first().pk)
    chosen = {"action": "cancel_selected", "_selected_action": [key], "select_across": "1"}
    done = boss.post(LIST, chosen, follow=True)
    assert said(done) == [f"Choose at most {AT_ONCE} runs at a time."]


def test_a_forged_post_is_refused(rows: Rows) -> None:
    run = rows.run("order-1", "pending")
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root"))
    assert client.post(url(run, "cancel")).status_code == 403
    run.refresh_from_db()
    assert run.status == "pending"


# --- where the journal is


def test_every_read_is_one_of_the_journals_alias(rows: Rows, boss: Client, alias: str) -> None:
    with hookflow_settings(alias):
        run = run_on(alias, rows, "order-1", "suspended", due_at=timezone.now() + timedelta(1))
        WorkflowStep.objects.using(alias).create(
            workflow_run=run, key="nap#1", step_id="nap", kind="sleep", wake_at=ago(-99)
        )
        others = [name for name in connections if name != alias]
        watched = [CaptureQueriesContext(connections[name]) for name in others]
        for capture in watched:
            capture.__enter__()
        pages = [boss.get(LIST), boss.get(url(run)), boss.get(url(run, "cancel"))]
        for capture in watched:
            capture.__exit__(None, None, None)
    assert all("order-1" in text_of(page) for page in pages)
    assert 'sleeps in "nap"' in text_of(pages[0])
    stray = [q["sql"] for capture in watched for q in capture if "workflow" in q["sql"]]
    assert [sql for sql in stray if "django_hookflow" in sql and "auth_" not in sql] == []


@pytest.mark.parametrize("page", ["list", "run"])
async def test_the_pages_are_served_under_asgi_too(rows: Rows, page: str) -> None:
    run = await sync_to_async(rows.run)("order-1", "pending")
    client = AsyncClient()
    user = await sync_to_async(User.objects.create_superuser)("root")
    await sync_to_async(client.force_login)(user)
    answer = await client.get(LIST if page == "list" else url(run))
    assert "waits for its first delivery" in text_of(answer)


# --- in other admins


def test_the_mixin_goes_into_another_model_admin(rows: Rows, boss: Client) -> None:
    class Themed(admin.ModelAdmin):
        themed = True

    class ThemedRuns(WorkflowRunAdminMixin, Themed):
        list_display = (*WorkflowRunAdminMixin.list_display, "version")
        list_filter = (*WorkflowRunAdminMixin.list_filter, "version")

    site = admin.AdminSite(name="other")
    site.register(WorkflowRun, ThemedRuns)
    run_admin = site.get_model_admin(WorkflowRun) if hasattr(site, "get_model_admin") else (
        site._registry[WorkflowRun]
    )  # fmt: skip
    assert run_admin.themed
    assert run_admin.check() == []
    assert run_admin.lookup_allowed("version__exact", "1")
    assert not run_admin.lookup_allowed("data__startswith", "x")
    assert "django_hookflow/admin.css" in str(run_admin.media)


def test_runs_are_the_only_rows_in_the_admin() -> None:
    ours = [m.__name__ for m in admin.site._registry if m._meta.app_label == "django_hookflow"]
    assert ours == ["WorkflowRun"]
