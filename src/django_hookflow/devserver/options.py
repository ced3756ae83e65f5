"""What the ``Upstash-*`` headers of a request say, one reader for each.

``options`` have lower-case names; of several of one name the last one counts. Every reader
raises ``Refused`` with the header's name for what it cannot understand: to deliver otherwise
than asked would be worse.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from django_hookflow.core.durations import parse_duration
from django_hookflow.core.expressions import RetryDelay, parse_retry_delay
from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.messages import FlowLimits

__all__ = [
    "check_name",
    "flow_limit",
    "read_due",
    "read_duration",
    "read_flow",
    "read_labels",
    "read_method",
    "read_redaction",
    "read_retries",
    "read_retry_delay",
    "says_true",
]

Options = Mapping[str, str]

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_MOST_RETRIES = 999
# Ten years: beyond that somebody counted in the wrong unit.
_LONGEST_DELAY = 315_360_000.0
_LONGEST_PERIOD = 604_800
_MOST_FLOW = 1_000_000
_LONGEST_NAME = 512
_NAME = re.compile(r"[A-Za-z0-9._-]{1,512}")
_REDACTED_HEADER = re.compile(r"headers?\[([^\]]+)\]", re.IGNORECASE)


def says_true(options: Options, name: str) -> bool:
    """Whether a switch is on; the Python SDK writes ``True``."""
    return options.get(name, "").lower() in ("true", "1")


def check_name(what: str, name: str) -> str:
    """The name of a queue, a schedule or a URL group, if it is one."""
    if not _NAME.fullmatch(name):
        raise Refused(400, f"invalid {what} {name[:40]!r}: letters, digits, hyphen, underscore "
                           "and period only")  # fmt: skip
    return name


def read_method(options: Options) -> str:
    """The method of the delivery."""
    method = options.get("upstash-method", "POST").upper()
    if method not in _METHODS:
        raise Refused(400, f"invalid Upstash-Method {method!r}: one of {', '.join(_METHODS)}")
    return method


def read_retries(options: Options) -> int:
    """How many deliveries may follow the first one."""
    text = options.get("upstash-retries", "3")
    if not re.fullmatch(r"[0-9]{1,3}", text):
        raise Refused(400, f"invalid Upstash-Retries {text!r}: a number from 0 to {_MOST_RETRIES}")
    return int(text)


def read_due(options: Options, now: float) -> float:
    """The instant of the first delivery; an absolute one wins over a delay."""
    text = options.get("upstash-not-before")
    if text:
        if not re.fullmatch(r"[0-9]{1,12}", text):
            raise Refused(400, f"invalid Upstash-Not-Before {text!r}: Unix time in seconds")
        due = max(now, float(text))
        if due - now > _LONGEST_DELAY:
            raise Refused(400, f"invalid Upstash-Not-Before {text!r}: more than ten years ahead")
        return due
    delay = read_duration(options, "Upstash-Delay") or 0.0
    if delay > _LONGEST_DELAY:
        raise Refused(400, "invalid Upstash-Delay: more than ten years")
    return now + delay


def read_duration(options: Options, name: str) -> float | None:
    """The seconds that the header ``name`` says, ``None`` if it is not there."""
    text = options.get(name.lower())
    if not text:
        return None
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise Refused(400, f"invalid {name}: {error}") from None


def read_retry_delay(options: Options) -> RetryDelay | None:
    """The expression for the back-off."""
    text = options.get("upstash-retry-delay")
    if not text:
        return None
    try:
        return parse_retry_delay(text)
    except ValueError as error:
        raise Refused(400, f"invalid Upstash-Retry-Delay: {error}") from None


def read_labels(options: Options) -> tuple[str, ...]:
    """The labels, in their order."""
    labels = options.get("upstash-label", "").split(",")
    return tuple(label.strip() for label in labels if label.strip())


def read_flow(options: Options) -> FlowLimits | None:
    """The flow-control key and its limits."""
    key = options.get("upstash-flow-control-key", "")
    text = options.get("upstash-flow-control-value", "")
    if not key:
        if text:
            raise Refused(400, "Upstash-Flow-Control-Value needs an Upstash-Flow-Control-Key")
        return None
    if len(key) > _LONGEST_NAME:
        raise Refused(400, f"invalid Upstash-Flow-Control-Key: more than {_LONGEST_NAME} letters")
    said: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name.lower() not in ("parallelism", "rate", "period"):
            raise Refused(400, f"invalid Upstash-Flow-Control-Value {text[:80]!r}: write "
                               "parallelism=<n>, rate=<n>, period=<duration>")  # fmt: skip
        said[name.lower()] = flow_limit(name.lower(), value)
    return FlowLimits(key=key, **said)


def flow_limit(name: str, value: str) -> int:
    """One of the three values, ``period`` in seconds."""
    refused = Refused(400, f"invalid Upstash-Flow-Control-Value: {name}={value[:40]}")
    if name == "period":
        try:
            seconds = parse_duration(value).total_seconds()
        except ValueError:
            raise refused from None
        if not 1 <= seconds <= _LONGEST_PERIOD:
            raise Refused(400, "invalid Upstash-Flow-Control-Value: a period lasts from a second "
                               "to a week")  # fmt: skip
        return int(seconds)
    if not re.fullmatch(r"[0-9]{1,7}", value) or not 1 <= int(value) <= _MOST_FLOW:
        raise refused
    return int(value)


def read_redaction(options: Options) -> tuple[str, ...]:
    """What is hidden from the API: ``body``, ``header``, ``header:<name in lower case>``."""
    text = options.get("upstash-redact-fields", "")
    fields: dict[str, None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        named = _REDACTED_HEADER.fullmatch(part)
        if named is not None:
            fields["header:" + named[1].strip().lower()] = None
        elif part.lower() in ("body", "header", "headers"):
            fields[part.lower().removesuffix("s")] = None
        else:
            raise Refused(400, f"invalid Upstash-Redact-Fields {part[:40]!r}: body, header or "
                               "header[<name>]")  # fmt: skip
    return tuple(fields)
