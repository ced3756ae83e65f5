"""Start a new run from another one's outcomes up to a step, and print its run_id."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_hookflow.cli.reading import find_run, telling
from django_hookflow.cli.terminal import Terminal, one_line
from django_hookflow.exceptions import HookflowError

HELP = "start a run from a step of another one"


def add_arguments(parser: CommandParser) -> None:
    """The run, and the step that is executed again with all that follows."""
    parser.add_argument("run", metavar="RUN", help="its run_id")
    parser.add_argument(
        "--from-step", required=True, metavar="STEP", help="its id, or as in charge#2"
    )
    parser.add_argument(
        "--preview", action="store_true", help="only list the steps that would run again"
    )


def handle(terminal: Terminal, **options: Any) -> None:
    """Fork it; an unknown step is told with those that there are."""
    with telling():
        run = find_run(options["run"])
        try:
            if options["preview"]:
                again = run.fork(options["from_step"], preview=True)
            else:
                again = [run.fork(options["from_step"]).run_id]
        except (HookflowError, ValueError, type(run).DoesNotExist) as error:
            raise CommandError(str(error)) from error
    for line in again:
        terminal.line(one_line(line))
