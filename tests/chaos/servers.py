"""The web server of a chaos run: two uvicorn processes that accept from one socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from tests.e2e.processes import listens, server_command, wait_until

Process = subprocess.Popen[str]
#: Starts a process: its name, its command, the descriptors that it inherits.
Starter = Callable[[str, Sequence[str], Sequence[int]], Process]

#: Longer than a worker is stopped: the master kills one that does not answer for so long.
HEALTH = 15


class Server(Protocol):
    """What is done to a web server."""

    def start(self) -> None:
        """Listen, and have two workers started."""

    def tend(self) -> None:
        """Replace workers that have died."""

    def workers(self) -> list[int]:
        """The worker processes that are alive."""

    def kill(self) -> None:
        """End all of it at once, as when the host dies."""


class Pair:
    """Two processes under a process manager, which is this process: ``uvicorn --fd``."""

    def __init__(self, port: int, start: Starter) -> None:
        self._port, self._start = port, start
        self._pair: list[Process] = []

    def start(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", self._port), backlog=1024)
        self._pair = [self._worker() for _ in range(2)]

    def tend(self) -> None:
        self._pair = [each if each.poll() is None else self._worker() for each in self._pair]

    def workers(self) -> list[int]:
        return [each.pid for each in self._pair if each.poll() is None]

    def kill(self) -> None:
        for each in self._pair:
            kill_group(each)
        self._socket.close()

    def _worker(self) -> Process:
        number = self._socket.fileno()
        command = [sys.executable, "-m", "uvicorn", "tests.e2e.servers:asgi", "--fd", str(number),
                   "--no-access-log", "--log-level", "warning"]  # fmt: skip
        return self._start("server", command, [number])


class Master:
    """``uvicorn --workers 2``: its own master replaces workers.

    It finds a worker dead at once, or after ``HEALTH`` seconds if the worker dies while it is
    asked whether it is well: a run takes longer by that.
    """

    def __init__(self, port: int, start: Starter) -> None:
        self._port, self._start = port, start

    def start(self) -> None:
        patient = ("--timeout-worker-healthcheck", str(HEALTH))
        command = server_command("uvicorn-2", self._port, *patient)
        master = self._master = self._start("server", command, [])
        wait_until(lambda: listens(self._port) or master.poll() is not None, 30)

    def tend(self) -> None:
        """The master does."""

    def workers(self) -> list[int]:
        return children(self._master.pid)

    def kill(self) -> None:
        kill_group(self._master)


SERVERS: dict[str, type[Pair] | type[Master]] = {"pair": Pair, "master": Master}


def kill_group(process: Process) -> None:
    """End a process that leads a group, with it; once reaped, its number may be another's."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


def children(parent: int) -> list[int]:
    """The children of a process that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, ppid, *_ = path.read_text().rpartition(") ")[2].split()
            if int(ppid) == parent and state != "Z":
                found.append(int(path.parent.name))
    return sorted(found)
