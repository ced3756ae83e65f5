"""Applies a control to the runs that a subcommand names; one that refuses stops no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from django.core.management.base import CommandError, CommandParser

from django_hookflow.cli.reading import find_run, telling
from django_hookflow.cli.terminal import Terminal, shortened
from django_hookflow.exceptions import HookflowError
from django_hookflow.models import WorkflowRun

__all__ = ["act", "add_runs"]


def add_runs(parser: CommandParser) -> None:
    """The positional argument."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="its run_id")


def act(
    terminal: Terminal, names: Sequence[str], control: Callable[[WorkflowRun], None], done: str
) -> None:
    """Call ``control`` with each run; raises ``CommandError`` at the end if one refused."""
    refusals = [_refusal(terminal, name, control, done) for name in names]
    if told := "\n".join(filter(None, refusals)):
        raise CommandError(told)


def _refusal(
    terminal: Terminal, name: str, control: Callable[[WorkflowRun], None], done: str
) -> str:
    try:
        with telling():
            run = find_run(name)
            control(run)
    except (CommandError, HookflowError, WorkflowRun.DoesNotExist) as error:
        return f"{shortened(name, 128)}: {error}"
    terminal.line(f"{run.run_id} {done}.")
    return ""
