"""Real processes for end-to-end tests: web servers over a test database, and the ledger."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.test import override_settings

from django_hookflow.devserver.config import Config, parse_rewrite
from django_hookflow.devserver.server import DevServer
from django_hookflow.registry import registry
from tests.ports import free_port

DOMAIN = "https://app.example"
WEBHOOK = f"{DOMAIN}/hookflow/"

#: The servers that deliveries are tried under. All but the first have a master process that
#: replaces a worker that died.
SERVERS: dict[str, tuple[str, ...]] = {
    "uvicorn": ("uvicorn",),
    # A stopped process is a test's doing: its master is to leave it alone.
    "uvicorn-2": ("uvicorn", "--workers", "2", "--timeout-worker-healthcheck", "60"),
    "gunicorn-sync": ("gunicorn", "--workers", "2"),
    "gunicorn-gthread": (
        *("gunicorn", "--workers", "2", "--worker-class", "gthread", "--threads", "4"),
    ),
    "gunicorn-asgi": ("gunicorn", "--workers", "2", "--worker-class", "asgi"),
}


def chosen_servers() -> list[str]:
    """``HOOKFLOW_TEST_SERVERS``: ``all``, or names with commas; without it the first one."""
    named = os.environ.get("HOOKFLOW_TEST_SERVERS", "uvicorn")
    chosen = list(SERVERS) if named == "all" else named.split(",")
    if unknown := set(chosen) - set(SERVERS):
        raise SystemExit(f"HOOKFLOW_TEST_SERVERS={named}: {unknown} is none of {list(SERVERS)}")
    return chosen


def server_command(server: str, port: int, *options: str) -> list[str]:
    """What starts that kind of server over the tests' project."""
    name, *arguments = SERVERS[server]
    colour = "wsgi" if server in ("gunicorn-sync", "gunicorn-gthread") else "asgi"
    where = {
        "uvicorn": ("--port", str(port), "--no-access-log"),
        "gunicorn": ("--bind", f"127.0.0.1:{port}", "--no-control-socket"),
    }
    return [
        *(sys.executable, "-m", name, f"tests.e2e.servers:{colour}"),
        *(*where[name], "--log-level", "warning", *arguments, *options),
    ]


class Deployment:
    """A devserver, and web servers that can be killed and started again on their ports."""

    def __init__(
        self, folder: Path, alias: str, *, concurrency: int = 100, **environment: str
    ) -> None:
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.folder = folder
        self.port = free_port()
        rewrite = parse_rewrite(f"{DOMAIN}=http://127.0.0.1:{self.port}")
        self.devserver = DevServer(
            config=Config(rewrites=(rewrite,), time_scale=2.5, concurrency=concurrency)
        )
        self.servers: list[subprocess.Popen[bytes]] = []
        self._alias = alias
        self._extra = environment

    def __enter__(self) -> Deployment:
        self.devserver.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for server in self.servers:
            with suppress(ProcessLookupError):  # all have ended, or it has no group of its own
                os.killpg(server.pid, signal.SIGKILL)
            server.kill()
            server.wait()
        self.devserver.__exit__(None, None, None)

    @property
    def settings(self) -> dict[str, str]:
        """What this deployment's processes agree on."""
        return {
            "DJANGO_HOOKFLOW_DATABASE": self._alias,
            "DJANGO_HOOKFLOW_DOMAIN": DOMAIN,
            "QSTASH_URL": self.devserver.url,
            "QSTASH_TOKEN": self.devserver.token,
            "QSTASH_CURRENT_SIGNING_KEY": self.devserver.current_key,
            "QSTASH_NEXT_SIGNING_KEY": self.devserver.next_key,
            # The devserver shares an interpreter with the tests: on a busy machine it may take
            # longer than usual, and what was not sent in time waits for somebody who looks.
            "DJANGO_HOOKFLOW_PUBLISH_TIMEOUT": "20",
        }

    @property
    def environment(self) -> dict[str, str]:
        """What a process of this deployment is started with."""
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.e2e.settings",
            "HOOKFLOW_TEST_CHILD": "1",
            "HOOKFLOW_LEDGER": str(self.ledger),
            "DJANGO_HOOKFLOW_LEASE_SECONDS": "1",
            **self.settings,
            **self._extra,
        }

    def serve(
        self, *, port: int | None = None, server: str = "uvicorn", options: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a web server and wait until it listens."""
        port = port or self.port
        with (self.folder / f"server-{len(self.servers)}.log").open("wb") as log:
            # A group of its own, so that its workers can be ended with it.
            process = subprocess.Popen(
                server_command(server, port, *options), env=self.environment,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.servers.append(process)
        wait_until(lambda: listens(port) or process.poll() is not None, 90)
        assert process.poll() is None, self.logs()
        return process

    def bury(self, marker: Path) -> int:
        """Wait until the process that wrote its number into ``marker`` is dead; its number."""
        wait_until(lambda: marker.exists() and marker.read_text(), 90, self.logs)
        victim = int(marker.read_text())
        wait_until(lambda: self._ended(victim), 60, self.logs)
        return victim

    def revive(self, victim: int, *, server: str = "uvicorn") -> None:
        """Have somebody in the place of ``victim``, which is dead.

        A master replaces its worker by itself; a server of one process is started again.
        """
        if self.servers[-1].pid == victim:
            assert self.servers[-1].returncode == -signal.SIGKILL
            self.serve(server=server)

    def _ended(self, pid: int) -> bool:
        if self.servers[-1].pid == pid:
            return self.servers[-1].poll() is not None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True  # and its master knows
        return False

    def trigger(
        self,
        workflow_id: str,
        data: Any = None,
        run_id: str | None = None,
        *,
        crashing: bool = False,
    ) -> str:
        """Start a run; ``crashing`` does it in a process with the deployment's crash point."""
        if not crashing:
            with override_settings(**self.settings):
                started: Any = registry.find(workflow_id, "")
                return str(started.trigger(data, run_id=run_id))
        code = (
            "import django, json, sys; django.setup()\n"
            "import tests.e2e.servers\n"
            "from django_hookflow.registry import registry\n"
            "workflow, data, run_id = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] or None\n"
            "print(registry.find(workflow, '').trigger(data, run_id=run_id))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, workflow_id, json.dumps(data), run_id or ""],
            env=self.environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def command(self, *arguments: str) -> str:
        """Run a management command in a process of its own."""
        command = [sys.executable, "-m", "django", *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    def bodies(self, run_id: str) -> Counter[str]:
        """How often each step's body ran, by the ledger."""
        lines = (line.split() for line in self.ledger.read_text().splitlines())
        return Counter(step for run, step, *_ in lines if run == run_id)

    def messages(self) -> list[Any]:
        """What was published so far."""
        return self.devserver.published()

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Any, seconds: float, why: Any = lambda: "") -> None:
    """Poll until ``condition()``; an assertion error with ``why()`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s {why()}"
        time.sleep(0.05)
