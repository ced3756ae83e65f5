"""Shows the runs while they run: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from demo.watch import RunNow, StepNow

STYLES = {
    "completed": "green",
    "failed": "bold red",
    "executing": "bold cyan",
    "sleeping": "blue",
    "retrying": "yellow",
    "interrupted": "bold yellow",
    "waiting": "dim",
    "running": "cyan",
    "suspended": "blue",
    "lost": "bold yellow",
}


BETWEEN = " | "
#: A terminal with so many lines has room for lines between the runs.
ROOMY = 34


class Screen(Protocol):
    def __enter__(self) -> Screen: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, runs: list[RunNow]) -> None:
        """Here is how they stand."""

    def say(self, text: str) -> None:
        """Something happened besides."""


class LiveScreen:
    """A table that is drawn anew, in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, runs: list[RunNow]) -> None:
        roomy = self._live.console.height >= ROOMY
        self._live.update(_table(runs, roomy), refresh=True)

    def say(self, text: str) -> None:
        self._live.console.print(Text(text, style="bold yellow"))


def _table(runs: list[RunNow], roomy: bool) -> Table:
    table = Table(expand=True, show_lines=roomy, pad_edge=False)
    table.add_column("run", no_wrap=True)
    table.add_column("status", no_wrap=True, width=9)
    table.add_column("steps", ratio=1)
    table.add_column("time", justify="right", no_wrap=True, width=6)
    for run in runs:
        name = Text.assemble(run.run_id, "\n", (run.workflow, "dim"))
        status = Text(run.status, style=STYLES.get(run.status, ""))
        table.add_row(name, status, _Steps(run), f"{run.seconds:.1f} s")
    return table


@dataclass(frozen=True)
class _Steps:
    """A run's steps in as many lines as they need; a line ends between two, never inside one."""

    run: RunNow

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = Text()
        for step in self.run.steps:
            words = describe(step)
            if line and len(line) + len(BETWEEN) + len(words) > options.max_width:
                yield line
                line = Text()
            line.append(BETWEEN if line else "").append(words, style=STYLES[step.state])
        yield line
        if self.run.error:
            yield Text(self.run.error, style="red")


def describe(step: StepNow) -> str:
    """One step in a few words."""
    left = f"in {step.remaining:.1f} s" if step.remaining else "any moment"
    took = f"{step.seconds or 0:.2f} s" + (f", attempt {step.attempts}" * (step.attempts > 1))
    ended = "slept" if step.kind == "sleep" else "ok"
    told = {
        "sleeping": f"asleep, wakes {left}",
        "retrying": f"attempt {step.attempts} failed, again {left}",
        "executing": f"attempt {step.attempts + 1} executes",
        "interrupted": f"attempt {step.attempts + 1} was cut off",
        "waiting": "waits",
        "failed": f"FAILED, {took}",
        "completed": f"{ended} {took}",
    }
    return f"{step.name}: {told[step.state]}"


class PlainScreen:
    """A line for everything that changed, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._seen: dict[tuple[str, str], str] = {}

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, runs: list[RunNow]) -> None:
        for run in runs:
            for step in run.steps:
                # The rest of a wait changes all the time; that there is one does not.
                self._line(run, step.name, f"{step.state} {step.attempts}", describe(step))
            if run.status != "pending":
                text = f"is {run.status}" + (f": {run.error}" if run.error else "")
                self._line(run, "", text, text)

    def say(self, text: str) -> None:
        self._print(text)

    def _line(self, run: RunNow, what: str, now: str, text: str) -> None:
        if self._seen.get((run.run_id, what)) != now:
            self._seen[run.run_id, what] = now
            self._print(f"{run.run_id:<9} {text}")

    def _print(self, text: str) -> None:
        line = Text(f"{time.monotonic() - self._began:6.2f} s  {text}")
        self._console.print(line, soft_wrap=True)
