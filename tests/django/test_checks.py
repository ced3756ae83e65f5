"""What ``manage.py check`` says, each with its id and what to write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import django
import pytest
from django.core.checks import CheckMessage, run_checks
from django.core.checks.registry import registry
from django.test import override_settings
from django.urls import include, path

from django_hookflow import checks
from django_hookflow.checks import PUBLIC_KEYS, PUBLIC_TOKENS, check_settings, register_checks
from django_hookflow.conf import SETTINGS

KEY = "sig_" + "k" * 28
GOOD = {
    "DEBUG": False,
    "USE_TZ": True,
    "QSTASH_TOKEN": "a-token",
    "QSTASH_CURRENT_SIGNING_KEY": KEY,
    "QSTASH_NEXT_SIGNING_KEY": KEY,
    "DJANGO_HOOKFLOW_DOMAIN": "https://app.example",
}


def view(request: object) -> None: ...


def urlconf(*prefixes: str) -> ModuleType:
    hookflow = ([path("", view, name="webhook")], "django_hookflow")
    module = ModuleType("urls")
    module.urlpatterns = [path(prefix, include(hookflow)) for prefix in prefixes]  # type: ignore[attr-defined]
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
            DJANGO_HOOKFLOW_DOMAIN="https://a.example/base", ROOT_URLCONF=urlconf("base/hookflow/")
        )
        == []
    )


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


def test_the_table_in_the_docstring_names_every_id() -> None:
    documented = set(re.findall(r"django_hookflow\.([EW]\d{3})", checks.__doc__ or ""))
    tested = {number for _, number, *_ in TABLE} | {"W003"}
    assert documented == tested
