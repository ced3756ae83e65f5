"""``python manage.py hookflow <subcommand>``: chooses; the work is done in ``cli/``."""

from __future__ import annotations

import argparse
from types import ModuleType
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from django_hookflow.cli import (
    cancel,
    dev,
    doctor,
    event,
    fork,
    pause,
    prune,
    resume,
    retry,
    runs,
    show,
    sweep,
    trigger,
    worker,
)
from django_hookflow.cli.terminal import Terminal

SUBCOMMANDS: dict[str, ModuleType] = {
    "dev": dev,
    "runs": runs,
    "show": show,
    "trigger": trigger,
    "event": event,
    "cancel": cancel,
    "pause": pause,
    "resume": resume,
    "fork": fork,
    "retry": retry,
    "sweep": sweep,
    "prune": prune,
    "worker": worker,
    "doctor": doctor,
}


class Command(BaseCommand):
    """Run workflows locally, look at runs, send what is owed."""

    help = "Durable workflows: develop locally, look at runs, send what is owed."
    # A project that has no account yet fails our own checks, and `dev` is how it does without.
    # Each subcommand says itself which setting it misses.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        choices = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
        for name, module in SUBCOMMANDS.items():
            chosen = choices.add_parser(
                name,
                help=module.HELP,
                description=module.__doc__,
                formatter_class=argparse.RawDescriptionHelpFormatter,
                parents=[_django_options()],
            )
            module.add_arguments(chosen)

    def handle(self, *args: Any, **options: Any) -> None:
        terminal = Terminal(
            self.stdout, no_color=options["no_color"], force_color=options["force_color"]
        )
        SUBCOMMANDS[options["subcommand"]].handle(terminal, **options)


def _django_options() -> CommandParser:
    """Django's own options, so that they may also be written behind the subcommand."""
    # Suppressed when absent: a subparser's defaults would overwrite what stood before it.
    options = CommandParser(add_help=False, argument_default=argparse.SUPPRESS)
    for name in ("--settings", "--pythonpath"):
        options.add_argument(name, help=argparse.SUPPRESS)
    options.add_argument("-v", "--verbosity", type=int, help=argparse.SUPPRESS)
    for name in ("--traceback", "--no-color", "--force-color"):
        options.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    return options
