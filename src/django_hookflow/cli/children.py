"""Child processes that live and end together, their output line by line under their names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

from django_hookflow.cli.terminal import Terminal

__all__ = ["Children"]

#: Seconds that children have to end by themselves; the ASGI server gives requests less.
GRACE = 4.0
_POLL = 0.05


class Children:
    """Processes of one terminal: ``with Children(terminal) as children: children.start(...)``.

    A child is a module that ``python -m`` can run, started by ``child``, which ends it if this
    process is killed. Each leads a process group of its own: Ctrl-C reaches only this process,
    which then ends them in order, and what a child started itself ends with it.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._readers: list[threading.Thread] = []
        self._printing = threading.Lock()
        self._width = 0

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self, name: str, style: str, module: Sequence[str], env: Mapping[str, str]) -> None:
        """Start ``python -m MODULE ...``, whose lines are printed behind ``name``."""
        self._width = max(self._width, len(name))
        process = subprocess.Popen(  # noqa: S603  # our own modules, no shell
            [sys.executable, "-m", "django_hookflow.cli.child", *module],
            env=env,
            # Never written to. It ends when this process does, which is what the child looks at.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        assert process.stdout is not None
        self._processes[name] = process
        reader = threading.Thread(
            target=self._print, args=(name, style, process.stdout), daemon=True
        )
        reader.start()
        self._readers.append(reader)

    def say(self, name: str, style: str, text: str) -> None:
        """Print a line as if a child named ``name`` had."""
        with self._printing:
            self._terminal.line((f"{name:<{self._width}} │ ", style), text)
            self._terminal.stream.flush()

    def ended(self) -> tuple[str, int] | None:
        """The name and exit code of a child that is no more, if there is one."""
        for name, process in self._processes.items():
            if (code := process.poll()) is not None:
                return name, code
        return None

    def end(self) -> None:
        """Ask all to end, make those that do not, and wait until they have."""
        for process in self._processes.values():
            _send(process, signal.SIGTERM)
        until = time.monotonic() + GRACE
        while time.monotonic() < until and self._alive():
            time.sleep(_POLL)
        for process in self._processes.values():
            # The group, though its leader may be gone: a reloader's child must not stay.
            _kill(process)
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        for reader in self._readers:
            reader.join(1.0)
        self._processes.clear()

    def _alive(self) -> bool:
        return any(process.poll() is None for process in self._processes.values())

    def _print(self, name: str, style: str, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                # A child's own escape sequences are meant: it prints for this terminal. And if
                # nobody reads ours any more, the child must not block on a full pipe.
                with suppress(OSError):
                    self.say(name, style, line.rstrip("\r\n"))


def _send(process: subprocess.Popen[str], number: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(number)


def _kill(process: subprocess.Popen[str]) -> None:
    if sys.platform == "win32" or not hasattr(os, "killpg"):
        process.kill()
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # Nobody is left of it. macOS says "permission" of a group of zombies.
        return
