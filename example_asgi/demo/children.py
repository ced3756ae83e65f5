"""The processes of the demo: started here, and ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
LOOPBACK = "127.0.0.1"
START_SECONDS = 60
END_SECONDS = 5
LAST_LINES = 15
#: Systems take a port for an outgoing connection from above these, also one that was found free
#: a moment ago, or whose server is about to be started again.
FREE_PORTS = range(20_000, 32_000)


class ChildError(Exception):
    """A process did not start or ended by itself; the text has its last lines."""


@dataclass(kw_only=True)
class Child:
    name: str
    command: list[str]
    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            # A group of its own, so that a server's workers can be killed with it.
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=HERE,
                start_new_session=True,
            )

    def wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.listens():
                return
            time.sleep(0.02)
        raise ChildError(self._told(f"does not listen on port {self.port}"))

    @property
    def is_started(self) -> bool:
        return self.process is not None

    def listens(self) -> bool:
        """Whether it takes connections; raises if it has ended by itself."""
        self.check()
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self.port), 1):
            return True
        return False

    def check(self) -> None:
        """Raise if it has ended by itself."""
        if self.process is not None and (code := self.process.poll()) is not None:
            raise ChildError(self._told(f"ended with code {code}"))

    def kill(self) -> None:
        """End it and its workers without warning: SIGKILL, which no process can catch."""
        if self.process is not None:
            if hasattr(os, "killpg"):  # not on Windows, where there are no workers either
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()
            self.process = None

    def end(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS)
        self.kill()

    def _told(self, what: str) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        said = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
        return f"{self.name} {what}; the last it said (all of it: {self.log}):\n{said}"


def free_ports(*wanted: int) -> list[int]:
    """Each wanted port if nobody has it, any free one for 0; raises :class:`ChildError`."""
    with contextlib.ExitStack() as held:  # until all are chosen, so that no two are the same
        probes = [held.enter_context(socket.socket()) for _ in wanted]
        return [
            _hold(probe, port) if port else _hold_any(probe)
            for probe, port in zip(probes, wanted, strict=True)
        ]


def _hold_any(probe: socket.socket) -> int:
    for candidate in random.sample(FREE_PORTS, 100):
        with contextlib.suppress(ChildError):
            return _hold(probe, candidate)
    return _hold(probe, 0)


def _hold(probe: socket.socket, wanted: int) -> int:
    # As the servers do it: what was closed a moment ago is free.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((LOOPBACK, wanted))
        probe.listen()  # with that option only a listening socket keeps others away
    except (OSError, OverflowError) as error:
        raise ChildError(f"port {wanted} cannot be used: {error}") from None
    return int(probe.getsockname()[1])


def qstash(port: int, logs: Path) -> Child:
    """The local QStash server."""
    command = [sys.executable, "-m", "django_hookflow.devserver", "--host", LOOPBACK]
    command += ["--port", str(port)]
    return Child(
        name="the local QStash server", command=command, port=port, log=logs / "qstash.log"
    )


def uvicorn(port: int, logs: Path) -> Child:
    """The project itself, served by uvicorn."""
    command = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--app-dir", str(HERE)]
    command += ["--host", LOOPBACK, "--port", str(port), "--workers", "1", "--lifespan", "off"]
    command += ["--timeout-graceful-shutdown", str(END_SECONDS - 2)]
    return Child(name="the web server", command=command, port=port, log=logs / "web.log")


def gunicorn(port: int, logs: Path) -> Child:
    """The project itself, served by gunicorn with two sync workers."""
    command = [*_gunicorn(port), "--workers", "2"]
    return Child(name="the web server", command=command, port=port, log=logs / "web.log")


def payments(port: int, logs: Path) -> Child:
    """The payment provider by itself.

    A sync worker serves one request at a time: a run on each that calls a provider which the
    same workers serve would wait for itself.
    """
    command = [*_gunicorn(port), "--threads", "8"]
    return Child(name="the payment provider", command=command, port=port, log=logs / "payments.log")


def _gunicorn(port: int) -> list[str]:
    command = [sys.executable, "-m", "gunicorn", "config.wsgi", "--bind", f"{LOOPBACK}:{port}"]
    return [*command, "--graceful-timeout", str(END_SECONDS - 2), "--no-control-socket"]
