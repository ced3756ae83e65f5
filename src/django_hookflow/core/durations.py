"""Lengths of time as text: what QStash writes in headers and what people write in code.

Pure: the standard library only, and the clock comes in as an argument. The arithmetic
language of ``Upstash-Retry-Delay`` is next door, in ``expressions``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

__all__ = [
    "MAX_RETRY_DELAY",
    "default_backoff",
    "format_duration",
    "parse_duration",
    "parse_retry_after",
    "retry_after",
]

MAX_RETRY_DELAY = 86_400.0
"""Seconds; no redelivery waits longer than a day."""

# Text from the network is cut short before any number in it is converted: turning a
# million digits into a float is slow, and no length of time needs them.
_LONGEST_TEXT = 64
_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_TERM = re.compile(r"([0-9]+(?:\.[0-9]+)?)([dhms])")
_TERMS = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[dhms])+")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")

_GO_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,  # the micro sign
    "\u03bcs": 1e-6,  # the Greek letter; Go takes both
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3_600.0,
}
_GO_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_GO_TERM = re.compile(rf"({_GO_NUMBER})(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_GO_TERMS = re.compile(rf"(?:{_GO_NUMBER}(?:ns|us|\u00b5s|\u03bcs|ms|s|m|h))+")

# In the order in which they win.
_RETRY_AFTER_HEADERS = (
    "retry-after",
    "x-ratelimit-reset",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
)


def parse_duration(text: str) -> timedelta:
    """The length of time that ``"1d10h30m"``, ``"50s"`` or ``"1.5h"`` says.

    Units are ``d``, ``h``, ``m`` and ``s``; terms add up, in any order. A bare number means
    seconds. Raises ``ValueError`` that names the text, also for more than 999,999,999 days.
    """
    stripped = text.strip()
    if len(stripped) <= _LONGEST_TEXT:
        try:
            if _NUMBER.fullmatch(stripped):
                return timedelta(seconds=float(stripped))
            if _TERMS.fullmatch(stripped):
                return sum(
                    (
                        timedelta(seconds=float(number) * _UNITS[unit])
                        for number, unit in _TERM.findall(stripped)
                    ),
                    timedelta(),
                )
        except OverflowError:
            raise ValueError(f"duration {text!r} is too long") from None
    raise ValueError(
        f"invalid duration {text[:_LONGEST_TEXT]!r}: "
        "write numbers with the units d, h, m or s, like '1d10h30m'"
    )


def format_duration(value: timedelta | float) -> str:
    """Write a length of time (a ``timedelta``, or seconds) so that ``parse_duration`` reads it.

    Exact to the microsecond: ``format_duration(90.5)`` is ``"1m30.5s"``. Raises ``ValueError``
    for negative, infinite and undefined lengths.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not 0 <= seconds < math.inf:
        raise ValueError(f"a duration cannot be {value!r}")
    length = value if isinstance(value, timedelta) else timedelta(seconds=seconds)
    hours, rest = divmod(length.seconds, 3_600)
    minutes, whole = divmod(rest, 60)
    fraction = f".{length.microseconds:06d}".rstrip("0") if length.microseconds else ""
    terms = [(length.days, "d"), (hours, "h"), (minutes, "m")]
    text = "".join(f"{number}{unit}" for number, unit in terms if number)
    if whole or fraction or not text:
        text += f"{whole}{fraction}s"
    return text


def default_backoff(retry: int) -> float:
    """Seconds that QStash waits before retry number ``retry``, the first being 1.

    12 s, 2.5 min, half an hour, 6 hours, then a day each.
    """
    if retry < 1:
        raise ValueError(f"retries are counted from 1, not {retry}")
    # From the fifth on it is a day, and exp() of a large number would overflow.
    return min(MAX_RETRY_DELAY, math.exp(2.5 * min(retry, 5)))


def parse_retry_after(value: str, now: datetime) -> float | None:
    """Seconds to wait that a ``Retry-After``-like header asks for, or ``None`` to ignore it.

    ``value`` is a number of seconds, an RFC 1123 date or a Go duration like ``6m5s``; a date
    in the past means 0. Unreadable values and anything over a day give ``None``, because
    QStash falls back to its default then. ``now`` must be aware.
    """
    text = value.strip()
    if not text or len(text) > _LONGEST_TEXT:
        return None
    if _NUMBER.fullmatch(text):
        seconds: float | None = float(text)
    elif _GO_TERMS.fullmatch(text):
        seconds = sum(float(number) * _GO_UNITS[unit] for number, unit in _GO_TERM.findall(text))
    else:
        seconds = _seconds_until(text, now)
    return seconds if seconds is not None and seconds <= MAX_RETRY_DELAY else None


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that the headers of a failed answer ask for, or ``None`` if none says it readably.

    ``headers`` has lower-case names or is case-insensitive. ``Retry-After`` wins over the
    three ``X-RateLimit-Reset`` headers.
    """
    for name in _RETRY_AFTER_HEADERS:
        value = headers.get(name)
        seconds = None if value is None else parse_retry_after(value, now)
        if seconds is not None:
            return seconds
    return None


def _seconds_until(date: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        # "-0000" says UTC without saying where the clock stands.
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - now).total_seconds())
