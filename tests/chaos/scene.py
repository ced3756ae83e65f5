"""The processes of a chaos run: ledger, QStash, web server with two workers, sweeper."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.chaos.servers import SERVERS, Process, Server, kill_group
from tests.chaos.timeline import patience
from tests.e2e.processes import DOMAIN
from tests.ports import free_port

#: Seconds that a worker has been up before anything is done to it: else none gets to work on a
#: machine on which starting one takes as long as the time between two kills.
AT_WORK = 1.5


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """Of one chaos run: not the public ones, which the doctor rightly complains about."""

    token: str
    key: str
    next_key: str

    @classmethod
    def new(cls) -> Secrets:
        return cls(
            token=secrets.token_hex(16),
            key=f"sig_{secrets.token_hex(14)}",
            next_key=f"sig_{secrets.token_hex(14)}",
        )


class Scene:
    """Starts the processes, and finds, kills and restarts them."""

    def __init__(self, folder: Path, alias: str, server: str, lease: float) -> None:
        self.folder = folder
        self.alias = alias
        self.lease = lease
        self._port, self._qstash_port = free_port(), free_port()
        self.server: Server = SERVERS[server](self._port, self._start)
        self._secrets = Secrets.new()
        self._processes: list[Process] = []
        #: What QStash processes that are gone had told.
        self._told: Counter[str] = Counter()

    # --- beginning and end

    @property
    def settings(self) -> dict[str, str]:
        """What all processes of the run agree on; this one takes them too."""
        return {
            "DJANGO_HOOKFLOW_DATABASE": self.alias,
            "DJANGO_HOOKFLOW_DOMAIN": DOMAIN,
            "DJANGO_HOOKFLOW_DELIVERY_SECONDS": "8",
            "DJANGO_HOOKFLOW_LEASE_SECONDS": str(self.lease),
            "HOOKFLOW_CHAOS_FOLDER": str(self.folder),
            "HOOKFLOW_LOG": "WARNING",
            "QSTASH_URL": f"http://127.0.0.1:{self._qstash_port}",
            "QSTASH_TOKEN": self._secrets.token,
            "QSTASH_CURRENT_SIGNING_KEY": self._secrets.key,
            "QSTASH_NEXT_SIGNING_KEY": self._secrets.next_key,
        }

    def start(self) -> None:
        """Start everything; the database has to be there."""
        ledger = self._module("ledger", "tests.chaos.ledger", str(self.folder))
        assert ledger.stdout is not None
        os.environ["HOOKFLOW_CHAOS_CALLS"] = f"http://127.0.0.1:{int(ledger.stdout.readline())}/"
        self.start_qstash()
        self.sweeper = self._module("sweeper", "django", "hookflow", "sweep", "--every", "1")
        self.server.start()

    def stop(self) -> None:
        """End every process, also what is stopped or has lost its parent."""
        for process in self._processes:
            kill_group(process)

    def _start(self, name: str, command: Sequence[str], descriptors: Sequence[int] = ()) -> Process:
        told = name in ("ledger", "qstash")
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=os.environ, stdin=subprocess.PIPE if told else subprocess.DEVNULL,
                stdout=subprocess.PIPE if told else log, stderr=log, pass_fds=descriptors,
                text=True, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def _module(self, name: str, module: str, *arguments: str) -> Process:
        return self._start(name, [sys.executable, "-m", module, *arguments])

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def workers(self) -> list[int]:
        """The workers that are not stopped and at work for a while."""
        return [
            pid
            for pid in self.server.workers()
            if _age(self.folder / f"up-{pid}") >= AT_WORK and _state(pid) != "T"
        ]

    # --- QStash

    def start_qstash(self) -> None:
        rewrite = f"{DOMAIN}=http://127.0.0.1:{self._port}"
        secret = self._secrets
        self.qstash = self._module(
            "qstash", "tests.chaos.qstash", str(self._qstash_port),
            str(self.folder / "qstash.sqlite3"), rewrite, secret.token, secret.key, secret.next_key,
            str(patience(self.lease)),
        )  # fmt: skip
        assert _pipe(self.qstash.stdout).readline(), self.logs()

    def kill_qstash(self) -> None:
        self._told += Counter(self._tell())
        kill_group(self.qstash)

    def fault(self, name: str, count: int) -> None:
        """Have QStash do something wrong with its next messages."""
        self._say(f"{name} {count}")

    def told(self) -> dict[str, int]:
        """What all QStash processes of the run did."""
        return dict(self._told + Counter(self._tell()))

    def _tell(self) -> dict[str, int]:
        self._say("tell")
        told: dict[str, int] = json.loads(_pipe(self.qstash.stdout).readline())
        return told

    def _say(self, line: str) -> None:
        pipe = _pipe(self.qstash.stdin)
        pipe.write(f"{line}\n")
        pipe.flush()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Wait until no thread of the process runs any more."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if _state(pid) in ("", "Z"):
            return True
        time.sleep(0.005)
    return False


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:  # it is not there yet
        return -1.0


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return ""
