"""``manage.py hookflow runs``: what it lists, filters and says."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_hookflow import workflow
from django_hookflow.core.entries import ErrorRecord
from tests.django.command import MEMORY, Rows, ago, hookflow, hookflow_json

pytestmark = pytest.mark.django_db


@pytest.fixture
def rows() -> Rows:
    return Rows()


@workflow(workflow_id="tests.command.listed")
def listed(ctx: Any) -> None:
    ctx.step.sleep("nap", seconds=3600)


def ids(*arguments: str) -> list[str]:
    return [run["run_id"] for run in hookflow_json("runs", *arguments)]


def test_nothing_there() -> None:
    assert "No runs" in hookflow("runs")
    assert hookflow_json("runs") == []


def test_the_newest_come_first_and_the_limit_says_that_there_are_more(rows: Rows) -> None:
    for number in range(4):
        rows.run(f"run-{number}")
    assert ids() == ["run-3", "run-2", "run-1", "run-0"]
    assert ids("--limit", "2") == ["run-3", "run-2"]
    assert "--limit shows more" in hookflow("runs", limit=2)
    assert "--limit" not in hookflow("runs", limit=4)


@pytest.mark.parametrize("limit", ["0", "-1", "x", "²"])
def test_a_limit_is_a_number_above_0(limit: str) -> None:
    with pytest.raises(CommandError, match="limit"):
        hookflow("runs", "--limit", limit)


def test_status_filters_by_what_is_shown(rows: Rows) -> None:
    rows.run("done")
    rows.run("asleep", "suspended")
    rows.run("works", "running", lease_until=ago(-60))
    rows.run("silent", "running", lease_until=ago(60))
    rows.run("never-held", "running")
    assert ids("--status", "completed") == ["done"]
    assert ids("--status", "running") == ["works"]
    assert ids("--status", "lost") == ["never-held", "silent"]
    assert ids("--status", "lost", "--status", "suspended") == ["never-held", "silent", "asleep"]
    with pytest.raises(CommandError, match="invalid choice"):
        hookflow("runs", "--status", "done")


def test_a_workflow_is_named_by_its_id_or_the_last_part_of_it(rows: Rows) -> None:
    rows.run("a")
    rows.run("b", workflow_id="shop.workflows.reprocess_order")
    assert ids("--workflow", "shop.workflows.process_order") == ["a"]
    assert ids("--workflow", "process_order") == ["a"]
    assert ids("--workflow", "order") == []


def test_options_may_be_given_to_call_command_by_name(rows: Rows) -> None:
    rows.run("a")
    rows.run("b", "failed")
    out = StringIO()
    call_command("hookflow", "runs", json=True, status=["failed"], stdout=out)
    assert '"run_id": "b"' in out.getvalue()
    assert '"run_id": "a"' not in out.getvalue()


def test_the_json_of_a_run(rows: Rows) -> None:
    run = rows.run(
        "r", "failed", finished_at=ago(10), started_at=ago(14),
        error=ErrorRecord(type="shop.OutOfStock", message="none left", step="reserve"),
    )  # fmt: skip
    rows.step(run, "validate")
    rows.step(run, "reserve", "failed")
    rows.step(run, "old", superseded=True)
    (shown,) = hookflow_json("runs")
    assert shown.pop("age_seconds") == pytest.approx(60, abs=5)
    assert shown == {
        "run_id": "r",
        "workflow_id": "shop.workflows.process_order",
        "version": "",
        "status": "failed",
        "why": 'failed after 4.0s at step "reserve": OutOfStock: none left',
        "blocked": "",
        "error": {"type": "shop.OutOfStock", "message": "none left", "step": "reserve"},
        "created_at": run.created_at.isoformat(),
        "started_at": run.started_at.isoformat(),
        "finished_at": run.finished_at.isoformat(),
        "next_wake": None,
        "steps_done": 1,
    }


def test_a_triggered_run_waits_for_its_first_delivery(settings: Any) -> None:
    settings.DJANGO_HOOKFLOW_TRANSPORT = MEMORY
    run_id = listed.trigger()
    (shown,) = hookflow_json("runs")
    assert (shown["run_id"], shown["status"]) == (run_id, "pending")
    assert shown["why"].startswith("waits for its first delivery since ")


def test_a_delayed_run_says_when_it_starts(settings: Any) -> None:
    settings.DJANGO_HOOKFLOW_TRANSPORT = MEMORY
    listed.trigger(delay=3600)
    (shown,) = hookflow_json("runs")
    assert shown["why"].startswith("goes on at ")
    assert shown["next_wake"] is not None


class Waiting:
    """Why a run waits, by its row and its pending steps."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def why(self, *steps: dict[str, Any], **columns: Any) -> str:
        columns = {"status": "suspended", "due_at": ago(-60), **columns}
        run = self._rows.run(f"waiting-{self._rows.made}", **columns)
        for step in steps:
            self._rows.step(run, status="pending", **step)
        return str(hookflow_json("runs")[0]["why"])


@pytest.fixture
def waiting(rows: Rows) -> Waiting:
    return Waiting(rows)


def test_a_sleep_says_until_when(waiting: Waiting) -> None:
    why = waiting.why({"step_id": "nap", "kind": "sleep", "wake_at": ago(-3599)})
    assert why.startswith('sleeps in "nap" until ')
    assert "(in 59m 5" in why


def test_an_event_says_its_name(waiting: Waiting) -> None:
    why = waiting.why({"step_id": "approval", "kind": "event", "event": "approved"}, due_at=None)
    assert why == 'waits in "approval" for event "approved"'


def test_a_retry_says_what_went_wrong(waiting: Waiting) -> None:
    error = ErrorRecord(type="a.b.Declined", message="no funds")
    why = waiting.why(
        {"step_id": "charge", "occurrence": 2, "attempts": 3, "wake_at": ago(-60), "error": error}
    )
    assert why.startswith('tries "charge#2" again at ')
    assert why.endswith("after 3 failed attempt(s): Declined: no funds")


def test_of_many_waits_three_are_told(waiting: Waiting) -> None:
    steps = [{"step_id": f"s{n}", "kind": "event", "event": "e"} for n in range(5)]
    assert waiting.why(*steps).endswith('"s2" for event "e" and 2 more')


def test_a_blocked_run_says_so_before_all_else(waiting: Waiting) -> None:
    why = waiting.why({"step_id": "nap", "kind": "sleep"}, blocked="expected 'a', got 'b'")
    assert why.startswith("is blocked: expected 'a', got 'b'; looked at again at ")


def test_what_was_not_sent_and_what_is_overdue_is_told(waiting: Waiting) -> None:
    assert waiting.why(owed_at=ago(20)).endswith("; its wake-up is not sent yet, owed for 20s")
    late = waiting.why(due_at=ago(120), nudges=2)
    assert late.endswith("; overdue by 2m, sent again 2 time(s)")


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"status": "paused"}, "is paused until somebody calls resume()"),
        ({"status": "running", "lease_until": ago(-600)}, "is executing"),
        ({"status": "cancelled"}, "was cancelled"),
        ({"status": "cancelling"}, "is being cancelled"),
    ],
)
def test_the_other_states(waiting: Waiting, columns: dict[str, Any], why: str) -> None:
    assert waiting.why(**columns) == why


def test_a_lost_run_says_since_when(waiting: Waiting) -> None:
    why = waiting.why(status="running", lease_until=ago(120), due_at=ago(120))
    assert why.startswith("its process went silent at ")
    assert "; overdue by 2m" in why


def test_the_text_fits_a_narrow_and_a_wide_terminal(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = rows.run(
        "01a20562-d03e-783f-a4c9-9a4f5c5407f2", "suspended",
        workflow_id="a.rather.long.path.of.workflows.process_order",
    )  # fmt: skip
    rows.step(run, "nap", "pending", kind="sleep", wake_at=timezone.now() + timedelta(days=2))
    monkeypatch.setenv("COLUMNS", "80")
    narrow = hookflow("runs").splitlines()
    assert max(map(len, narrow)) <= 80
    assert narrow[0].split() == ["run", "workflow", "status", "age", "steps"]
    assert "…process_order" in narrow[1]
    assert narrow[2].startswith('  └ sleeps in "nap" until ')
    monkeypatch.setenv("COLUMNS", "140")
    wide = hookflow("runs").splitlines()
    assert max(map(len, wide)) <= 140
    assert "created" in wide[0]
    assert "a.rather.long.path.of.workflows.process_order" in wide[1]


def test_no_escape_sequence_reaches_the_terminal(rows: Rows) -> None:
    rows.run("r", "suspended", workflow_id="\x1b[31mred\nline", blocked="\x1b]0;title\x07")
    text = hookflow("runs")
    assert "\x1b" not in text
    assert r"red\nline" in text
    assert len(text.splitlines()) == 3


def test_colours_only_when_they_are_forced_or_it_is_a_terminal(rows: Rows) -> None:
    rows.run("r", "failed")
    assert "\x1b[" not in hookflow("runs")
    coloured = StringIO()
    call_command("hookflow", "runs", force_color=True, stdout=coloured)
    assert "\x1b[1;31mfailed" in coloured.getvalue()


@pytest.mark.django_db(databases="__all__")
def test_the_commands_read_the_database_that_holds_the_journal(alias: str, settings: Any) -> None:
    settings.DJANGO_HOOKFLOW_TRANSPORT = MEMORY
    settings.DJANGO_HOOKFLOW_DATABASE = alias
    run_id = listed.trigger(data={"order": 1})
    assert [run["run_id"] for run in hookflow_json("runs", "--status", "pending")] == [run_id]
    assert hookflow_json("show", run_id)["data"] == {"order": 1}
    assert hookflow_json("sweep") == {"sent": 0, "owed": 0}
