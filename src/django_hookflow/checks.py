"""The system checks: what ``manage.py check`` says about a project's settings.

=====================  ============================================================
django_hookflow.E001   a required setting is missing
django_hookflow.E002   a setting has a value that it cannot have
django_hookflow.E003   ``USE_TZ`` is False
django_hookflow.E004   the local server's public token or keys with ``DEBUG=False``
django_hookflow.E005   a signing key is too short
django_hookflow.E006   ``DJANGO_HOOKFLOW_DATABASE`` is no alias of ``DATABASES``
django_hookflow.E007   the transport or the codec cannot be imported
django_hookflow.W001   a signing key is not set
django_hookflow.W002   the webhook's URL is not where ``WEBHOOK_PATH`` says
django_hookflow.W003   SQLite without ``IMMEDIATE`` transactions
=====================  ============================================================

None of them touches a database or the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import django
from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string

from django_hookflow.conf import SETTINGS, Options, Setting
from django_hookflow.exceptions import ConfigurationError

__all__ = ["TAG", "check_settings", "register_checks"]

TAG = "django_hookflow"

#: Printed in the documentation of QStash's local server, for everybody to sign with.
PUBLIC_TOKENS = frozenset(
    {
        "eyJVc2VySUQiOiJkZWZhdWx0VXNlciIsIlBhc3N3b3JkIjoiZGVmYXVsdFBhc3N3b3JkIn0=",
        "eyJVc2VySUQiOiJ0ZXN0VXNlcjEiLCJQYXNzd29yZCI6InRlc3RQYXNzd29yZCJ9",
        "eyJVc2VySUQiOiJ0ZXN0VXNlcjIiLCJQYXNzd29yZCI6InRlc3RQYXNzd29yZCJ9",
        "eyJVc2VySUQiOiJ0ZXN0VXNlcjMiLCJQYXNzd29yZCI6InRlc3RQYXNzd29yZCJ9",
    }
)
PUBLIC_KEYS = frozenset(
    {
        "sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r",
        "sig_5ZB6DVzB1wjE8S6rZ7eenA8Pdnhs",
        "sig_7GVPjvuwsfqF65iC8fSrs1dfYruM",
        "sig_5NoELc3EFnZn4DVS5bDs2Nk4b7Ua",
        "sig_6jWGaWRxHsw4vMSPJprXadyvrybF",
        "sig_7qHbvhmahe5GwfePDiS5Lg3pi6Qx",
        "sig_5T8FcSsynBjn9mMLBsXhpacRovJf",
        "sig_7GFR4YaDshFcqsxWRZpRB161jguD",
        "sig_7RvLjqfZBvP5KEUimQCE1pvpLuou",
        "sig_7W3ZNbfKWk5NWwEs3U4ixuQ7fxwE",
    }
)

_KEYS: tuple[Setting[Any], ...] = (Options.current_signing_key, Options.next_signing_key)

#: Which setting's wrong value has an id of its own.
_WRONG = {
    **{setting.name: "E005" for setting in _KEYS},
    Options.database.name: "E006",
}


def register_checks() -> None:
    """Make the checks part of ``manage.py check``; called by ``AppConfig.ready()``."""
    register(check_settings, TAG)


def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Everything that can be told from the settings alone."""
    found: list[CheckMessage] = []
    for check in (_values, _time_zones, _public_credentials, _imports, _keys, _url, _sqlite):
        found.extend(check())
    return found


def _values() -> Iterator[CheckMessage]:
    for setting in SETTINGS:
        if error := _problem(setting):
            missing = setting.written()[1] is None
            number = "E001" if missing else _WRONG.get(setting.name, "E002")
            # The message says both; here the advice is the hint.
            text = str(error).removesuffix(setting.advice).rstrip(":; ")
            yield _error(number, f"{text}.", _sentence(setting.advice))


def _time_zones() -> Iterator[CheckMessage]:
    if not settings.USE_TZ:
        yield _error(
            "E003",
            "USE_TZ is False, but timers compare moments, not wall clocks.",
            "Write USE_TZ = True in your Django settings.",
        )


def _public_credentials() -> Iterator[CheckMessage]:
    if settings.DEBUG:
        return
    for setting, public in (
        (Options.token, PUBLIC_TOKENS),
        *((key, PUBLIC_KEYS) for key in _KEYS),
    ):
        if setting.written()[1] in public:
            yield _error(
                "E004",
                f"{setting.name} is the local server's, which everybody knows, and DEBUG is False: "
                "anybody could sign deliveries.",
                f"Take {setting.name} from your QStash console; or, on your own machine only, "
                "write DEBUG = True.",
            )


def _imports() -> Iterator[CheckMessage]:
    for setting in (Options.transport, Options.codec):
        path = _readable(setting)
        if path is not None and (error := _import_error(path)):
            yield _error(
                "E007",
                f"{setting.name} ({path!r}) cannot be imported: {error}.",
                _sentence(setting.advice),
            )


def _import_error(path: str) -> ImportError | None:
    try:
        import_string(path)
    except ImportError as error:
        return error
    return None


def _keys() -> Iterator[CheckMessage]:
    unset = [setting.name for setting in _KEYS if setting.written()[1] is None]
    if len(unset) == len(_KEYS):
        bite = "they are fetched from QStash, and deliveries wait while it does not answer"
    else:
        bite = "deliveries are refused once QStash signs with the other key"
    if unset:
        yield Warning(
            f"{' and '.join(unset)} not set: {bite}.",
            hint=_sentence(
                "write both, as the QStash console shows them, in your Django settings or in "
                f"environment variables: {_KEYS[0].name} and {_KEYS[1].name}"
            ),
            id=f"{TAG}.W001",
        )


def _url() -> Iterator[CheckMessage]:
    path = _readable(Options.webhook_path)
    if path is None:
        return
    include = f'path("{path.lstrip("/")}", include("django_hookflow.urls"))'
    try:
        routed = reverse("django_hookflow:webhook")
    except NoReverseMatch:
        yield Warning(
            "django_hookflow.urls is not in the URLconf: no delivery reaches a workflow.",
            hint=f"Write {include} in your URLconf.",
            id=f"{TAG}.W002",
        )
        return
    # Behind a prefix (FORCE_SCRIPT_NAME) the domain carries the beginning of the path.
    base = urlsplit(_readable(Options.domain) or "").path
    if routed not in (path, base + path):
        yield Warning(
            f"QStash is told to call {path}, but the URLconf has the webhook at {routed}.",
            hint=f'Write DJANGO_HOOKFLOW_WEBHOOK_PATH = "{routed}" in your Django settings, '
            f"or {include} in your URLconf.",
            id=f"{TAG}.W002",
        )


def _sqlite() -> Iterator[CheckMessage]:
    alias = _readable(Options.database)
    database: dict[str, Any] = settings.DATABASES.get(alias or "", {})
    mode = str((database.get("OPTIONS") or {}).get("transaction_mode", "")).upper()
    # Before Django 5.1 there is nothing to write; our own transactions do without it.
    if django.VERSION < (5, 1) or not str(database.get("ENGINE", "")).endswith("sqlite3"):
        return
    if mode not in ("IMMEDIATE", "EXCLUSIVE"):
        yield Warning(
            f'The database "{alias}" is SQLite without IMMEDIATE transactions: two that read '
            'before they write fail with "database is locked", whatever the timeout.',
            hint=f'Paste these two lines into DATABASES["{alias}"]["OPTIONS"]:\n'
            '    "transaction_mode": "IMMEDIATE", "timeout": 20,\n'
            '    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",',
            id=f"{TAG}.W003",
        )


def _problem(setting: Setting[Any]) -> ConfigurationError | None:
    try:
        setting.read()
    except ConfigurationError as error:
        return error
    return None


def _readable(setting: Setting[str]) -> str | None:
    # A value that cannot be read was told by _values().
    return None if _problem(setting) else setting.read()


def _error(number: str, text: str, hint: str) -> Error:
    return Error(text, hint=hint, id=f"{TAG}.{number}")


def _sentence(advice: str) -> str:
    return f"{advice[0].upper()}{advice[1:]}."
