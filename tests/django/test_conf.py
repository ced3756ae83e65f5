"""Each setting: from where it is read, what is allowed, and what a wrong one says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_hookflow.conf import SETTINGS, Options, options
from django_hookflow.core.retry import RetryPolicy
from django_hookflow.exceptions import ConfigurationError

PROPERTY = {setting.name: name for name, setting in vars(Options).items() if setting in SETTINGS}
OTHERS = ("DJANGO_QSTASH_DOMAIN", "DJANGO_QSTASH_FORCE_HTTPS")


@pytest.fixture(autouse=True)
def nothing_set(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (*PROPERTY, *OTHERS):
        monkeypatch.delenv(name, raising=False)
        if hasattr(settings, name):
            delattr(settings, name)
    return


def value_of(name: str) -> Any:
    return getattr(options, PROPERTY[name])


def test_the_defaults_are_the_documented_ones() -> None:
    assert {name: value_of(name) for name in PROPERTY if name not in REQUIRED} == {
        "QSTASH_URL": "https://qstash.upstash.io",
        "QSTASH_CURRENT_SIGNING_KEY": None,
        "QSTASH_NEXT_SIGNING_KEY": None,
        "DJANGO_HOOKFLOW_WEBHOOK_PATH": "/hookflow/",
        "DJANGO_HOOKFLOW_DATABASE": "default",
        "DJANGO_HOOKFLOW_DELIVERY_SECONDS": 20.0,
        "DJANGO_HOOKFLOW_LEASE_SECONDS": 60.0,
        "DJANGO_HOOKFLOW_THREADS": 8,
        "DJANGO_HOOKFLOW_RETRY": RetryPolicy(),
        "DJANGO_HOOKFLOW_MAX_VALUE_BYTES": 1048576,
        "DJANGO_HOOKFLOW_MAX_DELAY": timedelta(days=7),
        "DJANGO_HOOKFLOW_QSTASH_RETRIES": 3,
        "DJANGO_HOOKFLOW_PUBLISH_TIMEOUT": 2.0,
        "DJANGO_HOOKFLOW_TRANSPORT": "django_hookflow.transports.qstash.QStashTransport",
        "DJANGO_HOOKFLOW_CODEC": "django_hookflow.core.codec.JSONCodec",
    }


REQUIRED = ("QSTASH_TOKEN", "DJANGO_HOOKFLOW_DOMAIN")


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("written", ["absent", None, "", "  "])
def test_a_missing_setting_says_what_to_write_where(name: str, written: Any) -> None:
    changes = {} if written == "absent" else {name: written}
    with override_settings(**changes), pytest.raises(ConfigurationError) as caught:
        value_of(name)
    assert isinstance(caught.value, ImproperlyConfigured)
    assert str(caught.value).startswith(f"{name} is missing: write {name} = ")
    assert f"environment variable {name}" in str(caught.value)


KEY = "sig_" + "k" * 28
ALLOWED = [
    ("QSTASH_TOKEN", "tok", "tok"),
    ("QSTASH_URL", "http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
    ("QSTASH_CURRENT_SIGNING_KEY", KEY, KEY),
    ("QSTASH_NEXT_SIGNING_KEY", KEY, KEY),
    ("DJANGO_HOOKFLOW_DOMAIN", "https://a.example/", "https://a.example"),
    ("DJANGO_HOOKFLOW_DOMAIN", "https://a.example/base", "https://a.example/base"),
    ("DJANGO_HOOKFLOW_DOMAIN", "a.example", "https://a.example"),
    ("DJANGO_HOOKFLOW_DOMAIN", "a.example:8443", "https://a.example:8443"),
    ("DJANGO_HOOKFLOW_DOMAIN", "http://127.0.0.1:8000", "http://127.0.0.1:8000"),
    ("DJANGO_HOOKFLOW_DOMAIN", "localhost:8000", "http://localhost:8000"),
    ("DJANGO_HOOKFLOW_DOMAIN", "http://web:8000", "http://web:8000"),
    ("DJANGO_HOOKFLOW_WEBHOOK_PATH", "hooks", "/hooks/"),
    ("DJANGO_HOOKFLOW_WEBHOOK_PATH", "/a/b", "/a/b/"),
    ("DJANGO_HOOKFLOW_WEBHOOK_PATH", "/", "/"),
    ("DJANGO_HOOKFLOW_DELIVERY_SECONDS", "7.5", 7.5),
    ("DJANGO_HOOKFLOW_LEASE_SECONDS", 5, 5.0),
    ("DJANGO_HOOKFLOW_LEASE_SECONDS", timedelta(minutes=1), 60.0),
    ("DJANGO_HOOKFLOW_THREADS", "2", 2),
    ("DJANGO_HOOKFLOW_RETRY", RetryPolicy(max_attempts=2), RetryPolicy(max_attempts=2)),
    ("DJANGO_HOOKFLOW_RETRY", {"max_attempts": 2}, RetryPolicy(max_attempts=2)),
    ("DJANGO_HOOKFLOW_RETRY", '{"max_attempts": 2}', RetryPolicy(max_attempts=2)),
    ("DJANGO_HOOKFLOW_MAX_VALUE_BYTES", "10", 10),
    ("DJANGO_HOOKFLOW_MAX_DELAY", timedelta(days=1), timedelta(days=1)),
    ("DJANGO_HOOKFLOW_MAX_DELAY", 3600, timedelta(hours=1)),
    ("DJANGO_HOOKFLOW_MAX_DELAY", "3600", timedelta(hours=1)),
    ("DJANGO_HOOKFLOW_QSTASH_RETRIES", 0, 0),
    ("DJANGO_HOOKFLOW_PUBLISH_TIMEOUT", ".5", 0.5),
    ("DJANGO_HOOKFLOW_TRANSPORT", "a.b.C", "a.b.C"),
    ("DJANGO_HOOKFLOW_CODEC", "a.C", "a.C"),
]


@pytest.mark.parametrize(("name", "written", "expected"), ALLOWED)
def test_a_setting_is_read_on_use(name: str, written: Any, expected: Any) -> None:
    with override_settings(**{name: written}):
        assert value_of(name) == expected
        assert type(value_of(name)) is type(expected)


@pytest.mark.parametrize(
    ("name", "written", "expected"), [row for row in ALLOWED if isinstance(row[1], str)]
)
def test_an_absent_setting_is_read_from_the_environment(
    name: str, written: str, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, written)
    assert value_of(name) == expected


def test_the_settings_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QSTASH_TOKEN", "environment")
    monkeypatch.setenv("QSTASH_URL", "https://environment.example")
    assert options.token == "environment"
    with override_settings(QSTASH_TOKEN="settings", QSTASH_URL=None):
        assert options.token == "settings"
        assert options.qstash_url == "https://qstash.upstash.io"
    with override_settings(QSTASH_TOKEN=""), pytest.raises(ConfigurationError):
        _ = options.token


WRONG = [
    ("QSTASH_TOKEN", "tok en"),
    ("QSTASH_TOKEN", "tok\n"),
    ("QSTASH_TOKEN", 5),
    ("QSTASH_URL", "qstash.upstash.io"),
    ("QSTASH_URL", "ftp://x"),
    ("QSTASH_CURRENT_SIGNING_KEY", "short"),
    ("QSTASH_NEXT_SIGNING_KEY", b"k" * 32),
    ("DJANGO_HOOKFLOW_DOMAIN", "https://"),
    ("DJANGO_HOOKFLOW_DOMAIN", "https://a.example?x=1"),
    ("DJANGO_HOOKFLOW_DOMAIN", "https://user@a.example"),
    ("DJANGO_HOOKFLOW_DOMAIN", "https://a.example:port"),
    ("DJANGO_HOOKFLOW_DOMAIN", "https://[::1"),
    ("DJANGO_HOOKFLOW_WEBHOOK_PATH", "/hook?x"),
    ("DJANGO_HOOKFLOW_WEBHOOK_PATH", "https://a.example/hook/"),
    ("DJANGO_HOOKFLOW_DATABASE", "elsewhere"),
    ("DJANGO_HOOKFLOW_DELIVERY_SECONDS", 0),
    ("DJANGO_HOOKFLOW_DELIVERY_SECONDS", True),
    ("DJANGO_HOOKFLOW_LEASE_SECONDS", "nan"),
    ("DJANGO_HOOKFLOW_LEASE_SECONDS", float("inf")),
    ("DJANGO_HOOKFLOW_THREADS", 0),
    ("DJANGO_HOOKFLOW_THREADS", "two"),
    ("DJANGO_HOOKFLOW_THREADS", 2.0),
    ("DJANGO_HOOKFLOW_RETRY", 3),
    ("DJANGO_HOOKFLOW_RETRY", {"max_attempts": 0}),
    ("DJANGO_HOOKFLOW_RETRY", {"tries": 1}),
    ("DJANGO_HOOKFLOW_RETRY", "{"),
    ("DJANGO_HOOKFLOW_MAX_VALUE_BYTES", -1),
    ("DJANGO_HOOKFLOW_MAX_DELAY", timedelta(0)),
    ("DJANGO_HOOKFLOW_MAX_DELAY", 1e300),
    ("DJANGO_HOOKFLOW_QSTASH_RETRIES", -1),
    ("DJANGO_HOOKFLOW_PUBLISH_TIMEOUT", None.__class__),
    ("DJANGO_HOOKFLOW_TRANSPORT", "QStashTransport"),
    ("DJANGO_HOOKFLOW_CODEC", "a..C"),
]


@pytest.mark.parametrize(("name", "written"), WRONG)
def test_a_wrong_setting_says_what_is_allowed_and_what_to_write(name: str, written: Any) -> None:
    with override_settings(**{name: written}), pytest.raises(ConfigurationError) as caught:
        value_of(name)
    message = str(caught.value)
    assert message.startswith(f"{name} ")
    assert "is wrong: it must be" in message
    assert f"write {name} = " in message
    if name in ("QSTASH_TOKEN", "QSTASH_CURRENT_SIGNING_KEY", "QSTASH_NEXT_SIGNING_KEY"):
        assert str(written) not in message


@pytest.mark.parametrize(
    ("settings_", "expected"),
    [
        ({"DJANGO_QSTASH_DOMAIN": "a.example"}, "https://a.example"),
        ({"DJANGO_QSTASH_DOMAIN": "a.example", "DJANGO_QSTASH_FORCE_HTTPS": False}, "http://a.example"),
        ({"DJANGO_QSTASH_DOMAIN": "http://127.0.0.1:8000"}, "http://127.0.0.1:8000"),
        ({"DJANGO_QSTASH_DOMAIN": "https://b.example", "DJANGO_HOOKFLOW_DOMAIN": ""}, "https://b.example"),
        ({"DJANGO_QSTASH_DOMAIN": "https://b.example", "DJANGO_HOOKFLOW_DOMAIN": "a.example"}, "https://a.example"),
    ],
)  # fmt: skip
def test_the_domain_falls_back_to_that_of_django_qstash(
    settings_: dict[str, Any], expected: str
) -> None:
    with override_settings(**settings_):
        assert options.domain == expected


def test_a_wrong_fallback_is_named() -> None:
    wrong = pytest.raises(ConfigurationError, match=r"^DJANGO_QSTASH_DOMAIN .*is wrong")
    with override_settings(DJANGO_QSTASH_DOMAIN="ftp://x"), wrong:
        _ = options.domain


def test_the_webhook_url_is_domain_and_path() -> None:
    with override_settings(
        DJANGO_HOOKFLOW_DOMAIN="https://a.example/", DJANGO_HOOKFLOW_WEBHOOK_PATH="x"
    ):
        assert options.webhook_url == "https://a.example/x/"


def test_every_example_can_be_written_as_it_stands() -> None:
    names = {"RetryPolicy": RetryPolicy, "timedelta": timedelta}
    for setting in SETTINGS:
        if not setting.secret:
            setting.parse(eval(setting.example, names))
        assert setting.help.endswith(".")
