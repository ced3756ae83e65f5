"""The demo from its first line to its last."""

from __future__ import annotations

import argparse
import asyncio
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
PATIENCE = 60
LOOK_EVERY = 0.05


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    # A pipe has no width of its own; 80 columns would cut the results.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    for name in ("SIGTERM", "SIGHUP"):  # the second does not exist on Windows
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _ended)
    try:
        console.print("Starting: a fresh database, the local QStash server, uvicorn ...")
        with stage(options.port, options.qstash_port) as set_up:
            return _show(set_up, console, options)
    except ChildError as error:
        console.print(Text(f"The demo cannot go on: {error}"), soft_wrap=True)
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
    )
    add = parser.add_argument
    add("--once", action="store_true", help="end when the runs are done; exit 1 if any is wrong")
    add("--kill", action="store_true", help="SIGKILL the web server in the middle of a run")
    add("--port", type=int, default=0, help="of the web server (default: a free one)")
    add("--qstash-port", type=int, default=0, help="of the local QStash (default: a free one)")
    return parser.parse_args(arguments)


def _show(set_up: Stage, console: Console, options: argparse.Namespace) -> int:
    from demo.screen import LiveScreen, PlainScreen

    console.print(f"Web server {set_up.web_url}   local QStash {set_up.qstash_url}")
    _place_orders()
    screen = LiveScreen(console) if console.is_terminal else PlainScreen(console)
    with screen:
        kill = _watch(set_up, screen, kill=options.kill)
    code = _conclude(console, kill)
    if options.once:
        return code
    _where_to_look(console, set_up)
    with contextlib.suppress(KeyboardInterrupt):
        _stay(set_up, console)
    console.print("Ended.")
    return code


def _place_orders() -> None:
    """Six orders: half of them from sync code, half from async code, of both workflows."""
    from orders.models import Product  # models exist once Django is set up
    from orders.placing import aplace_order, place_order

    tea, pot, cups = Product.objects.order_by("sku").in_bulk(field_name="sku").values()
    place_order(tea, "fulfil_order_async", customer="ada@example.com", quantity=2)
    place_order(pot, "process_order", customer="grace@example.com")
    place_order(cups, "fulfil_order_async", customer="alan@example.com", card="card-declined")

    async def place_more() -> None:
        await aplace_order(cups, "fulfil_order_async", customer="edsger@example.com", quantity=3)
        await aplace_order(tea, "process_order", customer="barbara@example.com", quantity=4)
        await aplace_order(pot, "fulfil_order_async", customer="donald@example.com")

    asyncio.run(place_more())


def _watch(set_up: Stage, screen: Any, *, kill: bool) -> Any:
    """Look until all runs are over; returns the act of killing, if there was one."""
    from demo.kill import Kill
    from demo.watch import look

    act = Kill(web=set_up.web, screen=screen) if kill else None
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        runs = look()
        screen.show(runs)
        if act is not None:
            act.tick(runs)
        else:
            set_up.web.check()
        set_up.qstash.check()
        if all(run.is_over for run in runs):
            break
        time.sleep(LOOK_EVERY)
    return act


def _conclude(console: Console, kill: Any) -> int:
    from demo import report
    from demo.watch import look

    runs, facts = look(), report.collect()
    console.print(report.table(runs, facts))
    found = report.problems(runs, facts)
    found += kill.problems() if kill else report.repeated(runs, facts)
    for problem in found:
        console.print(Text(f"WRONG: {problem}", style="bold red"), soft_wrap=True)
    if found:
        return 1
    for line in kill.evidence() if kill else ():
        console.print(Text(f"OK: {line}", style="green"), soft_wrap=True)
    done = f"OK: all {len(runs)} runs ended as expected, and nobody was charged twice."
    console.print(Text(done, style="bold green"), soft_wrap=True)
    return 0


def _where_to_look(console: Console, set_up: Stage) -> None:
    for what, where in (
        ("Orders and runs", f"{set_up.web_url}/   (place more of them there)"),
        ("Admin", f"{set_up.web_url}/admin/   (user demo, password {set_up.password})"),
        ("All runs", "python3 example_asgi/manage.py hookflow runs"),
        ("One run", "python3 example_asgi/manage.py hookflow show order-1"),
        ("Logs", f"{set_up.web.log.parent}"),
    ):
        console.print(Text(f"{what:<16} {where}"), soft_wrap=True)
    console.print("Ctrl-C ends it.")


def _stay(set_up: Stage, console: Console) -> None:
    """Stay up, and tell of the orders that somebody places on the page."""
    from demo.screen import PlainScreen
    from demo.watch import look

    told = {run.pk for run in look()}
    screen = PlainScreen(console)
    while True:
        set_up.web.check()
        set_up.qstash.check()
        screen.show([run for run in look() if run.pk not in told])
        time.sleep(0.2)
