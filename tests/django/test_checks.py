"""What ``manage.py check`` says, each with its id and what to write."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from types import ModuleType
from typing import Any

import django
import pytest
from django.core.checks import CheckMessage, Tags, run_checks
from django.core.checks.registry import registry
from django.db import connections, transaction
from django.test import override_settings
from django.urls import get_script_prefix, include, path, set_script_prefix
from django.utils import timezone

from django_hookflow import checks
from django_hookflow.checks import (
    PUBLIC_KEYS,
    PUBLIC_TOKENS,
    check_journal,
    check_project,
    check_settings,
    register_checks,
)
from django_hookflow.conf import SETTINGS
from django_hookflow.core.identifiers import uuid7
from django_hookflow.models import HookflowMark, WorkflowRun
from django_hookflow.registry import registry as workflows
from django_hookflow.wakes import SWEEP_MARK

KEY = "sig_" + "k" * 28
GOOD = {
    "DEBUG": False,
    "USE_TZ": True,
    "QSTASH_TOKEN": "a-token",
    "QSTASH_CURRENT_SIGNING_KEY": KEY,
    "QSTASH_NEXT_SIGNING_KEY": KEY,
    "DJANGO_HOOKFLOW_DOMAIN": "https://app.example",
    "ALLOWED_HOSTS": ["app.example"],
}


def view(request: object) -> None: ...


def urlconf(*prefixes: str, before: str | None = None, inside: str | None = None) -> ModuleType:
    """Hookflow's URLs under these prefixes; ``before``: behind a pattern that takes this path."""
    hookflow: Any = ([path("", view, name="webhook")], "django_hookflow")
    module = ModuleType("urls")
    patterns: list[Any] = [path(prefix, include(hookflow)) for prefix in prefixes]
    if inside is not None:
        patterns = [path("", include((patterns, inside)))]
    if before is not None:
        patterns.insert(0, path(before, view, name="webhook"))
    module.urlpatterns = patterns  # type: ignore[attr-defined]
    return module


@pytest.fixture(autouse=True)
def good_settings(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
        if hasattr(settings, setting.name):
            delattr(settings, setting.name)
    for name, value in {**GOOD, "ROOT_URLCONF": urlconf("hookflow/")}.items():
        setattr(settings, name, value)
    return


def found(**changes: Any) -> list[CheckMessage]:
    with override_settings(**changes):
        return check_settings()


def test_a_good_project_is_told_nothing() -> None:
    assert check_settings() == []


SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": "db"}
IMMEDIATE = {**SQLITE, "OPTIONS": {"transaction_mode": "IMMEDIATE"}}

TABLE = [
    ({"QSTASH_TOKEN": None}, "E001", "QSTASH_TOKEN is missing", "Write QSTASH_TOKEN = "),
    ({"DJANGO_HOOKFLOW_DOMAIN": ""}, "E001", "DOMAIN is missing", '"https://your-app.com"'),
    ({"DJANGO_HOOKFLOW_THREADS": 0}, "E002", "a whole number", "DJANGO_HOOKFLOW_THREADS = 8"),
    ({"QSTASH_URL": "qstash"}, "E002", "an http(s) URL", "QSTASH_URL = "),
    ({"DJANGO_HOOKFLOW_CODEC": "x"}, "E002", "dotted path", "DJANGO_HOOKFLOW_CODEC = "),
    ({"USE_TZ": False}, "E003", "USE_TZ is False", "USE_TZ = True"),
    ({"QSTASH_NEXT_SIGNING_KEY": "sig_short"}, "E005", "16 characters", "QSTASH_NEXT_SIGNING_KEY"),
    ({"DJANGO_HOOKFLOW_DATABASE": "nope"}, "E006", "DATABASES: default", "HOOKFLOW_DATABASE = "),
    ({"DJANGO_HOOKFLOW_TRANSPORT": "no.Such"}, "E007", "cannot be imported", "QStashTransport"),
    ({"DJANGO_HOOKFLOW_CODEC": "json.Nope"}, "E007", "cannot be imported", "JSONCodec"),
    (
        {"QSTASH_CURRENT_SIGNING_KEY": None, "QSTASH_NEXT_SIGNING_KEY": ""},
        "W001",
        "fetched from QStash",
        "QSTASH_NEXT_SIGNING_KEY",
    ),
    ({"QSTASH_NEXT_SIGNING_KEY": None}, "W001", "refused once", "QSTASH_NEXT_SIGNING_KEY"),
    (
        {"ROOT_URLCONF": urlconf()},
        "W002",
        "not in the URLconf",
        'path("hookflow/", include("django_hookflow.urls"))',
    ),
    (
        {"ROOT_URLCONF": urlconf("other/")},
        "W002",
        "call /hookflow/, but the URLconf has the webhook at /other/",
        'DJANGO_HOOKFLOW_WEBHOOK_PATH = "/other/"',
    ),
    (
        {"ROOT_URLCONF": urlconf("hookflow/", before="<path:everything>")},
        "W002",
        "another pattern before it",
        "at the top of urlpatterns",
    ),
    ({"ROOT_URLCONF": None}, "W002", "no ROOT_URLCONF", "its module in ROOT_URLCONF"),
    (
        {"SECURE_SSL_REDIRECT": True},
        "W004",
        "SECURE_PROXY_SSL_HEADER is not set",
        'SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")',
    ),
    (
        {
            "SECURE_SSL_REDIRECT": True,
            "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
            "DJANGO_HOOKFLOW_DOMAIN": "http://app.example",
        },
        "W004",
        "is an http URL",
        "Write the https URL",
    ),
    ({"ALLOWED_HOSTS": []}, "W005", "'app.example'", 'ALLOWED_HOSTS += ["app.example"]'),
    ({"ALLOWED_HOSTS": [".app.examples", "b.app.example"]}, "W005", "400", "ALLOWED_HOSTS"),
    ({"ALLOWED_HOSTS": [], "DEBUG": True}, "W005", "400", "ALLOWED_HOSTS"),
    *(({"QSTASH_TOKEN": token}, "E004", "everybody", "console") for token in PUBLIC_TOKENS),
    *(({"QSTASH_CURRENT_SIGNING_KEY": key}, "E004", "everybody", "console") for key in PUBLIC_KEYS),
]


@pytest.mark.parametrize(("changes", "number", "text", "hint"), TABLE)
def test_each_finding_has_its_id_and_says_what_to_write(
    changes: dict[str, Any], number: str, text: str, hint: str
) -> None:
    (message,) = found(**changes)
    assert message.id == f"django_hookflow.{number}"
    assert message.is_serious() is number.startswith("E")
    assert text in message.msg
    assert message.hint is not None
    assert hint in message.hint


def test_the_local_server_is_fine_while_debugging() -> None:
    token, key = next(iter(PUBLIC_TOKENS)), next(iter(PUBLIC_KEYS))
    assert found(DEBUG=True, QSTASH_TOKEN=token, QSTASH_NEXT_SIGNING_KEY=key) == []


def test_no_secret_is_shown() -> None:
    shown = str(found(QSTASH_TOKEN="my secret", QSTASH_CURRENT_SIGNING_KEY="secret"))
    assert "E002" in shown
    assert "E005" in shown
    assert "secret" not in shown


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
@pytest.mark.skipif(django.VERSION < (5, 1), reason="transaction_mode came with Django 5.1")
def test_sqlite_without_immediate_gets_two_lines_to_paste() -> None:
    (message,) = found(DATABASES={"default": SQLITE})
    assert message.id == "django_hookflow.W003"
    pasted = "\n".join(str(message.hint).splitlines()[1:])
    written = eval(f"{{{pasted}}}")
    assert found(DATABASES={"default": {**SQLITE, "OPTIONS": written}}) == []
    assert found(DATABASES={"default": IMMEDIATE}) == []
    other = {"default": SQLITE, "journal": IMMEDIATE}
    assert found(DATABASES=other, DJANGO_HOOKFLOW_DATABASE="journal") == []


def test_a_domain_with_a_path_goes_with_a_script_prefix() -> None:
    assert (
        found(
            DJANGO_HOOKFLOW_DOMAIN="https://app.example/base",
            ROOT_URLCONF=urlconf("base/hookflow/"),
        )
        == []
    )
    base = {"DJANGO_HOOKFLOW_DOMAIN": "https://app.example/base"}
    assert found(**base, ROOT_URLCONF=urlconf("hookflow/")) == []
    before = get_script_prefix()
    set_script_prefix("/base/")
    try:
        assert found(**base, ROOT_URLCONF=urlconf("hookflow/")) == []
    finally:
        set_script_prefix(before)


def test_urls_inside_another_namespace_are_found() -> None:
    assert found(ROOT_URLCONF=urlconf("hookflow/", inside="api")) == []


def test_a_path_without_a_slash_can_only_be_mended_in_the_urlconf() -> None:
    [message] = found(ROOT_URLCONF=urlconf("hookflow"))
    assert message.id == "django_hookflow.W002"
    assert str(message.hint) == 'Write path("hookflow/", include("django_hookflow.urls")) in your '\
        "URLconf."  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")},
        {"SECURE_REDIRECT_EXEMPT": [r"^hookflow/"]},
        {"MIDDLEWARE": []},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_redirect_that_spares_the_webhook_is_fine(changes: dict[str, Any]) -> None:
    assert found(SECURE_SSL_REDIRECT=True, **changes) == []


@pytest.mark.parametrize(
    ("domain", "hosts", "debug"),
    [
        ("https://app.example", ["*"], False),
        ("https://app.example", [".example"], False),
        ("https://app.example", [".app.example"], False),
        ("https://APP.Example:8443", ["app.example"], False),
        ("http://localhost:8000", [], True),
        ("http://shop.localhost:8000", [], True),
        ("http://127.0.0.1:8000", [], True),
        ("http://[::1]:8000", [], True),
    ],
)
def test_hosts_are_compared_as_django_does(domain: str, hosts: list[str], debug: bool) -> None:
    assert found(DJANGO_HOOKFLOW_DOMAIN=domain, ALLOWED_HOSTS=hosts, DEBUG=debug) == []


def test_without_an_account_the_hint_says_how_to_begin() -> None:
    [message] = found(QSTASH_TOKEN=None, DEBUG=True)
    assert "migrate --skip-checks" in str(message.hint)
    assert "hookflow dev" in str(message.hint)
    [message] = found(QSTASH_TOKEN=None, DEBUG=False)
    assert "skip-checks" not in str(message.hint)


# --- the journal's database


MYSQL = {"ENGINE": "django.db.backends.mysql", "NAME": "shop"}


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"TIME_ZONE": "Europe/Berlin"}, "'Europe/Berlin', and SQLite keeps times without"),
        ({"AUTOCOMMIT": False}, "nothing that the journal writes would be committed"),
    ],
)
def test_a_database_that_the_journal_refuses_is_an_error(
    changes: dict[str, Any], text: str
) -> None:
    [message] = found(DATABASES={"default": {**IMMEDIATE, **changes}})
    assert message.id == "django_hookflow.E008"
    assert message.is_serious()
    assert text in message.msg
    assert f'Take {next(iter(changes))} out of DATABASES["default"]' in str(message.hint)
    other = {"default": {**IMMEDIATE, **changes}, "journal": IMMEDIATE}
    assert found(DATABASES=other, DJANGO_HOOKFLOW_DATABASE="journal") == []


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
def test_a_zone_is_fine_where_columns_have_one() -> None:
    pytest.importorskip("psycopg", reason="it is an extra")
    postgres = {"ENGINE": "django.db.backends.postgresql", "TIME_ZONE": "Europe/Berlin"}
    assert found(DATABASES={"default": postgres}) == []
    assert found(DATABASES={"default": {**IMMEDIATE, "TIME_ZONE": "UTC"}}) == []


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
def test_a_charset_of_three_bytes_is_told() -> None:
    pytest.importorskip("MySQLdb", reason="it is an extra")
    [message] = found(DATABASES={"default": {**MYSQL, "OPTIONS": {"charset": "utf8"}}})
    assert message.id == "django_hookflow.W008"
    assert "'utf8'" in message.msg
    assert '"charset": "utf8mb4"' in str(message.hint)
    assert found(DATABASES={"default": {**MYSQL, "OPTIONS": {"charset": "utf8mb4"}}}) == []
    told = bool(found(DATABASES={"default": MYSQL}))
    assert told is (django.VERSION < (5, 2))


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
def test_a_backend_that_is_not_there_is_left_to_django() -> None:
    assert found(DATABASES={"default": {"ENGINE": "no.such.backend"}}) == []


def make_run(alias: str, run_id: str, number: int, **columns: Any) -> None:
    now = timezone.now()
    columns = {"status": "suspended", "due_at": now + timedelta(hours=1), **columns}
    WorkflowRun.objects.using(alias).create(
        id=uuid7(number, bytes(10)), run_id=run_id, created_at=now, **columns
    )


def of_the_journal(alias: str, **changes: Any) -> list[CheckMessage]:
    with override_settings(DJANGO_HOOKFLOW_DATABASE=alias, **changes):
        assert check_journal(databases=None) == []
        return check_journal(databases=["other", alias])


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_unfinished_runs_of_workflows_that_are_gone(alias: str) -> None:
    for number, (name, status) in enumerate(
        [("gone.a", "paused"), ("gone.a", "pending"), ("gone.b", "running"), ("gone.c", "failed")]
    ):
        make_run(alias, f"run-{number}", number, workflow_id=name, status=status)
    [message] = of_the_journal(alias)
    assert message.id == "django_hookflow.W007"
    assert message.msg.endswith(": gone.a (2), gone.b (1).")
    assert "hookflow cancel" in str(message.hint)


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_overdue_runs_and_no_sweep(alias: str) -> None:
    now = timezone.now()
    known = next(iter(workflows)).workflow_id
    make_run(alias, "late", 1, workflow_id=known, due_at=now - timedelta(minutes=6))
    make_run(alias, "later", 2, workflow_id=known, due_at=now - timedelta(minutes=4))
    [message] = of_the_journal(alias)
    assert message.id == "django_hookflow.W006"
    assert "'late'" in message.msg
    assert "none was yet" in message.msg
    assert "hookflow sweep --every 30" in str(message.hint)
    marks = HookflowMark.objects.using(alias)
    marks.create(key=SWEEP_MARK, at=now - timedelta(minutes=7))
    [message] = of_the_journal(alias)
    assert "the last was at" in message.msg
    marks.update(at=now)
    assert of_the_journal(alias) == []


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_without_tables_nothing_is_said(alias: str) -> None:
    connection = connections[alias]
    make_run(alias, "late", 1, due_at=timezone.now() - timedelta(hours=1))
    table = WorkflowRun._meta.db_table
    with connection.schema_editor() as editor:
        editor.alter_db_table(WorkflowRun, table, "hookflow_elsewhere")
    try:
        assert of_the_journal(alias) == []
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(WorkflowRun, "hookflow_elsewhere", table)
    assert of_the_journal(alias) != []


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_with_tables_of_another_version_nothing_is_said(alias: str) -> None:
    connection = connections[alias]
    table = connection.ops.quote_name(WorkflowRun._meta.db_table)
    rename = f"ALTER TABLE {table} RENAME COLUMN {{}} TO {{}}"
    with connection.cursor() as cursor:
        cursor.execute(rename.format("version", "former"))
    try:
        with transaction.atomic(using=alias):
            assert of_the_journal(alias) == []
            # Whoever asked can go on in the transaction.
            assert HookflowMark.objects.using(alias).count() == 0
    finally:
        with connection.cursor() as cursor:
            cursor.execute(rename.format("former", "version"))


CHECK_AWAY = """
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django_hookflow"], USE_TZ=True, DATABASES={{"default": {database!r}}},
    QSTASH_TOKEN="token", DJANGO_HOOKFLOW_DOMAIN="https://app.example",
)
django.setup()
from django_hookflow.checks import check_journal
assert check_journal(databases=["default"]) == [], "something was said"
"""


@pytest.mark.parametrize(
    ("driver", "database"),
    [
        ("sqlite3", {**SQLITE, "NAME": "/no/such/folder/db"}),
        (
            "psycopg",
            {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": "127.0.0.1",
                "PORT": 1,
                "NAME": "x",
            },
        ),
    ],
)
def test_while_the_database_is_away_nothing_is_said(driver: str, database: Any) -> None:
    pytest.importorskip(driver)
    subprocess.run([sys.executable, "-c", CHECK_AWAY.format(database=database)], check=True)


def test_database_checks_are_made_only_when_a_database_is_named(settings: Any) -> None:
    tags = {check.__name__: set(check.tags) for check in registry.get_checks()}
    assert tags["check_journal"] == {Tags.database}


def test_several_findings_are_told_at_once() -> None:
    ids = {message.id for message in found(QSTASH_TOKEN=None, USE_TZ=False)}
    assert ids == {"django_hookflow.E001", "django_hookflow.E003"}


def test_they_are_part_of_manage_py_check() -> None:
    before = set(registry.registered_checks)
    register_checks()
    try:
        with override_settings(USE_TZ=False):
            messages = run_checks(tags=["django_hookflow"])
        assert [message.id for message in messages] == ["django_hookflow.E003"]
    finally:
        registry.registered_checks = before


def test_a_test_run_needs_no_account() -> None:
    # Here, as under `manage.py test`, Django's test environment is set up.
    with override_settings(QSTASH_TOKEN="", DEBUG=False, USE_TZ=False):
        everything = {message.id for message in check_settings()}
        in_tests = {message.id for message in check_project()}
    assert everything - in_tests == {"django_hookflow.E001"}
    assert "django_hookflow.E003" in in_tests


def test_the_table_in_the_docstring_names_every_id() -> None:
    documented = set(re.findall(r"django_hookflow\.([EW]\d{3})", checks.__doc__ or ""))
    tested = {number for _, number, *_ in TABLE} | {"W003", "E008", "W006", "W007", "W008"}
    assert documented == tested
