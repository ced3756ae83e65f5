"""What argparse turns a subcommand's arguments into; errors say what is allowed."""

from __future__ import annotations

import argparse
import json
import threading
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError

from django_hookflow.core.durations import parse_duration
from django_hookflow.core.requests import check_event_name
from django_hookflow.core.tags import check_tags

__all__ = ["duration", "event_name", "parsed", "positive", "seconds", "tag"]


def tag(text: str) -> tuple[str, str]:
    """``key=value``."""
    key, _, value = text.partition("=")
    try:
        [pair] = check_tags({key: value})
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no key=value: {error}") from None
    return pair


def event_name(text: str) -> str:
    """What an event can be called."""
    try:
        return check_event_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parsed(text: str) -> Any:
    """What ``--data`` gives; checked by the subcommand, whose error is one line."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"--data is no JSON ({error}): {text[:80]!r}") from error


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
