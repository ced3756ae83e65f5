"""Let paused runs go on; what fell due meanwhile is taken up in order."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from django_hookflow.cli.acting import act, add_runs
from django_hookflow.cli.terminal import Terminal

HELP = "let paused runs go on"


def add_arguments(parser: CommandParser) -> None:
    """The runs."""
    add_runs(parser)


def handle(terminal: Terminal, **options: Any) -> None:
    """Resume each; those that are over already are told."""
    act(terminal, options["runs"], lambda run: run.resume(), "goes on")
