"""What the retry-delay language says of what it cannot read, and the edges of its arithmetic."""

import pytest

from django_hookflow.core.durations import MAX_RETRY_DELAY
from django_hookflow.core.expressions import parse_retry_delay


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1" * 257, "longer than 256 characters"),
        ("1 ; 2", "unexpected ';'"),
        ("1 2", "unexpected '2'"),
        ("pow 2", r"'\(' is missing"),
        ("sqrt(4", r"'\)' is missing"),
        ("(" * 20 + "1" + ")" * 20, "nested too deeply"),
        ("1+" * 30 + "(" * 25 + "1" + ")" * 25, "nested too deeply"),
        ("eval(1)", "unknown 'eval'"),
        ("1 +", "it ends too early"),
        ("pow(1)", r"pow takes 2 argument\(s\), not 1"),
    ],
)
def test_an_unreadable_expression_says_why(text, reason):
    with pytest.raises(ValueError, match=f": {reason}$"):
        parse_retry_delay(text)


def test_the_longest_text_is_read():
    assert parse_retry_delay("0" * 252 + "1000").seconds(0) == 1


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("sqrt(0) + 5", 5),
        ("sqrt(0.25) * 4", 2),
        ("sqrt(-1) / 0", 0),
        ("min(exp(1000), exp(1000))", MAX_RETRY_DELAY * 1000),
        ("max(exp(1000), exp(1000))", MAX_RETRY_DELAY * 1000),
        ("max(exp(1000), -exp(1000))", MAX_RETRY_DELAY * 1000),
    ],
)
def test_arithmetic_at_its_edges(text, milliseconds):
    assert parse_retry_delay(text).seconds(0) * 1000 == pytest.approx(milliseconds)


def test_a_delay_is_told_and_compared_by_its_text() -> None:
    delay = parse_retry_delay("2 * 500")
    assert repr(delay) == "RetryDelay(text='2 * 500')"
    assert delay == parse_retry_delay("2 * 500")
    assert delay != parse_retry_delay("1000")
