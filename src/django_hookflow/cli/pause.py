"""Let runs stand still: no further step starts, one that is executing is recorded."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from django_hookflow.cli.acting import act, add_runs
from django_hookflow.cli.terminal import Terminal

HELP = "let runs stand still"


def add_arguments(parser: CommandParser) -> None:
    """The runs."""
    add_runs(parser)


def handle(terminal: Terminal, **options: Any) -> None:
    """Pause each; those that are over already are told."""
    act(terminal, options["runs"], lambda run: run.pause(), "is paused")
