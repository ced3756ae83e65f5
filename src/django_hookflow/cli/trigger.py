"""Start a run and print its run_id."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_hookflow.cli.arguments import duration, parsed, tag
from django_hookflow.cli.reading import telling
from django_hookflow.cli.terminal import Terminal
from django_hookflow.exceptions import HookflowError
from django_hookflow.registry import registry
from django_hookflow.workflow import Workflow

HELP = "start a run"


def add_arguments(parser: CommandParser) -> None:
    """The workflow and what it is given."""
    parser.add_argument("workflow", metavar="WORKFLOW", help="its id, or the last part of it")
    parser.add_argument("--data", metavar="JSON", default="{}", help="what ctx.data will be")
    parser.add_argument("--run-id", help="start nothing if this run is there already")
    parser.add_argument(
        "--tag",
        action="append",
        type=tag,
        default=[],
        metavar="KEY=VALUE",
        help="a word by which the run is found; repeatable",
    )
    parser.add_argument("--delay", type=duration, help="start later, e.g. 90s, 2h or 1d12h")


def handle(terminal: Terminal, **options: Any) -> None:
    """Trigger it; raises ``CommandError`` saying what to give."""
    workflow = _find(options["workflow"])
    data = parsed(options["data"])
    try:
        with telling():
            run_id = workflow.trigger(
                data,
                run_id=options["run_id"],
                delay=options["delay"],
                tags=dict(options["tag"]),
            )
    except (HookflowError, ValueError) as error:
        raise CommandError(str(error)) from error
    terminal.line(run_id)


def _find(name: str) -> Workflow[Any]:
    known = {each.workflow_id: each for each in _workflows()}
    if name in known:
        return known[name]
    ending = sorted(id for id in known if id.endswith(f".{name}"))
    if len(ending) == 1:
        return known[ending[0]]
    if ending:
        raise CommandError(f"{name!r} may be any of {', '.join(ending)}: give the whole id.")
    listed = ", ".join(sorted(known)) or "none: is their app in INSTALLED_APPS?"
    raise CommandError(f"There is no workflow {name!r}. Registered here: {listed}")


def _workflows() -> Iterable[Workflow[Any]]:
    return (each for each in registry if isinstance(each, Workflow))
