"""The system checks: what ``manage.py check`` says about a project's settings.

=====================  ============================================================
django_hookflow.E001   a required setting is missing
django_hookflow.E002   a setting has a value that it cannot have
django_hookflow.E003   ``USE_TZ`` is False
django_hookflow.E004   the local server's public token or keys with ``DEBUG=False``
django_hookflow.E005   a signing key is too short
django_hookflow.E006   ``DJANGO_HOOKFLOW_DATABASE`` is no alias of ``DATABASES``
django_hookflow.E007   the transport or the codec cannot be imported
django_hookflow.E008   the journal's database has its own ``TIME_ZONE``, or no autocommit
django_hookflow.W001   a signing key is not set
django_hookflow.W002   the webhook's URL is not where ``WEBHOOK_PATH`` says
django_hookflow.W003   SQLite without ``IMMEDIATE`` transactions
django_hookflow.W004   deliveries are redirected by ``SECURE_SSL_REDIRECT``
django_hookflow.W005   the domain's host is not in ``ALLOWED_HOSTS``
django_hookflow.W006   runs are overdue and nothing sweeps (database)
django_hookflow.W007   unfinished runs of unregistered workflows (database)
django_hookflow.W008   MariaDB or MySQL without the connection charset utf8mb4
=====================  ============================================================

None of them touches the network; those marked so ask the journal's database, when Django names
it: in ``migrate`` and in ``check --database``.

Longer than 250 lines because it is a list of checks that know nothing of each other.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from urllib.parse import urlsplit

import django
from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseFailure
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler
from django.http.request import split_domain_port, validate_host
from django.urls import NoReverseMatch, Resolver404, get_script_prefix, resolve, reverse
from django.utils.module_loading import import_string

from django_hookflow import diagnosis
from django_hookflow.conf import SETTINGS, Options, Setting
from django_hookflow.exceptions import ConfigurationError
from django_hookflow.journals.orm_settings import UTC

__all__ = ["TAG", "check_journal", "check_settings", "register_checks"]

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

#: What a project does that has no QStash yet.
WITHOUT_ACCOUNT = (
    "Without a QStash account, on your own machine: python manage.py migrate --skip-checks, "
    "then python manage.py hookflow dev."
)

_KEYS: tuple[Setting[Any], ...] = (Options.current_signing_key, Options.next_signing_key)

#: Which setting's wrong value has an id of its own.
_WRONG = {
    **{setting.name: "E005" for setting in _KEYS},
    Options.database.name: "E006",
}


def register_checks() -> None:
    """Make the checks part of ``manage.py check``; called by ``AppConfig.ready()``."""
    register(check_project, TAG)
    # Django's own tag alone: with ours too, Django 6.1 would ask the database for ours.
    register(check_journal, Tags.database)


#: What only matters where messages leave for QStash, as none does in a test.
_NOT_IN_TESTS = frozenset({"E001", "E004", "W001", "W005"})


def check_project(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """:func:`check_settings`, but that ``manage.py test`` asks for no account."""
    found = check_settings(app_configs, **kwargs)
    if not _testing():
        return found
    return [told for told in found if str(told.id).rpartition(".")[2] not in _NOT_IN_TESTS]


def _testing() -> bool:
    """Whether Django's test environment is set up: there ``DEBUG`` is False whatever it was."""
    # Without an import: a process that has not loaded it is no test.
    state = getattr(sys.modules.get("django.test.utils"), "_TestState", None)
    return hasattr(state, "saved_data")


def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Everything that can be told from the settings alone."""
    found: list[CheckMessage] = []
    for check in (
        *(_values, _time_zones, _public_credentials, _imports, _database),
        *(_keys, _url, _sqlite, _ssl_redirect, _allowed_hosts, _charset),
    ):
        found.extend(check())
    return found


def check_journal(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> list[CheckMessage]:
    """What the journal's rows tell, if its database is among ``databases``.

    Nothing at all before the tables are there, or while the database cannot be reached.
    """
    alias = _readable(Options.database)
    if alias is None or alias not in (databases or ()):
        return []
    try:
        if diagnosis.tables_missing(alias):
            return []
        with _unbroken(alias):
            return [*_unswept(alias), *_unregistered(alias)]
    except DatabaseFailure:
        # Away, or with the tables of another version: whoever asks will be told by Django.
        return []


def _unbroken(alias: str) -> AbstractContextManager[object]:
    """What fails inside must not break a transaction that the caller is in."""
    inside = connections[alias].in_atomic_block
    return transaction.atomic(using=alias) if inside else nullcontext()


def _values() -> Iterator[CheckMessage]:
    for setting in SETTINGS:
        if error := _problem(setting):
            missing = setting.written()[1] is None
            number = "E001" if missing else _WRONG.get(setting.name, "E002")
            # The message says both; here the advice is the hint.
            text = str(error).removesuffix(setting.advice).rstrip(":; ")
            hint = _sentence(setting.advice)
            # `migrate` runs every check, on every version of Django; there is no tag to escape it.
            if missing and settings.DEBUG:
                hint += f" {WITHOUT_ACCOUNT}"
            yield _error(number, f"{text}.", hint)


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
    if not getattr(settings, "ROOT_URLCONF", None):
        text = "There is no ROOT_URLCONF: no delivery reaches a workflow."
        hint = f"Write {include} in a URLconf, and its module in ROOT_URLCONF."
        yield _warning("W002", text, hint)
        return
    # Behind a prefix the domain carries the beginning of the path: the server takes it off, or
    # FORCE_SCRIPT_NAME does, or the URLconf has it.
    full = urlsplit(_readable(Options.domain) or "").path + path
    script = get_script_prefix()
    candidates = {path, full, f"/{full[len(script) :]}" if full.startswith(script) else full}
    if not any(_is_webhook(candidate) for candidate in candidates):
        yield _warning("W002", *_misplaced(path, include))


def _is_webhook(path: str) -> bool:
    try:
        match = resolve(path)
    except Resolver404:
        return False
    return match.url_name == "webhook" and "django_hookflow" in match.app_names


def _misplaced(path: str, include: str) -> tuple[str, str]:
    """What is wrong with the URLconf, and what to write."""
    try:
        routed = reverse("django_hookflow:webhook")
    except NoReverseMatch:
        text = "django_hookflow.urls is not in the URLconf: no delivery reaches a workflow."
        return text, f"Write {include} in your URLconf."
    if routed == path:
        return (
            f"{path} is in the URLconf, but another pattern before it takes the deliveries.",
            f"Write {include} at the top of urlpatterns.",
        )
    text = f"QStash is told to call {path}, but the URLconf has the webhook at {routed}."
    hint = f"Write {include} in your URLconf"
    if routed.endswith("/"):
        # A path is always read with a slash at its end; only the URLconf can put that right.
        hint += f', or DJANGO_HOOKFLOW_WEBHOOK_PATH = "{routed}" in your Django settings'
    return text, f"{hint}."


def _ssl_redirect() -> Iterator[CheckMessage]:
    middleware = "django.middleware.security.SecurityMiddleware"
    domain, path = _readable(Options.domain), _readable(Options.webhook_path)
    if not settings.SECURE_SSL_REDIRECT or middleware not in settings.MIDDLEWARE:
        return
    if domain is None or path is None:
        return
    exempt = any(re.search(p, path.lstrip("/")) for p in settings.SECURE_REDIRECT_EXEMPT)
    if exempt or (domain.startswith("https://") and settings.SECURE_PROXY_SSL_HEADER):
        return
    if domain.startswith("https://"):
        bite = (
            "SECURE_SSL_REDIRECT is True and SECURE_PROXY_SSL_HEADER is not set: behind a proxy "
            "that ends TLS every delivery is redirected, and QStash follows no redirect."
        )
        cure = (
            'If a proxy ends TLS, write SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", '
            '"https") (see the proxy that it sets that header itself)'
        )
    else:
        bite = (
            f"SECURE_SSL_REDIRECT is True and {Options.domain.name} is an http URL: every "
            "delivery is redirected, and QStash follows no redirect."
        )
        cure = f"Write the https URL in {Options.domain.name}"
    yield _warning(
        "W004", bite, f'{cure}; or write SECURE_REDIRECT_EXEMPT = [r"^{path.lstrip("/")}"].'
    )


def _allowed_hosts() -> Iterator[CheckMessage]:
    domain = _readable(Options.domain)
    if domain is None:
        return
    # As HttpRequest.get_host() does.
    allowed = settings.ALLOWED_HOSTS
    if settings.DEBUG and not allowed:
        allowed = [".localhost", "127.0.0.1", "[::1]"]
    host, _ = split_domain_port(urlsplit(domain).netloc.lower())
    if not validate_host(host, allowed):
        yield _warning(
            "W005",
            f"The host {host!r} of {Options.domain.name} is not in ALLOWED_HOSTS: Django answers "
            "deliveries with 400.",
            f'Write ALLOWED_HOSTS += ["{host}"] in your Django settings.',
        )


# --- the journal's database


def _journal() -> BaseDatabaseWrapper | None:
    """The alias as it is written, not connected; ``None`` if it cannot be told."""
    alias = _readable(Options.database)
    if alias not in settings.DATABASES:
        return None
    try:
        # Not django.db.connections: it has what was written when it was first used.
        wrapper: BaseDatabaseWrapper = ConnectionHandler(settings.DATABASES)[alias]
    except ImproperlyConfigured:
        return None  # no such backend, or its driver is missing: Django says so by itself
    return wrapper


def _database() -> Iterator[CheckMessage]:
    journal = _journal()
    if journal is None:
        return
    alias, zone = journal.alias, journal.settings_dict["TIME_ZONE"]
    if zone not in UTC and not journal.features.supports_timezones:
        yield _error(
            "E008",
            f'DATABASES["{alias}"]["TIME_ZONE"] is {zone!r}, and {journal.display_name} keeps '
            "times without their zone: timers could not be compared.",
            f'Take TIME_ZONE out of DATABASES["{alias}"], or keep the journal on another alias '
            f"({Options.database.name}).",
        )
    if not journal.settings_dict["AUTOCOMMIT"]:
        yield _error(
            "E008",
            f'DATABASES["{alias}"]["AUTOCOMMIT"] is off: nothing that the journal writes would '
            "be committed.",
            f'Take AUTOCOMMIT out of DATABASES["{alias}"], or keep the journal on another alias '
            f"({Options.database.name}).",
        )


def _charset() -> Iterator[CheckMessage]:
    journal = _journal()
    if journal is None or journal.vendor != "mysql":
        return
    charset = journal.get_connection_params().get("charset")
    if charset != "utf8mb4":
        # Before Django 5.2 the default is "utf8", which is three bytes a character there.
        yield _warning(
            "W008",
            f'The connection charset of DATABASES["{journal.alias}"] is {charset!r}: names with '
            "other characters (an emoji, for one) cannot be stored.",
            f'Write "charset": "utf8mb4" in DATABASES["{journal.alias}"]["OPTIONS"].',
        )


def _unswept(alias: str) -> Iterator[CheckMessage]:
    overdue = diagnosis.unswept(alias)
    if overdue is not None:
        last = overdue.swept_at
        swept = "none was yet" if last is None else f"the last was at {last:%Y-%m-%d %H:%M} UTC"
        yield _warning(
            "W006",
            f"Run {overdue.run_id!r} is overdue since {overdue.due_at:%Y-%m-%d %H:%M} UTC, and no "
            f"sweep was recorded since ({swept}): a message that got lost stays lost.",
            "Let python manage.py hookflow sweep --every 30 run beside the server, or call "
            "python manage.py hookflow sweep from cron.",
        )


def _unregistered(alias: str) -> Iterator[CheckMessage]:
    if gone := diagnosis.unregistered(alias):
        named = ", ".join(f"{one.name} ({one.runs})" for one in gone[:20])
        more = f" and {len(gone) - 20} more" if len(gone) > 20 else ""
        yield _warning(
            "W007",
            f"Unfinished runs belong to workflows that are not registered here: {named}{more}.",
            "Bring the workflows back under these ids (workflow_id=...; their app in "
            "INSTALLED_APPS), or end the runs by python manage.py hookflow cancel.",
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


def _warning(number: str, text: str, hint: str) -> Warning:
    return Warning(text, hint=hint, id=f"{TAG}.{number}")


def _sentence(advice: str) -> str:
    return f"{advice[0].upper()}{advice[1:]}."
