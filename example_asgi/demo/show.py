"""The demo from its first line to its last."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from demo.children import ChildError
from demo.stage import Stage, stage

#: A demo whose runs have not ended by then has failed, in seconds.
PATIENCE = 240
LOOK_EVERY = 0.05


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    # A pipe has no width of its own; 80 columns would cut the results.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    for name in ("SIGTERM", "SIGHUP"):  # the second does not exist on Windows
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _ended)
    try:
        server = "gunicorn (2 sync workers)" if options.wsgi else "uvicorn"
        console.print(f"Starting: a fresh database, the local QStash server, {server} ...")
        with stage(options.port, options.qstash_port, wsgi=options.wsgi) as set_up:
            return _show(set_up, console, options)
    except ChildError as error:
        _tell(console, f"The demo cannot go on: {error}")
        return 1
    except KeyboardInterrupt:
        console.print("Ended.")
        return 130


def _ended(number: int, frame: Any) -> None:
    sys.exit(128 + number)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 example_asgi",
        description="Runs orders through durable workflows, on this machine only.",
        # __main__ looks for the word itself: what it needs is installed before this is read.
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--once", action="store_true", help="end when the runs are done; exit 1 if any is wrong")
    add("--kill", action="store_true", help="SIGKILL the web server in the middle of a run")
    add("--wsgi", action="store_true", help="serve by gunicorn (2 sync workers), not uvicorn")
    add("--port", type=int, default=0, help="of the web server (default: a free one)")
    add("--qstash-port", type=int, default=0, help="of the local QStash (default: a free one)")
    return parser.parse_args(arguments)


def _show(set_up: Stage, console: Console, options: argparse.Namespace) -> int:
    from demo.screen import LiveScreen, PlainScreen

    console.print(f"Web server {set_up.web_url}   local QStash {set_up.qstash_url}")
    screen = LiveScreen(console) if console.is_terminal else PlainScreen(console)
    with screen:
        found, kill = _watch(set_up, screen, kill=options.kill)
    code = _conclude(console, found, kill)
    if options.once:
        return code
    _where_to_look(console, set_up)
    with contextlib.suppress(KeyboardInterrupt):
        _stay(set_up, console)
    console.print("Ended.")
    return code


def _watch(set_up: Stage, screen: Any, *, kill: bool) -> tuple[list[str], Any]:
    """Look until all runs are over; returns what was found wrong, and the act of killing."""
    from demo.customers import Customers  # models exist once Django is set up
    from demo.kill import Kill
    from demo.outsiders import Carrier, Warehouse
    from demo.watch import look

    customers, warehouse, carrier = Customers(), Warehouse(), Carrier()
    act = Kill(web=set_up.web, screen=screen) if kill else None
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        customers.tick()
        warehouse.tick()
        carrier.tick()
        runs = look()
        screen.show(runs)
        if act is not None:
            act.tick(runs)
        for child in set_up.children:
            child.check()
        if not customers.waiting and all(run.is_over for run in runs):
            break
        time.sleep(LOOK_EVERY)
    screen.show(look())
    return warehouse.problems, act


def _conclude(console: Console, seen: list[str], kill: Any) -> int:
    from demo import report
    from demo.watch import look

    runs, facts = look(), report.collect()
    console.print(report.table(runs, facts))
    for line in report.stories(runs, facts):
        _tell(console, f"Note: {line}")
    found = seen + report.problems(runs, facts)
    found += kill.problems() if kill else report.repeated(runs, facts)
    for problem in found:
        _tell(console, f"WRONG: {problem}", "bold red")
    if found:
        return 1
    for line in kill.evidence() if kill else ():
        _tell(console, f"OK: {line}", "green")
    done = f"OK: all {len(runs)} runs ended as expected, and nobody was charged twice."
    _tell(console, done, "bold green")
    return 0


def _tell(console: Console, text: str, style: str = "") -> None:
    # On a terminal a line ends between two words; in a file nobody wants it to end at all.
    console.print(Text(text, style=style), soft_wrap=not console.is_terminal)


def _where_to_look(console: Console, set_up: Stage) -> None:
    for what, where in (
        ("Orders and runs", f"{set_up.web_url}/   (place more of them there)"),
        ("Admin", f"{set_up.web_url}/admin/   (user demo, password {set_up.password})"),
        ("All runs", "python3 example_asgi/manage.py hookflow runs"),
        ("One run", "python3 example_asgi/manage.py hookflow show order-1"),
        ("Logs", f"{set_up.web.log.parent}"),
    ):
        _tell(console, f"{what:<16} {where}")
    _tell(console, "Ctrl-C ends it.")


def _stay(set_up: Stage, console: Console) -> None:
    """Stay up, and tell of the orders that somebody places on the page.

    The carrier comes still; the links of large orders are for whoever sits there.
    """
    from demo.outsiders import Carrier
    from demo.screen import PlainScreen
    from demo.watch import look

    told = {run.pk for run in look()}
    screen, carrier = PlainScreen(console), Carrier()
    while True:
        carrier.tick()
        for child in set_up.children:
            child.check()
        screen.show([run for run in look() if run.pk not in told])
        time.sleep(0.2)
