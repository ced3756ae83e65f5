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
from pathlib import Path
from typing import Any

from django.test import override_settings

from django_hookflow.devserver.server import DevServer
from django_hookflow.registry import registry

DOMAIN = "https://app.example"
WEBHOOK = f"{DOMAIN}/hookflow/"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Deployment:
    """A devserver, and web servers that can be killed and started again on their ports."""

    def __init__(self, folder: Path, alias: str, **environment: str) -> None:
        self.ledger = folder / "ledger"
        self.ledger.touch()
        self.folder = folder
        self.port = free_port()
        self.devserver = DevServer(
            rewrite={DOMAIN: f"http://127.0.0.1:{self.port}"}, time_scale=2.5
        )
        self.servers: list[subprocess.Popen[bytes]] = []
        self._alias = alias
        self._extra = environment

    def __enter__(self) -> Deployment:
        self.devserver.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for server in self.servers:
            if server.poll() is None:
                server.send_signal(signal.SIGCONT)
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

    def serve(self, *, port: int | None = None, server: str = "uvicorn") -> Any:
        """Start a web server and wait until it listens."""
        port = port or self.port
        commands = {
            "uvicorn": ["uvicorn", "tests.e2e.servers:asgi", "--port", str(port), "--no-access-log",
                        "--log-level", "warning"],
            "gunicorn": ["gunicorn", "tests.e2e.servers:wsgi", "--bind", f"127.0.0.1:{port}",
                         "--workers", "2", "--log-level", "warning"],
        }  # fmt: skip
        with (self.folder / f"server-{len(self.servers)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *commands[server]],
                env=self.environment, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.servers.append(process)
        wait_until(lambda: listens(port) or process.poll() is not None, 20)
        assert process.poll() is None, self.logs()
        return process

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
