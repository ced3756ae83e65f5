"""Let failed runs go on from what failed them; what is recorded stays."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from django_hookflow.cli.acting import act, add_runs
from django_hookflow.cli.terminal import Terminal

HELP = "let failed runs go on"


def add_arguments(parser: CommandParser) -> None:
    """The runs."""
    add_runs(parser)


def handle(terminal: Terminal, **options: Any) -> None:
    """Retry each; those that have not failed are told."""
    act(terminal, options["runs"], lambda run: run.retry(), "goes on")
