"""Send what is owed and wake what is overdue: one pass, or one every so many seconds.

Needed for messages that got lost and for processes that died between commit and publish; every
trigger and every delivery does a share of the same.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_hookflow.cli.arguments import seconds
from django_hookflow.cli.reading import telling
from django_hookflow.cli.stopping import StopSignals, stop_signals
from django_hookflow.cli.terminal import Terminal, one_line
from django_hookflow.conf import options as settings
from django_hookflow.runtime import runtime

HELP = "send owed wake-ups, wake overdue runs"


def add_arguments(parser: CommandParser) -> None:
    """Once, or again and again."""
    parser.add_argument(
        "--every",
        type=seconds,
        metavar="SECONDS",
        help="go on until SIGINT or SIGTERM, a pass every so many seconds; "
        "then only passes that had something to send are printed",
    )
    parser.add_argument("--json", action="store_true", help="a JSON object a pass, for programs")


def handle(terminal: Terminal, **options: Any) -> None:
    """Sweep; raises ``CommandError`` if a single pass could not reach the database."""
    every: float | None = options["every"]
    if every is None:
        _print(terminal, *_pass(), as_json=options["json"])
        return
    with stop_signals() as stop:
        _loop(terminal, every, stop, as_json=options["json"], all_passes=options["verbosity"] > 1)


def _pass() -> tuple[int, int]:
    with telling():
        # Read first: with a setting missing nothing could be sent, only marked as owed again.
        _ = settings.token, settings.webhook_url
        return runtime.wakes.sweep()


def _loop(
    terminal: Terminal, every: float, stop: StopSignals, *, as_json: bool, all_passes: bool
) -> None:
    told = ""
    while not stop.came:
        try:
            sent, owed = _pass()
        except CommandError as error:
            # A database that restarts must not end the sweeper; said once, not at every pass.
            if str(error) != told:
                told = str(error)
                terminal.line((f"sweep failed, goes on: {one_line(told)}", "bold red"))
        else:
            told = ""
            if sent or owed or all_passes:
                _print(terminal, sent, owed, as_json=as_json)
        # Between passes no connection is held.
        runtime.journal.close_thread()
        stop.sleep(every)


def _print(terminal: Terminal, sent: int, owed: int, *, as_json: bool) -> None:
    if as_json:
        terminal.json({"sent": sent, "owed": owed}, indent=None)
    elif sent or owed:
        stays = f", {owed} stay owed (the log says why; the next sweep tries again)" if owed else ""
        terminal.line(f"Sent {sent} wake-up{'' if sent == 1 else 's'}{stays}.")
    else:
        terminal.line("Nothing was owed or overdue.")
    terminal.stream.flush()
