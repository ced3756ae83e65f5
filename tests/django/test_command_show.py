"""``manage.py hookflow show``: one run, its values and its timeline."""

from datetime import timedelta
from decimal import Decimal
from io import BytesIO, StringIO, TextIOWrapper
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_hookflow.core.entries import ErrorRecord
from django_hookflow.models import WorkflowRun
from tests.django.command import Rows, ago, hookflow, hookflow_json

pytestmark = pytest.mark.django_db


@pytest.fixture
def order() -> WorkflowRun:
    """Validated, slept a minute, charged at the second attempt."""
    rows = Rows()
    run = rows.run(
        "order-1", created_at=ago(100), started_at=ago(99), finished_at=ago(20),
        result={"status": "completed", "total": Decimal("9.90")}, state={"stage": "shipped"},
    )  # fmt: skip
    # The order of the rows is not the order of time.
    rows.step(
        run, "charge", kind="call", attempts=2, started_at=ago(38), finished_at=ago(20),
        result={"status_code": 200},
    )  # fmt: skip
    rows.step(run, "validate", attempts=1, started_at=ago(99), finished_at=ago(98.5), result=[1, 2])
    rows.step(run, "nap", kind="sleep", started_at=ago(98), finished_at=ago(38), wake_at=ago(38))
    return run


def test_an_unknown_run_says_what_to_do() -> None:
    with pytest.raises(CommandError, match=r"no run 'nope'.*hookflow runs lists"):
        hookflow("show", "nope")


def test_a_run_is_found_by_its_run_id_and_by_the_key_that_log_lines_have(
    order: WorkflowRun,
) -> None:
    assert hookflow_json("show", "order-1")["run_id"] == "order-1"
    assert hookflow_json("show", str(order.pk))["run_id"] == "order-1"


def test_the_json_of_a_run(order: WorkflowRun) -> None:
    shown = hookflow_json("show", "order-1")
    charge = shown["steps"][2]
    assert [step["step_id"] for step in shown.pop("steps")] == ["validate", "nap", "charge"]
    assert shown == {
        "run_id": "order-1",
        "workflow_id": "shop.workflows.process_order",
        "version": "",
        "status": "completed",
        "why": "completed after 1m 19s",
        "blocked": "",
        "data": {"order_id": "12345"},
        # What JSON has no word for is as the journal has it.
        "result": {"status": "completed", "total": {"$": "decimal", "v": "9.90"}},
        "error": None,
        "tags": {},
        "state": {"stage": "shipped"},
        "created_at": order.created_at.isoformat(),
        "started_at": order.started_at.isoformat(),
        "finished_at": order.finished_at.isoformat(),
        "next_wake": None,
    }
    assert {key: charge[key] for key in ("occurrence", "kind", "status", "attempts")} == {
        "occurrence": 1,
        "kind": "call",
        "status": "completed",
        "attempts": 2,
    }
    assert charge["result"] == {"status_code": 200}
    assert charge["wake_at"] is None
    assert charge["superseded"] is False


def test_the_head_has_the_values_and_the_sentence(order: WorkflowRun) -> None:
    text = hookflow("show", "order-1")
    assert "status    completed after 1m 19s\n" in text
    assert "data      {'order_id': '12345'}\n" in text
    assert "Decimal('9.90')" in text
    assert "state     {'stage': 'shipped'}\n" in text


def test_the_timeline_draws_executing_solid_and_waiting_hatched(
    order: WorkflowRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = hookflow("show", "order-1").splitlines()
    head = next(at for at, line in enumerate(lines) if line.startswith("step"))
    validate, _, nap, charge, result = lines[head + 1 :]
    assert validate.split()[:6] == ["validate", "run", "completed", "1", "+1.0s", "0.50s"]
    assert nap.split()[:6] == ["nap", "sleep", "completed", "-", "+2.0s", "1m"]
    bars = [line.rpartition(" ")[2] for line in (validate, nap, charge)]
    assert [bar.strip("·")[:1] for bar in bars] == ["█", "░", "█"]
    assert len(bars[0]) < len(bars[1]) < len(bars[2])
    # A sleep of 60 s out of 80 s takes three quarters.
    assert bars[1].count("░") / len(bars[2]) == pytest.approx(0.75, abs=0.05)
    assert result == "  └ {'status_code': 200}"
    assert max(map(len, lines)) <= 100


def test_long_and_unprintable_values_stay_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows()
    run = rows.run("r", data="x" * 100_000)
    rows.step(run, "s" * 200, result="\x1b[2J\n", occurrence=3)
    error = ErrorRecord(type="ValueError", message="line\nbreak")
    rows.step(run, "bad", "failed", error=error)
    monkeypatch.setenv("COLUMNS", "80")
    text = hookflow("show", "r")
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert r"ValueError: line\nbreak" in text


def test_a_waiting_step_says_until_when_and_a_superseded_one_that_it_is() -> None:
    rows = Rows()
    run = rows.run("r", "suspended", due_at=ago(-60))
    rows.step(run, "nap", "pending", kind="sleep", started_at=ago(30), wake_at=ago(-60))
    rows.step(run, "again", "pending", attempts=1, started_at=ago(30), wake_at=ago(-60))
    rows.step(run, "old", "failed", superseded=True)
    rows.step(run, "ok", "pending", kind="event", event="approved")
    text = hookflow("show", "r")
    assert 'status    suspended: sleeps in "nap" until' in text
    assert "└ wakes at " in text
    assert "└ tries again at " in text
    assert '└ waits for event "approved"' in text
    assert "superseded" in text


def test_a_value_that_cannot_be_decoded_hides_nothing(order: WorkflowRun) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        table = WorkflowRun._meta.db_table
        broken = '{"$":"enum","v":"RED"}'
        cursor.execute(f"UPDATE {table} SET result = %s", [broken])
    assert hookflow_json("show", "order-1")["result"] == {"$": "enum", "v": "RED"}
    assert "RED" in hookflow("show", "order-1")


def test_a_terminal_without_unicode_gets_ascii(order: WorkflowRun) -> None:
    raw = BytesIO()
    out = TextIOWrapper(raw, encoding="ascii")
    call_command("hookflow", "show", "order-1", stdout=out)
    out.flush()
    text = raw.getvalue().decode("ascii")
    assert "###" in text
    assert "---" in text


def test_a_run_that_ends_before_it_begins_is_drawn_nevertheless() -> None:
    # Two machines' clocks.
    rows = Rows()
    run = rows.run("r", created_at=ago(10), finished_at=ago(11))
    rows.step(run, "s", started_at=ago(12), finished_at=ago(13))
    assert "█" in hookflow("show", "r")


def test_rich_is_not_needed(order: WorkflowRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from django_hookflow.cli import terminal

    monkeypatch.setattr(terminal, "_RICH", False)
    out = StringIO()
    call_command("hookflow", "show", "order-1", force_color=True, stdout=out)
    assert "\x1b" not in out.getvalue()
    assert "validate" in out.getvalue()


def test_the_run_of_another_generation_waits_for_its_own_steps_only() -> None:
    rows = Rows()
    run: Any = rows.run("r", "suspended", generation=1, due_at=ago(-60))
    rows.step(run, "old", "pending", kind="event", event="e")
    rows.step(run, "new", "pending", kind="event", event="e", generation=1)
    assert hookflow_json("show", "r")["why"] == 'waits in "new" for event "e"'
    assert timedelta(0) < ago(0) - run.created_at
