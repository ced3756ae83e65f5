"""Execute due runs without QStash: for CI, closed networks, and the day QStash is down.

Any number of workers may run beside each other and beside deliveries: a run's row decides who
executes it. Nothing is published; what is still waiting when the worker ends is woken by the
sweeper, or by the next worker.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from django.core.management.base import CommandParser

from django_hookflow.cli.arguments import positive, seconds
from django_hookflow.cli.reading import telling
from django_hookflow.cli.stopping import StopSignals, stop_signals
from django_hookflow.cli.terminal import Terminal, one_line
from django_hookflow.engine.driver import Answer
from django_hookflow.polling import Polling
from django_hookflow.runtime import runtime

HELP = "execute due runs without QStash"

#: Seconds between two lines about how it goes.
_TELL_EVERY = 10.0


def add_arguments(parser: CommandParser) -> None:
    """How often to look, and how much at once."""
    add = parser.add_argument
    add(
        "--every",
        type=seconds,
        default=1.0,
        metavar="SECONDS",
        help="look so often for due runs while none is there (default: %(default)s)",
    )
    add(
        "--concurrency",
        type=positive,
        default=10,
        help="execute at most so many runs at once (default: %(default)s)",
    )
    add("--once", action="store_true", help="end when nothing is due any more")


def handle(terminal: Terminal, **options: Any) -> None:
    """Work until interrupted, or once."""
    with stop_signals() as stop, telling():
        tally = _Tally(terminal, each=options["verbosity"] > 1)
        polling = Polling(
            runtime=runtime,
            every=options["every"],
            concurrency=options["concurrency"],
            once=options["once"],
            stopped=lambda: stop.came,
            told=tally.take,
        )
        _start(terminal, options, stop)
        if runtime.journal.pinned():
            # Only this thread sees the database: a test's transaction, or SQLite in memory.
            async_to_sync(polling.run)()
        else:
            asyncio.run(polling.run())
        tally.tell()


def _start(terminal: Terminal, options: dict[str, Any], stop: StopSignals) -> None:
    if not options["once"] and not stop.came:
        terminal.line(f"Looking for due runs every {options['every']:g} s; Ctrl-C ends.")
        terminal.stream.flush()


class _Tally:
    """Counts deliveries, and tells of them now and then."""

    def __init__(self, terminal: Terminal, *, each: bool) -> None:
        self._terminal = terminal
        self._each = each
        self._count = 0
        self._unfit: dict[str, int] = {}
        self._told_at = time.monotonic()

    def take(self, run: UUID, answer: Answer) -> None:
        """A delivery has ended."""
        self._count += 1
        if answer.status != 200:
            self._unfit[answer.note] = self._unfit.get(answer.note, 0) + 1
        if self._each:
            self._terminal.line(f"{run}  {one_line(answer.note)}")
        if time.monotonic() - self._told_at > _TELL_EVERY:
            self.tell()

    def tell(self) -> None:
        """One line since the last one."""
        self._told_at = time.monotonic()
        others = "".join(f", {count} {note}" for note, count in self._unfit.items())
        deliveries = "1 delivery" if self._count == 1 else f"{self._count} deliveries"
        self._terminal.line(f"{deliveries}{others}.")
        self._terminal.stream.flush()
        self._count, self._unfit = 0, {}
