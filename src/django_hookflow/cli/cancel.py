"""End runs: no further step starts, and a step that is executing is not recorded."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from django_hookflow.cli.acting import act, add_runs
from django_hookflow.cli.terminal import Terminal

HELP = "end runs"


def add_arguments(parser: CommandParser) -> None:
    """The runs."""
    add_runs(parser)


def handle(terminal: Terminal, **options: Any) -> None:
    """Cancel each; those that are over already are told."""
    act(terminal, options["runs"], lambda run: run.cancel(), "is cancelled")
