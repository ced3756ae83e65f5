"""The arithmetic of ``Upstash-Retry-Delay``: ``pow(2, retried) * 1000``.

A parser by recursive descent that builds closures; nothing of the text ever reaches
Python's own evaluator. Grammar::

    sum     = product (("+" | "-") product)*
    product = factor (("*" | "/") factor)*
    factor  = ("+" | "-") factor | number | "retried" | "(" sum ")"
            | name "(" sum ("," sum)* ")"

Arithmetic follows IEEE 754 where Python would raise: 1/0 is infinite, sqrt(-1) undefined.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from django_hookflow.core.durations import MAX_RETRY_DELAY

__all__ = ["RetryDelay", "parse_retry_delay"]

_Formula = Callable[[float], float]

# Both limits keep the recursion, here and when evaluating, far from the interpreter's own.
_LONGEST_TEXT = 256
_DEEPEST = 20

_TOKEN = re.compile(
    r"\s*(?:([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)|([A-Za-z]+)|([-+*/(),]))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDelay:
    """A parsed ``Upstash-Retry-Delay``; ``text`` is the expression as it was given."""

    text: str
    _formula: _Formula = field(repr=False, compare=False)

    def seconds(self, retried: int) -> float:
        """Seconds to wait before the retry that follows ``retried`` earlier ones (0 = the first).

        The expression itself counts milliseconds. Negative and undefined results count as 0,
        anything over a day as a day; nothing is raised.
        """
        milliseconds = self._formula(float(retried))
        if math.isnan(milliseconds) or milliseconds <= 0:
            return 0.0
        return min(milliseconds / 1000, MAX_RETRY_DELAY)


def parse_retry_delay(text: str) -> RetryDelay:
    """Parse an expression over ``retried`` whose value is a delay in milliseconds.

    Knows ``+ - * /``, parentheses, ``pow``, ``sqrt``, ``abs``, ``exp``, ``floor``, ``ceil``,
    ``round``, ``min`` and ``max``. Raises ``ValueError`` that names the text.
    """
    try:
        return RetryDelay(text=text, _formula=_Parser(_tokens(text)).whole())
    except _Unreadable as error:
        raise ValueError(f"invalid retry delay {text[:_LONGEST_TEXT]!r}: {error}") from None


class _Unreadable(Exception):
    """What is wrong with the expression; becomes a ``ValueError`` with the text in it."""


def _tokens(text: str) -> list[str]:
    if len(text) > _LONGEST_TEXT:
        raise _Unreadable(f"longer than {_LONGEST_TEXT} characters")
    tokens: list[str] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise _Unreadable(f"unexpected {text[position:].strip()[0]!r}")
        tokens.append(match.group().strip())
        position = match.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._position = 0
        self._depth = 0

    def whole(self) -> _Formula:
        formula = self._sum()
        if self._peek():
            raise _Unreadable(f"unexpected {self._peek()!r}")
        return formula

    def _peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._position += 1
        return token

    def _expect(self, wanted: str) -> None:
        if self._take() != wanted:
            raise _Unreadable(f"{wanted!r} is missing")

    def _sum(self) -> _Formula:
        left = self._product()
        while self._peek() in ("+", "-"):
            left = _binary(
                operator.add if self._take() == "+" else operator.sub, left, self._product()
            )
        return left

    def _product(self) -> _Formula:
        left = self._factor()
        while self._peek() in ("*", "/"):
            left = _binary(operator.mul if self._take() == "*" else _divide, left, self._factor())
        return left

    def _factor(self) -> _Formula:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _Unreadable("nested too deeply")
        formula = self._atom(self._take())
        self._depth -= 1
        return formula

    def _atom(self, symbol: str) -> _Formula:
        if symbol == "+":
            return self._factor()
        if symbol == "-":
            return _unary(operator.neg, self._factor())
        if symbol == "(":
            inner = self._sum()
            self._expect(")")
            return inner
        if symbol[:1].isdigit() or symbol[:1] == ".":
            return _constant(float(symbol))
        if symbol == "retried":
            return _identity
        return self._call(symbol)

    def _call(self, name: str) -> _Formula:
        if name in _ONE:
            (argument,) = self._arguments(name, 1)
            return _unary(_ONE[name], argument)
        if name in _TWO:
            first, second = self._arguments(name, 2)
            return _binary(_TWO[name], first, second)
        raise _Unreadable(f"unknown {name!r}" if name else "it ends too early")

    def _arguments(self, name: str, count: int) -> list[_Formula]:
        self._expect("(")
        arguments = [self._sum()]
        while self._peek() == ",":
            self._take()
            arguments.append(self._sum())
        self._expect(")")
        if len(arguments) != count:
            raise _Unreadable(f"{name} takes {count} argument(s), not {len(arguments)}")
        return arguments


def _constant(value: float) -> _Formula:
    return lambda retried: value


def _identity(retried: float) -> float:
    return retried


def _unary(function: Callable[[float], float], inner: _Formula) -> _Formula:
    return lambda retried: function(inner(retried))


def _binary(function: Callable[[float, float], float], left: _Formula, right: _Formula) -> _Formula:
    return lambda retried: function(left(retried), right(retried))


def _divide(left: float, right: float) -> float:
    if right:
        return left / right
    return math.nan if not left or math.isnan(left) else math.copysign(math.inf, left)


def _pow(base: float, exponent: float) -> float:
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.nan


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _sqrt(value: float) -> float:
    return math.sqrt(value) if value >= 0 else math.nan


def _round(value: float) -> float:
    # Halves go away from zero, not to the even neighbour as Python's round() has it.
    return math.copysign(math.floor(abs(value) + 0.5), value) if math.isfinite(value) else value


def _floor(value: float) -> float:
    return float(math.floor(value)) if math.isfinite(value) else value


def _ceil(value: float) -> float:
    return float(math.ceil(value)) if math.isfinite(value) else value


def _undefined(left: float, right: float) -> bool:
    return math.isnan(left) or math.isnan(right)


def _least(left: float, right: float) -> float:
    return math.nan if _undefined(left, right) else min(left, right)


def _greatest(left: float, right: float) -> float:
    return math.nan if _undefined(left, right) else max(left, right)


_ONE: dict[str, Callable[[float], float]] = {
    "sqrt": _sqrt, "abs": abs, "exp": _exp, "floor": _floor, "ceil": _ceil, "round": _round,
}  # fmt: skip
_TWO: dict[str, Callable[[float, float], float]] = {
    "pow": _pow, "min": _least, "max": _greatest,
}  # fmt: skip
