"""Remove ended runs with their journals: in batches, oldest first, safe beside deliveries.

A wake-up that comes for a removed run is answered 489 and ends as a dead letter; runs that
ended minutes ago are therefore better left alone.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from django_hookflow.cli.arguments import duration
from django_hookflow.cli.reading import telling
from django_hookflow.cli.stopping import stop_signals
from django_hookflow.cli.terminal import Terminal
from django_hookflow.core.entries import TERMINAL, RunStatus
from django_hookflow.runtime import runtime
from django_hookflow.starts import MAX_DELAY

HELP = "remove ended runs"

#: Runs of one transaction: short enough that nobody waits for it.
BATCH = 200
#: Batches between two lines of progress.
_TELL_EVERY = 10


def add_arguments(parser: CommandParser) -> None:
    """How old, and of which status."""
    parser.add_argument(
        "--older-than",
        type=_age,
        required=True,
        metavar="AGE",
        help="runs that ended longer ago than that, e.g. 30d or 12h",
    )
    parser.add_argument(
        "--status",
        action="append",
        choices=[status.value for status in TERMINAL],
        help="only these; repeatable (default: all three)",
    )
    parser.add_argument("--dry-run", action="store_true", help="count, and remove nothing")


def _age(text: str) -> timedelta:
    age = duration(text)
    if not timedelta(0) < age <= MAX_DELAY:
        raise argparse.ArgumentTypeError(f"{text!r}: an age above 0, at most 1000 years")
    return age


def handle(terminal: Terminal, **options: Any) -> None:
    """Remove them, telling how far it is; Ctrl-C ends after the batch at hand."""
    older_than: timedelta = options["older_than"]
    statuses = [RunStatus(status) for status in options["status"] or TERMINAL]
    with telling(), stop_signals() as stop:
        total = runtime.journal.count_ended(older_than=older_than, statuses=statuses)
        if options["dry_run"]:
            terminal.line(f"{_runs(total)} would be removed.")
            return
        removed = batches = 0
        while not stop.came:
            gone = runtime.journal.prune(older_than=older_than, statuses=statuses, limit=BATCH)
            if not gone:
                break
            removed, batches = removed + gone, batches + 1
            if batches % _TELL_EVERY == 0:
                terminal.line(f"{removed} of {max(total, removed)} removed")
                terminal.stream.flush()
        terminal.line(f"Removed {_runs(removed)}.")


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
