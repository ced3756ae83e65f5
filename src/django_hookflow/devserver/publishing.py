"""From a publish request to a ``Spec``: destinations, ``Upstash-*`` options, forwarded headers."""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, unquote_plus, urlsplit

from django_hookflow.core.durations import parse_duration
from django_hookflow.core.expressions import RetryDelay, parse_retry_delay
from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.messages import Spec

__all__ = ["Headers", "read_destination", "read_spec"]

logger = logging.getLogger("django_hookflow.devserver")

Headers = Iterable[tuple[str, str]]

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_MOST_RETRIES = 999
_FORWARD = "upstash-forward-"
# What belongs to one connection, and what the server itself says with each delivery.
_NEVER_FORWARDED = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "upgrade",
        "accept-encoding",
        "user-agent",
        "content-type",
        "upstash-message-id",
        "upstash-retried",
        "upstash-signature",
        "upstash-caller-ip",
        "upstash-schedule-id",
        "upstash-topic-name",
        "upstash-region",
    }
)
# Wishes about what happens beside the delivery: the message can be delivered without them.
_IGNORED = frozenset(
    {
        "upstash-callback",
        "upstash-failure-callback",
        "upstash-flow-control-key",
        "upstash-redact-fields",
    }
)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\U0010ffff]")


def read_destination(raw: str, query: str) -> tuple[str, list[tuple[str, str]]]:
    """The destination URL and the options that the query carried for the server itself.

    ``raw`` and ``query`` are as they stood in the request line: a destination is not decoded,
    unless all of it was percent-encoded. Raises ``Refused``.
    """
    own: list[tuple[str, str]] = []
    theirs: list[str] = []
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        name = unquote_plus(name).lower()
        if name.startswith("upstash-"):
            own.append((name, unquote_plus(value)))
        elif name != "qstash_token":
            theirs.append(part)
    destination = unquote(raw) if re.match(r"https?%3a", raw, re.IGNORECASE) else raw
    if theirs:
        destination += ("&" if "?" in destination else "?") + "&".join(theirs)
    _check_destination(destination)
    return destination, own


def read_spec(
    destination: str, headers: Headers, body: bytes, *, caller_ip: str, now: float
) -> Spec:
    """What the publisher asked for; later headers of the same name win.

    Raises ``Refused`` for options that cannot be understood, rather than deliver otherwise
    than asked.
    """
    _check_destination(destination)
    headers = [(name, value.strip(" \t")) for name, value in headers]
    _check_headers(headers)
    options = {name.lower(): value for name, value in headers}
    if "upstash-cron" in options:
        raise Refused(400, "schedules are not offered by this server")
    for name in _IGNORED & options.keys():
        _warn_once(name)
    spec = Spec(
        url=destination,
        method=_method(options),
        body=body,
        content_type=options.get("content-type"),
        headers=_forwarded(headers, options),
        retries=_retries(options),
        created_at=now,
        due=_due(options, now),
        timeout=_timeout(options),
        retry_delay=_retry_delay(options),
        deduplication_id=options.get("upstash-deduplication-id") or None,
        labels=_labels(options),
        caller_ip=caller_ip,
    )
    if spec.deduplication_id is None and _is_true(options, "upstash-content-based-deduplication"):
        return dataclasses.replace(spec, deduplication_id=spec.content_id())
    return spec


@functools.cache
def _warn_once(name: str) -> None:
    logger.warning("this server does not support %s; messages are delivered without it", name)


def _check_destination(url: str) -> None:
    problem = ""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or "://" not in url[:8]:
            problem = "endpoint has invalid scheme, add http:// or https://"
        elif not parts.hostname or parts.port == 0:
            problem = "endpoint has no host"
        elif _UNSAFE.search(url):
            problem = "endpoint has characters that must be percent-encoded"
    except ValueError as error:
        problem = str(error)
    if problem:
        raise Refused(400, f"invalid destination url: {problem}")


def _check_headers(headers: Headers) -> None:
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Refused(400, f"invalid header {name!r}")


def _forwarded(headers: Headers, options: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    everything = _is_true(options, "upstash-header-forward")
    forwarded = []
    for full_name, value in headers:
        lower = full_name.lower()
        prefixed = lower.startswith(_FORWARD)
        if not prefixed and (not everything or lower.startswith("upstash-")):
            continue
        name = full_name[len(_FORWARD) :] if prefixed else full_name
        if name and name.lower() not in _NEVER_FORWARDED:
            forwarded.append((name, value))
    return tuple(forwarded)


def _is_true(options: Mapping[str, str], name: str) -> bool:
    # The Python SDK writes "True".
    return options.get(name, "").lower() in ("true", "1")


def _method(options: Mapping[str, str]) -> str:
    method = options.get("upstash-method", "POST").upper()
    if method not in _METHODS:
        raise Refused(400, f"invalid Upstash-Method {method!r}: one of {', '.join(_METHODS)}")
    return method


def _retries(options: Mapping[str, str]) -> int:
    text = options.get("upstash-retries", "3")
    if not re.fullmatch(r"[0-9]{1,3}", text):
        raise Refused(400, f"invalid Upstash-Retries {text!r}: a number from 0 to {_MOST_RETRIES}")
    return int(text)


def _due(options: Mapping[str, str], now: float) -> float:
    text = options.get("upstash-not-before")
    if text:
        if not re.fullmatch(r"[0-9]{1,12}", text):
            raise Refused(400, f"invalid Upstash-Not-Before {text!r}: Unix time in seconds")
        return max(now, float(text))
    return now + (_duration(options, "Upstash-Delay") or 0.0)


def _timeout(options: Mapping[str, str]) -> float | None:
    return _duration(options, "Upstash-Timeout") or None


def _duration(options: Mapping[str, str], name: str) -> float | None:
    text = options.get(name.lower())
    if not text:
        return None
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise Refused(400, f"invalid {name}: {error}") from None


def _retry_delay(options: Mapping[str, str]) -> RetryDelay | None:
    text = options.get("upstash-retry-delay")
    if not text:
        return None
    try:
        return parse_retry_delay(text)
    except ValueError as error:
        raise Refused(400, f"invalid Upstash-Retry-Delay: {error}") from None


def _labels(options: Mapping[str, str]) -> tuple[str, ...]:
    labels = options.get("upstash-label", "").split(",")
    return tuple(label.strip() for label in labels if label.strip())
