"""What argparse turns a subcommand's arguments into; errors say what is allowed."""

from __future__ import annotations

import argparse
import threading
from datetime import timedelta

from django_hookflow.core.durations import parse_duration

__all__ = ["duration", "positive", "seconds"]


def positive(text: str) -> int:
    """A whole number above 0, of at most nine digits: a database counts no further than 19."""
    digits = text.lstrip("0")
    if not (text.isascii() and text.isdigit() and 0 < len(digits) <= 9):
        raise argparse.ArgumentTypeError(f"{text[:30]!r} is no whole number above 0 and below 1e9")
    return int(digits)


def seconds(text: str) -> float:
    """A number of seconds above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return number


def duration(text: str) -> timedelta:
    """A length of time: ``90s``, ``2h``, ``1d12h``."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
