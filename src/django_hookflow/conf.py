"""The settings: one typed table, read on use, so that ``override_settings`` works.

Longer than other modules because the table is long; nothing but the table grows.

A setting is looked up in Django's settings, then in the environment variable of the same
name, then it has its default. ``None`` and ``""`` mean "not set", because that is what
``os.environ.get`` puts into a settings file; written in Django's settings they win over the
environment.

The system checks and the settings page of the docs read :data:`SETTINGS`; everything else
reads :data:`options`. A missing or wrong setting is a
:class:`~django_hookflow.exceptions.ConfigurationError` that says what to write where.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast, overload
from urllib.parse import urlsplit

from django.conf import settings

from django_hookflow.core.addresses import is_loopback
from django_hookflow.core.retry import RetryPolicy
from django_hookflow.exceptions import ConfigurationError

__all__ = ["DEV_OVERRIDES", "MIN_KEY_BYTES", "SETTINGS", "Options", "Setting", "options"]

#: The shortest signing key that is used; QStash's have 32.
MIN_KEY_BYTES = 16

#: The environment variable, a JSON object of settings, by which ``manage.py hookflow dev`` leads
#: its child processes to the local QStash server. It has to win over a settings file, which is
#: why the variables of the settings' own names will not do, and counts under ``DEBUG`` only:
#: left over in a deployment it changes nothing.
DEV_OVERRIDES = "HOOKFLOW_DEV_OVERRIDES"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Setting(Generic[T]):
    """One row of the table; as an attribute of :class:`Options` it is its value.

    ``parse`` takes what is written in the settings or, as text, in the environment, and raises
    ``ValueError`` saying what is allowed. ``example`` is what to write.
    """

    name: str
    kind: str
    parse: Callable[[Any], T]
    example: str
    help: str
    default: T | None = None
    required: bool = False
    fallback: str = ""
    secret: bool = False

    @overload
    def __get__(self, instance: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, instance: Options, owner: type) -> T: ...
    def __get__(self, instance: Options | None, owner: type) -> Setting[T] | T:
        return self if instance is None else self.read()

    def read(self) -> T:
        """The value in force; raises :class:`ConfigurationError`."""
        name, written = self.written()
        if written is None:
            if self.required:
                raise ConfigurationError(f"{self.name} is missing: {self.advice}")
            return cast("T", self.default)
        try:
            return self.parse(written)
        except ValueError as error:
            shown = "" if self.secret else f" ({written!r})"
            problem = f"{name}{shown} is wrong: it must be {error}"
            raise ConfigurationError(f"{problem}; {self.advice}") from None

    def written(self) -> tuple[str, Any]:
        """The name it is written under and what is written there, unparsed; None: nothing."""
        for name in filter(None, (self.name, self.fallback)):
            if (value := _written(name)) is not None:
                return name, value
        return self.name, None

    @property
    def advice(self) -> str:
        """What to write where."""
        return (
            f"write {self.name} = {self.example} in your Django settings, "
            f"or set the environment variable {self.name}"
        )


def _written(name: str) -> Any:
    if (overrides := os.environ.get(DEV_OVERRIDES)) and settings.DEBUG is True:
        value = _dev_overrides(overrides).get(name)
        if value is not None:
            return value
    value = getattr(settings, name) if hasattr(settings, name) else os.environ.get(name)
    return None if isinstance(value, str) and not value.strip() else value


@lru_cache(maxsize=4)
def _dev_overrides(text: str) -> dict[str, Any]:
    try:
        overrides = json.loads(text)
    except ValueError:
        overrides = None
    if not isinstance(overrides, dict):
        raise ConfigurationError(
            f"the environment variable {DEV_OVERRIDES} is no JSON object: paste the whole line "
            "that manage.py hookflow dev printed, or unset it"
        )
    return overrides


# --- what is allowed: each takes what is written and returns the value or raises ValueError


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or value != value.strip():
        raise ValueError("text without line breaks or blanks around it")
    return value


def _token(value: Any) -> str:
    if not _text(value).isascii() or " " in value:
        raise ValueError("the token as the QStash console shows it")
    return _text(value)


def _key(value: Any) -> str:
    if len(_token(value)) < MIN_KEY_BYTES:
        raise ValueError(f"a signing key of {MIN_KEY_BYTES} characters or more")
    return _token(value)


def _url(value: Any) -> str:
    try:
        parts = urlsplit(_text(value))
        allowed = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        allowed, parts = False, urlsplit("")
    # The URL is compared letter by letter with what QStash signed.
    if not allowed or " " in value or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("an http(s) URL without user, query and fragment")
    return str(value).rstrip("/")


def _domain(value: Any) -> str:
    if "://" in _text(value):
        return _url(value)
    forced = getattr(settings, "DJANGO_QSTASH_FORCE_HTTPS", True)
    return _url(f"{'https' if forced and not is_loopback('//' + value) else 'http'}://{value}")


def _path(value: Any) -> str:
    path = f"/{_text(value).strip('/')}/".replace("//", "/")
    if any(character in path for character in "?#% \\") or "://" in value:
        raise ValueError("a path of a URL")
    return path


def _alias(value: Any) -> str:
    if _text(value) not in (known := {"default", *settings.DATABASES}):
        raise ValueError(f"a key of DATABASES: {', '.join(sorted(known))}")
    return _text(value)


def _dotted(value: Any) -> str:
    if not all(part.isidentifier() for part in _text(value).split(".")) or "." not in value:
        raise ValueError("the dotted path of a class")
    return _text(value)


def _integer(least: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if type(number) is not int or number < least:
            raise ValueError(f"a whole number, {least} or more")
        return number

    return parse


def _seconds(value: Any) -> float:
    if isinstance(value, timedelta):
        return _seconds(value.total_seconds())
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError("a number of seconds above 0")
    return number


def _delay(value: Any) -> timedelta:
    try:
        delay = timedelta(seconds=_seconds(value))
    except (ValueError, OverflowError):
        delay = timedelta(0)
    if delay < timedelta(seconds=1):
        raise ValueError("a timedelta or a number of seconds, 1 s or more")
    return delay


def _retry(value: Any) -> RetryPolicy:
    if isinstance(value, RetryPolicy):
        return value
    try:
        written = json.loads(value) if isinstance(value, str) else value
        return RetryPolicy(**written)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a RetryPolicy or a dict of its arguments ({error})") from None


# --- the table


class Options:
    """The values in force, each read when it is asked for."""

    token = Setting(
        name="QSTASH_TOKEN",
        kind="str",
        parse=_token,
        required=True,
        secret=True,
        example='"<the token of your QStash console>"',
        help="The token that messages are published with.",
    )
    qstash_url = Setting(
        name="QSTASH_URL",
        kind="str",
        parse=_url,
        default="https://qstash.upstash.io",
        example='"https://qstash.upstash.io"',
        help="Where QStash is; the console names the URL of your region.",
    )
    current_signing_key = Setting[str | None](
        name="QSTASH_CURRENT_SIGNING_KEY",
        kind="str",
        parse=_key,
        secret=True,
        example='"sig_..."',
        help="The key that QStash signs with now; fetched with the token when unset.",
    )
    next_signing_key = Setting[str | None](
        name="QSTASH_NEXT_SIGNING_KEY",
        kind="str",
        parse=_key,
        secret=True,
        example='"sig_..."',
        help="The key that QStash signs with after the next rotation.",
    )
    domain = Setting(
        name="DJANGO_HOOKFLOW_DOMAIN",
        kind="str",
        parse=_domain,
        required=True,
        fallback="DJANGO_QSTASH_DOMAIN",
        example='"https://your-app.com"',
        help="The public base URL under which QStash reaches this project.",
    )
    webhook_path = Setting(
        name="DJANGO_HOOKFLOW_WEBHOOK_PATH",
        kind="str",
        parse=_path,
        default="/hookflow/",
        example='"/hookflow/"',
        help="The path at which the URLconf includes django_hookflow.urls.",
    )
    database = Setting(
        name="DJANGO_HOOKFLOW_DATABASE",
        kind="str",
        parse=_alias,
        default="default",
        example='"default"',
        help="The alias of the database that holds the journal.",
    )
    delivery_seconds = Setting(
        name="DJANGO_HOOKFLOW_DELIVERY_SECONDS",
        kind="seconds",
        parse=_seconds,
        default=20.0,
        example="20",
        help="No further step starts in a delivery that would outlast this.",
    )
    lease_seconds = Setting(
        name="DJANGO_HOOKFLOW_LEASE_SECONDS",
        kind="seconds",
        parse=_seconds,
        default=60.0,
        example="60",
        help="How long a process may be silent before another takes its run over.",
    )
    threads = Setting(
        name="DJANGO_HOOKFLOW_THREADS",
        kind="int",
        parse=_integer(1),
        default=8,
        example="8",
        help="How many def steps run side by side in one process.",
    )
    retry = Setting(
        name="DJANGO_HOOKFLOW_RETRY",
        kind="RetryPolicy",
        parse=_retry,
        default=RetryPolicy(),
        example="RetryPolicy(max_attempts=4)",
        help="How failed steps are tried again that name no policy of their own.",
    )
    max_value_bytes = Setting(
        name="DJANGO_HOOKFLOW_MAX_VALUE_BYTES",
        kind="int",
        parse=_integer(1),
        default=1024 * 1024,
        example="1024 * 1024",
        help="The largest value that is stored: data, a step's result, an event's payload.",
    )
    max_delay = Setting(
        name="DJANGO_HOOKFLOW_MAX_DELAY",
        kind="timedelta",
        parse=_delay,
        default=timedelta(days=7),
        example="timedelta(days=7)",
        help="The longest delay asked of QStash; longer sleeps are re-armed.",
    )
    qstash_retries = Setting(
        name="DJANGO_HOOKFLOW_QSTASH_RETRIES",
        kind="int",
        parse=_integer(0),
        default=3,
        example="3",
        help="Redeliveries asked of QStash, for failures of the infrastructure only.",
    )
    publish_timeout = Setting(
        name="DJANGO_HOOKFLOW_PUBLISH_TIMEOUT",
        kind="seconds",
        parse=_seconds,
        default=2.0,
        example="2",
        help="How long publishing may take before the message stays owed.",
    )
    transport = Setting(
        name="DJANGO_HOOKFLOW_TRANSPORT",
        kind="str",
        parse=_dotted,
        default="django_hookflow.transports.qstash.QStashTransport",
        example='"django_hookflow.transports.qstash.QStashTransport"',
        help="The class that publishes messages.",
    )
    codec = Setting(
        name="DJANGO_HOOKFLOW_CODEC",
        kind="str",
        parse=_dotted,
        default="django_hookflow.core.codec.JSONCodec",
        example='"django_hookflow.core.codec.JSONCodec"',
        help="The class that turns values into text and back.",
    )

    @property
    def webhook_url(self) -> str:
        """What QStash calls and signs: the domain and the path, letter by letter."""
        return self.domain + self.webhook_path


#: Every setting, in the order of the docs.
SETTINGS: tuple[Setting[Any], ...] = tuple(
    attribute for attribute in vars(Options).values() if isinstance(attribute, Setting)
)

options = Options()
