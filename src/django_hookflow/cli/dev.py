"""Everything in one terminal: a local QStash server, this project under ASGI with reload, a
sweeper, and a line for each step. Needs DEBUG = True, no account and no setting changed: only
the processes started here are led to the local server.

Another terminal is not: a shell there that calls .trigger() talks to the QStash of the settings,
or says that a setting is missing. Trigger from the application (a view, the admin), or paste the
line that is printed at the start ("export HOOKFLOW_DEV_OVERRIDES=...") into that terminal first.
Nothing is written to disk, so nothing is left when this ends; with --db FILE what was not delivered
is there again the next time.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.urls import NoReverseMatch, reverse

from django_hookflow.cli.children import Children
from django_hookflow.cli.local import HOST, PUBLIC_TOKEN, Plan, make_plan
from django_hookflow.cli.reading import MIGRATE, telling
from django_hookflow.cli.stopping import StopSignals, stop_signals
from django_hookflow.cli.terminal import Terminal
from django_hookflow.conf import SETTINGS
from django_hookflow.conf import options as conf

HELP = "local QStash server, ASGI server with reload and sweeper in one terminal"

#: What the children need beyond this package's own requirements.
_EXTRA = ("uvicorn", "starlette")

_STYLES = {"qstash": "magenta", "app": "cyan", "sweep": "blue", "dev": "bold green"}


def add_arguments(parser: CommandParser) -> None:
    """Ports, and whether to reload."""
    add = parser.add_argument
    add("--port", type=_port, default=8000, help="of the application (default: %(default)s)")
    add(
        "--qstash-port",
        type=_port,
        default=8080,
        help="of the QStash server; the next free one if it is taken (default: %(default)s)",
    )
    add(
        "--db",
        type=Path,
        metavar="FILE",
        help="keep the QStash server's messages, log and dead letters in this file",
    )
    add(
        "--no-reload",
        action="store_false",
        dest="reload",
        help="do not restart the application when its code changes",
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number")
    return int(text)


def handle(terminal: Terminal, **options: Any) -> None:
    """Run until interrupted; raises ``CommandError`` if it cannot start or a child ends."""
    _check_project()
    with telling():
        _check_migrations()
    plan = make_plan(
        port=options["port"],
        qstash_port=options["qstash_port"],
        reload=options["reload"],
        db=options["db"],
    )
    # The children open their own connections; this process only waits from here on.
    connections.close_all()
    with stop_signals() as stop, Children(terminal) as children:
        _start(children, plan)
        if plan.qstash_port != options["qstash_port"]:
            _say(children, f"Port {options['qstash_port']} is taken: QStash is on another one.")
        ended = _watch(children, plan, stop)
        if ended is None:
            _say(children, "Ending.")
    if ended is not None:
        name, code = ended
        raise CommandError(
            f"{name} ended with exit code {code}, so the others were ended too; "
            f"its last lines above, behind {name!r}, say why."
        )


def _check_project() -> None:
    if settings.DEBUG is not True:
        raise CommandError(
            "hookflow dev takes the public keys of the local QStash server, with which anybody "
            "could sign: it runs with DEBUG = True in your Django settings only."
        )
    if not os.environ.get("DJANGO_SETTINGS_MODULE"):
        raise CommandError(
            "hookflow dev starts processes, which find the settings by a module's name: "
            "set DJANGO_SETTINGS_MODULE instead of calling settings.configure()."
        )
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(
            f'hookflow dev needs {" and ".join(missing)}: pip install "django-hookflow[devserver]"'
        )


def _check_migrations() -> None:
    executor = MigrationExecutor(connections[conf.database])
    ours = executor.loader.graph.leaf_nodes("django_hookflow")
    if executor.migration_plan(ours):
        raise CommandError(f"django_hookflow has migrations to apply: run {_migrate()}")


def _migrate() -> str:
    database = "" if conf.database == "default" else f" --database {conf.database}"
    missing = any(setting.required and setting.written()[1] is None for setting in SETTINGS)
    # A project without an account has errors in its checks, which would stop `migrate`.
    return f"{MIGRATE}{database}{' --skip-checks' if missing else ''}"


def _start(children: Children, plan: Plan) -> None:
    environment = plan.environment()
    for name, command in (
        # First: a wake-up that finds nobody there stays owed for a while.
        ("qstash", plan.qstash_command()),
        ("app", plan.app_command()),
        ("sweep", plan.sweep_command()),
    ):
        children.start(name, _STYLES[name], command, environment)


def _watch(children: Children, plan: Plan, stop: StopSignals) -> tuple[str, int] | None:
    """Wait for a signal or for the first child that ends; say where everything is once it is."""
    welcomed = False
    while not stop.came:
        if (ended := children.ended()) is not None:
            return ended
        if not welcomed and _answers(plan.qstash_port) and _answers(plan.app_port):
            welcomed = True
            for line in _welcome(plan):
                _say(children, line)
        stop.sleep(0.2)
    return None


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=0.2).close()
    except OSError:
        return False
    return True


def _welcome(plan: Plan) -> Iterator[str]:
    yield f"Application  {plan.app_url}/"
    if (admin := _path_of("admin:index")) is not None:
        yield f"Admin        {plan.app_url}{admin}"
    if (webhook := _path_of("django_hookflow:webhook")) is not None:
        yield f"Webhook      {plan.app_url}{webhook}"
    else:
        include = f'path("{conf.webhook_path.lstrip("/")}", include("django_hookflow.urls"))'
        yield f"No delivery can arrive: write {include} in your URLconf."
    kept = f", kept in {plan.db}" if plan.db is not None else ""
    yield f"QStash       {plan.qstash_url}{kept}"
    secret = "" if plan.token == PUBLIC_TOKEN else " (with your QSTASH_TOKEN)"
    yield f"Dead letters {plan.dead_letters_url}{secret}"
    if plan.domain != plan.app_url:
        yield f"Deliveries for {plan.domain} come to {plan.app_url}."
    yield "Another terminal (manage.py shell ...) talks to this QStash once you paste there:"
    yield plan.line_to_paste()
    yield "Ctrl-C ends all."


def _path_of(name: str) -> str | None:
    try:
        return reverse(name)
    except NoReverseMatch:
        return None


def _say(children: Children, text: str) -> None:
    children.say("dev", _STYLES["dev"], text)
