"""Shows the runs while they run: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol

from rich.console import Console
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
    "waiting": "dim",
    "running": "cyan",
    "suspended": "blue",
    "lost": "bold yellow",
}


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
        self._live.update(_table(runs), refresh=True)

    def say(self, text: str) -> None:
        self._live.console.print(Text(text, style="bold yellow"))


def _table(runs: list[RunNow]) -> Table:
    table = Table(expand=True, show_lines=True, pad_edge=False)
    table.add_column("run", no_wrap=True)
    table.add_column("status", no_wrap=True, width=9)
    table.add_column("steps", ratio=1)
    table.add_column("time", justify="right", no_wrap=True, width=6)
    for run in runs:
        name = Text.assemble(run.run_id, "\n", (run.workflow, "dim"))
        status = Text(run.status, style=STYLES.get(run.status, ""))
        table.add_row(name, status, _steps(run), f"{run.seconds:.1f} s")
    return table


def _steps(run: RunNow) -> Text:
    chips = [
        # Non-breaking blanks, so that a line ends between two steps and never inside one.
        Text(describe(step).replace(" ", "\N{NO-BREAK SPACE}"), style=STYLES[step.state])
        for step in run.steps
    ]
    text = Text("  ").join(chips)
    if run.error:
        text.append(f"\n{run.error}", style="red")
    return text


def describe(step: StepNow) -> str:
    """One step in a few words."""
    tries = f", attempt {step.attempts}" if step.attempts > 1 else ""
    if step.state == "sleeping":
        return f"{step.name} (sleeps, {step.remaining or 0:.1f} s left)"
    if step.state == "retrying":
        return f"{step.name} (attempt {step.attempts} failed, again in {step.remaining or 0:.1f} s)"
    if step.state == "executing":
        return f"{step.name} (executing, attempt {step.attempts + 1})"
    if step.state == "waiting":
        return f"{step.name} (waiting)"
    word = "slept" if step.kind == "sleep" else "done" if step.state == "completed" else "FAILED"
    return f"{step.name} ({word}, {step.seconds or 0:.2f} s{tries})"


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
