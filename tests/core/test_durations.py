"""Durations, waiting times and the retry-delay language, as tables."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_hookflow.core.durations import (
    MAX_RETRY_DELAY,
    default_backoff,
    format_duration,
    parse_duration,
    parse_retry_after,
    retry_after,
)
from django_hookflow.core.expressions import parse_retry_delay

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("50s", 50),
        ("1h30m3s", 5403),
        ("1d10h30m", 124_200),
        ("7d", 604_800),
        ("0s", 0),
        ("30", 30),
        ("0.5", 0.5),
        ("1.5h", 5400),
        ("30m1h", 5400),
        (" 1m ", 60),
        ("0" * 63 + "1", 1),
    ],
)
def test_duration(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "s", "1w", "1 h", "-1s", "+1s", "1h-", "1e3s", ".5s", "1.s", "1,5s", "\u0661s",
     "1S", "1h 30m", "inf", "nan", "9" * 40 + "d", "9" * 40, "0" * 65, "1" * 100_000, "1s\n1s",
     "٣"],
)  # fmt: skip
def test_no_duration(text):
    with pytest.raises(ValueError, match="duration") as error:
        parse_duration(text)
    assert repr(text[:20])[1:-1] in str(error.value)


def test_a_duration_beyond_the_calendar_is_called_too_long():
    with pytest.raises(ValueError, match="'1000000000d' is too long"):
        parse_duration("1000000000d")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0s"),
        (90.5, "1m30.5s"),
        (61, "1m1s"),
        (3600, "1h"),
        (124_200, "1d10h30m"),
        (timedelta(days=1, microseconds=1), "1d0.000001s"),
        (timedelta(milliseconds=250), "0.25s"),
    ],
)
def test_format_duration(value, text):
    assert format_duration(value) == text


@settings(deadline=None)
@given(st.timedeltas(min_value=timedelta(0)))
def test_formatted_duration_reads_back(value):
    assert parse_duration(format_duration(value)) == value


@pytest.mark.parametrize("value", [-1, math.inf, math.nan, timedelta(seconds=-1)])
def test_no_such_duration_to_format(value):
    with pytest.raises(ValueError, match="duration"):
        format_duration(value)


def test_default_backoff():
    # 12 s, 2 m 28 s, 30 m 8 s, 6 h 7 m 6 s, then a day.
    assert [int(default_backoff(n)) for n in range(1, 7)] == [12, 148, 1808, 22026, 86400, 86400]
    assert default_backoff(10**9) == 86_400
    with pytest.raises(ValueError, match="counted from 1"):
        default_backoff(0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 1.5 ", 1.5),
        ("86400", 86_400),
        ("86401", None),
        ("6m5s", 365),
        ("1h0m0.5s", 3600.5),
        ("250ms", 0.25),
        ("5us", 5e-6),
        ("5\u00b5s", 5e-6),
        ("5\u03bcs", 5e-6),
        ("7ns", 7e-9),
        (".5s", 0.5),
        ("25h", None),
        ("1d", None),
        ("-1", None),
        ("-5s", None),
        ("Fri, 02 Jan 2026 03:04:15 GMT", 10),
        ("Fri, 02 Jan 2026 05:04:15 +0200", 10),
        ("Fri, 02 Jan 2026 03:04:15 -0000", 10),
        ("Thu, 01 Jan 2026 00:00:00 GMT", 0),
        ("Sun, 04 Jan 2026 00:00:00 GMT", None),
        ("Fri, 99 Jan 2026 03:04:15 GMT", None),
        ("1767323055", None),  # a Unix time is far more than a day
        ("", None),
        ("soon", None),
        ("0" * 64, 0),
        ("0" * 65, None),
        ("1" * 5000, None),
        ("NaN", None),
        ("inf", None),
    ],
)
def test_retry_after(value, seconds):
    assert parse_retry_after(value, NOW) == pytest.approx(seconds)


@settings(deadline=None)
@given(st.text())
def test_retry_after_never_fails(value):
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_DELAY


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "1", "x-ratelimit-reset": "2"}, 1),
        ({"retry-after": "soon", "x-ratelimit-reset": "2"}, 2),
        ({"x-ratelimit-reset-tokens": "4", "x-ratelimit-reset-requests": "3"}, 3),
        ({"x-ratelimit-reset-tokens": "6m"}, 360),
    ],
)
def test_first_readable_header_wins(headers, seconds):
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1000", [1000, 1000, 1000]),
        ("1000 * (1 + retried)", [1000, 2000, 3000]),
        ("pow(2, retried) * 1000", [1000, 2000, 4000]),
        ("7000 * retried", [0, 7000, 14_000]),
        ("max(10, pow(2, retried))", [10, 10, 10]),
        ("min(1500,1000*(retried+1))", [1000, 1500, 1500]),
        ("10 - 2 - 3", [5, 5, 5]),
        ("100 / 5 / 2", [10, 10, 10]),
        ("2 + 3 * 4", [14, 14, 14]),
        ("-(-5)", [5, 5, 5]),
        ("- -5 * +2", [10, 10, 10]),
        ("sqrt(16) + abs(-3) + exp(0)", [8, 8, 8]),
        ("floor(1.9) + ceil(1.1) + round(2.5) + round(0.4)", [6, 6, 6]),
        ("round(retried / 2)", [0, 1, 1]),
        (" 1.5e3 ", [1500, 1500, 1500]),
        (".5 + 1.", [1.5, 1.5, 1.5]),
        ("retried - 1", [0, 0, 1]),
        ("sqrt(-1)", [0, 0, 0]),
        ("0 / 0", [0, 0, 0]),
        ("-1 / 0", [0, 0, 0]),
        ("1 / retried", [86_400_000, 1, 0.5]),
        ("exp(1000)", [86_400_000] * 3),
        ("-exp(1000) + exp(1000)", [0, 0, 0]),
        ("pow(10, 400)", [86_400_000] * 3),
        ("pow(-8, 0.5)", [0, 0, 0]),
        ("pow(0, -1)", [0, 0, 0]),
        ("floor(exp(1000))", [86_400_000] * 3),
        ("ceil(exp(1000)) * 1e400", [86_400_000] * 3),
        ("min(sqrt(-1), 5)", [0, 0, 0]),
        ("max(5, sqrt(-1))", [0, 0, 0]),
        ("round(sqrt(-1))", [0, 0, 0]),
    ],
)
def test_retry_delay(text, milliseconds):
    delay = parse_retry_delay(text)
    assert delay.text == text
    got = [delay.seconds(retried) * 1000 for retried in range(3)]
    assert got == pytest.approx(milliseconds)


@pytest.mark.parametrize(
    "text",
    ["", "   ", "()", "(", "(1", "1)", "1 2", "1 +", "* 2", "1 ** 2", "2 // 1", "1 % 2", "a",
     "Retried", "retries", "pow(1)", "pow(1, 2, 3)", "pow()", "pow", "sqrt(1, 2)", "min(1)",
     "max(1,)", "sqrt 4", "retried(1)", "1(2)", "0x10", "1_000", "1e", "1,000", "'a'", "[1]",
     "x.y", "__import__('os')", "lambda: 1", "1;2", "1\n;", "\u0661", "\u00b2", "1" * 300,
     "(" * 60 + "1" + ")" * 60, "-" * 100 + "1", "\x00"],
)  # fmt: skip
def test_no_retry_delay(text):
    with pytest.raises(ValueError, match="invalid retry delay") as error:
        parse_retry_delay(text)
    assert repr(text[:20])[1:-1] in str(error.value)


@settings(deadline=None)
@given(st.text(alphabet="0123456789.e+-*/(), \tretiedpowsqmaxn", max_size=40), st.integers(0, 999))
def test_retry_delay_is_a_delay_or_an_error(text, retried):
    try:
        delay = parse_retry_delay(text)
    except ValueError:
        return
    assert 0 <= delay.seconds(retried) <= MAX_RETRY_DELAY


def test_longest_and_deepest_expressions_evaluate():
    assert parse_retry_delay("+".join(["1"] * 128)).seconds(0) == pytest.approx(0.128)
    assert parse_retry_delay("(" * 19 + "1000" + ")" * 19).seconds(0) == 1
