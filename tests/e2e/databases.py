"""Database servers of a test's own: a PostgreSQL cluster, PgBouncer, and a proxy that cuts.

None of them is the machine's: they listen on free ports of the loopback and may be stopped.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.ports import free_port

from .processes import listens, wait_until

#: Servers refuse to run as root; the packages of all distributions make this user.
SERVICE_USER = "postgres"


def server_binaries() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``, or ``None``."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if config := shutil.which("pg_config"):
        done = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        folders.append(Path(done.stdout.strip()))
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def pgbouncer_binary() -> str | None:
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class _Folder:
    """A folder that the servers' user may write to; pytest's own are closed to others."""

    def __enter__(self) -> Path:
        self.path = Path(tempfile.mkdtemp(prefix="hookflow-server-"))
        if os.geteuid() == 0:
            shutil.chown(self.path, SERVICE_USER)
        return self.path

    def __exit__(self, *error: Any) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def as_service(command: list[str]) -> list[str]:
    """The command, run by somebody who is not root."""
    return ["runuser", "-u", SERVICE_USER, "--", *command] if os.geteuid() == 0 else command


class Cluster:
    """A PostgreSQL cluster that can be restarted as after a power cut."""

    def __init__(self, binaries: Path, max_connections: int = 60) -> None:
        self._binaries = binaries
        self._max_connections = max_connections
        self._folder = _Folder()
        self.port = free_port()

    @property
    def database(self) -> dict[str, Any]:
        """What ``DATABASES`` says of it."""
        return {
            "HOST": "127.0.0.1", "PORT": self.port, "NAME": "postgres", "USER": "postgres",
            "PASSWORD": "",
        }  # fmt: skip

    def __enter__(self) -> Cluster:
        self._root = self._folder.__enter__()
        data = str(self._root / "data")
        self._run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8")
        with (self._root / "conf").open("w") as conf:
            conf.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\n"
                f"unix_socket_directories = ''\nfsync = off\n"
                f"max_connections = {self._max_connections}\n"
            )
        with (self._root / "data" / "postgresql.conf").open("a") as main:
            main.write(f"\ninclude '{self._root / 'conf'}'\n")
        self._control("start")
        return self

    def __exit__(self, *error: Any) -> None:
        self._control("stop", "-m", "immediate")
        self._folder.__exit__()

    def stop(self) -> None:
        """As a power cut: every connection is dead, and recovery follows."""
        self._control("stop", "-m", "immediate")

    def start(self) -> None:
        self._control("start")

    def _control(self, *what: str) -> None:
        log = str(self._root / "log")
        self._run("pg_ctl", "-D", str(self._root / "data"), "-l", log, "-w", *what)

    def _run(self, name: str, *arguments: str) -> None:
        command = as_service([str(self._binaries / name), *arguments])
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL,
                       stderr=subprocess.STDOUT)  # fmt: skip


class Pooler:
    """PgBouncer in transaction mode in front of a database."""

    def __init__(self, binary: str, database: dict[str, Any], size: int) -> None:
        self._binary = binary
        self._target = database
        self._size = size
        self._folder = _Folder()
        self.port = free_port()

    def __enter__(self) -> Pooler:
        root = self._folder.__enter__()
        (root / "users").write_text(f'"{self._target["USER"]}" ""\n')
        (root / "ini").write_text(
            "[databases]\n"
            f"* = host={self._target['HOST']} port={self._target['PORT']}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {root / 'users'}\nmax_client_conn = 500\n"
            f"pool_mode = transaction\ndefault_pool_size = {self._size}\n"
            "server_tls_sslmode = disable\n"
        )
        for path in root.iterdir():
            path.chmod(0o644)
        self._process = subprocess.Popen(
            as_service([self._binary, str(root / "ini")]), cwd="/",
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        wait_until(lambda: listens(self.port) or self._process.poll() is not None, 10)
        assert self._process.poll() is None, "pgbouncer did not start"
        return self

    def __exit__(self, *error: Any) -> None:
        os.killpg(self._process.pid, 15)
        self._process.wait()
        self._folder.__exit__()


#: Seconds by which a COMMIT outlives its connection.
LATE = 0.2


class Cutter:
    """A proxy that cuts some connections at COMMIT: ``cut(n)`` decides over the n-th.

    It says "before" (the server never hears of the COMMIT), "after" (it commits, and nobody is
    told), "late" (it hears of it a while after the connection broke) or "" (nothing happens).
    """

    def __init__(self, target: tuple[str, int], cut: Callable[[int], str]) -> None:
        self._target = target
        self._cut = cut
        self._commits = 0
        self._lock = threading.Lock()
        self.cuts = {"before": 0, "after": 0, "late": 0}

    def __enter__(self) -> Cutter:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # the end of the test
            server = socket.create_connection(self._target)
            state = _Cut()
            for task in ((self._outward, client, server), (self._inward, server, client)):
                threading.Thread(target=task[0], args=(*task[1:], state), daemon=True).start()

    def _verdict(self) -> str:
        with self._lock:
            self._commits += 1
            verdict = self._cut(self._commits)
            if verdict:
                self.cuts[verdict] += 1
            return verdict

    def _outward(self, client: socket.socket, server: socket.socket, state: _Cut) -> None:
        try:
            while data := client.recv(65536):
                if data[:1] == b"Q" and data[5:11].upper() == b"COMMIT":
                    state.verdict = self._verdict()
                if state.verdict == "before":
                    break
                if state.verdict == "late":
                    _close(client)
                    time.sleep(LATE)
                    server.sendall(data)
                    server.recv(65536)
                    break
                server.sendall(data)
        except OSError:
            pass  # the other direction closed it
        if state.verdict != "after":
            _close(client, server)

    def _inward(self, server: socket.socket, client: socket.socket, state: _Cut) -> None:
        try:
            while data := server.recv(65536):
                if state.verdict == "after":
                    break  # committed; the answer is lost
                client.sendall(data)
        except OSError:
            pass
        _close(client, server)


class _Cut:
    """What was decided for one connection."""

    def __init__(self) -> None:
        self.verdict = ""


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):  # closed by the other direction
            each.shutdown(socket.SHUT_RDWR)
        each.close()
