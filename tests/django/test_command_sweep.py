"""``manage.py hookflow sweep``: one pass, or passes until a signal comes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_hookflow import workflow
from django_hookflow.models import HookflowMark, WorkflowRun
from django_hookflow.runtime import runtime
from django_hookflow.transports.memory import MemoryTransport
from tests.django.command import MEMORY, ago, hookflow, hookflow_json

ROOT = Path(__file__).resolve().parents[2]


@workflow(workflow_id="tests.command.swept")
def swept(ctx: Any) -> None:
    pass


@pytest.fixture
def transport(settings: Any) -> Iterator[MemoryTransport]:
    settings.DJANGO_HOOKFLOW_TRANSPORT = MEMORY
    made = runtime.transport
    assert isinstance(made, MemoryTransport)
    made.take()
    yield made
    made.take()
    made.fail_next(0)


def owe() -> None:
    """A run whose wake-up should have been sent a minute ago."""
    run_id = swept.trigger()
    WorkflowRun.objects.filter(run_id=run_id).update(owed_at=ago(60))


@pytest.mark.django_db
def test_a_pass_sends_what_is_owed_and_leaves_its_mark(transport: MemoryTransport) -> None:
    assert hookflow("sweep") == "Nothing was owed or overdue.\n"
    owe()
    transport.take()
    assert hookflow("sweep") == "Sent 1 wake-up.\n"
    assert len(transport.take()) == 1
    assert HookflowMark.objects.filter(key="sweep").exists()


@pytest.mark.django_db
def test_what_cannot_be_sent_stays_owed_and_is_told(transport: MemoryTransport) -> None:
    owe()
    owe()
    transport.fail_next(1)
    text = hookflow("sweep")
    assert text.startswith("Sent 0 wake-ups, 2 stay owed")
    transport.fail_next(1)
    assert hookflow_json("sweep") == {"sent": 0, "owed": 2}


@pytest.mark.django_db
def test_a_missing_setting_ends_it(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.QSTASH_TOKEN = None
    monkeypatch.delenv("QSTASH_TOKEN", raising=False)
    with pytest.raises(CommandError, match="QSTASH_TOKEN is missing: write"):
        hookflow("sweep")


@pytest.mark.parametrize("text", ["0", "-3", "nan", "inf", "soon"])
def test_every_is_a_number_of_seconds(text: str) -> None:
    with pytest.raises(CommandError, match="every"):
        hookflow("sweep", "--every", text)


def child(*arguments: str, database: Path) -> subprocess.Popen[str]:
    code = (
        "import sys; from django.conf import settings\n"
        "import tests.settings as base\n"
        "values = {k: getattr(base, k) for k in dir(base) if k.isupper()}\n"
        f"values['DATABASES'] = {{'default': {{'ENGINE': 'django.db.backends.sqlite3', "
        f"'NAME': {str(database)!r}}}}}\n"
        f"values['DJANGO_HOOKFLOW_TRANSPORT'] = {MEMORY!r}\n"
        "settings.configure(**values)\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(['manage.py', *sys.argv[1:]])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOOKFLOW_TEST_DATABASE": "sqlite"}
    environment.pop("CI", None)
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_every_goes_on_until_a_signal_and_ends_well(tmp_path: Path, number: int) -> None:
    database = tmp_path / "db.sqlite3"
    with child("hookflow", "sweep", "--every", "0.1", "-v", "2", database=database) as process:
        assert process.stdout
        # The database is there, its tables are not: said once, and no reason to end.
        first = process.stdout.readline()
        assert "tables are missing: run python manage.py migrate" in first
        with child("migrate", "--skip-checks", database=database) as migrate:
            migrate.communicate()
        assert [process.stdout.readline() for _ in range(2)] == [
            "Nothing was owed or overdue.\n"
        ] * 2
        process.send_signal(number)
        began = time.monotonic()
        rest, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert process.returncode == 0
    assert "Traceback" not in rest


def test_an_unreachable_database_is_a_command_error(tmp_path: Path) -> None:
    with child("hookflow", "sweep", database=tmp_path / "no" / "db.sqlite3") as process:
        text, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "CommandError: The database 'default' cannot be reached" in text


def test_missing_tables_are_a_command_error_in_every_reading_subcommand(tmp_path: Path) -> None:
    for arguments in (["runs"], ["show", "x"], ["sweep"]):
        with child("hookflow", *arguments, database=tmp_path / "db.sqlite3") as process:
            text, _ = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "tables are missing: run python manage.py migrate" in text
        assert "Traceback" not in text


@pytest.mark.django_db
def test_django_s_own_options_may_stand_behind_the_subcommand(transport: MemoryTransport) -> None:
    out = StringIO()
    call_command("hookflow", "sweep", "--no-color", "-v", "2", stdout=out)
    assert out.getvalue() == "Nothing was owed or overdue.\n"


def test_a_subcommand_is_needed() -> None:
    with pytest.raises(CommandError, match="SUBCOMMAND"):
        hookflow()
