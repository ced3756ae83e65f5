"""Send an event to a run; one that comes before the run waits for it is kept."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_hookflow.cli.arguments import parsed
from django_hookflow.cli.reading import find_run, telling
from django_hookflow.cli.terminal import Terminal
from django_hookflow.exceptions import HookflowError

HELP = "send an event to a run"


def add_arguments(parser: CommandParser) -> None:
    """The run, the event's name and what it carries."""
    parser.add_argument("run", metavar="RUN", help="its run_id")
    parser.add_argument("name", metavar="NAME", help="what ctx.step.wait_for_event waits for")
    parser.add_argument("--data", metavar="JSON", default="null", help="what the wait returns")
    parser.add_argument("--dedup-id", help="send nothing if this one was sent to the run before")


def handle(terminal: Terminal, **options: Any) -> None:
    """Send it; a run that is over is told."""
    data = parsed(options["data"])
    with telling():
        run = find_run(options["run"])
        try:
            run.send_event(options["name"], data, dedup_id=options["dedup_id"])
        except (HookflowError, ValueError, type(run).DoesNotExist) as error:
            raise CommandError(str(error)) from error
    terminal.line(f"{run.run_id} was sent {options['name']!r}.")
