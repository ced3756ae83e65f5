"""The ledger: a process of its own that writes down, in one strict order, what happened.

``python -m tests.chaos.ledger FOLDER``: lines come by the Unix socket ``FOLDER/ledger.sock``,
``ctx.step.call`` by HTTP on the port that is printed. Each line is in the SQLite file
``FOLDER/ledger.sqlite3`` before it is acknowledged. Ends when its standard input does; nothing
in a chaos run may kill it.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from django_hookflow.engine.place import current_step

#: The environment variable that names the ledger's folder.
FOLDER = "HOOKFLOW_CHAOS_FOLDER"

COLUMNS = ("kind", "run", "key", "attempt", "idem", "pid", "note")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One thing that happened: ``start``, ``effect`` or ``end`` of a body; ``fault``, ``done``.

    ``note`` tells executions of one step apart: it is the value that the body returns.
    """

    seq: int
    at: float
    kind: str
    run: str
    key: str
    attempt: int
    idem: str
    pid: int
    note: str

    def __str__(self) -> str:
        return (
            f"{self.seq:>6} {self.at:.3f} {self.kind:<6} {self.key} attempt {self.attempt} "
            f"pid {self.pid} key {self.idem[:8]} {self.note}"
        )


def read_lines(folder: Path) -> list[Line]:
    """All lines, in order."""
    with sqlite3.connect(folder / "ledger.sqlite3") as database:
        rows = database.execute(f"SELECT seq, at, {', '.join(COLUMNS)} FROM line ORDER BY seq")
        names = ("seq", "at", *COLUMNS)
        return [Line(**dict(zip(names, row, strict=True))) for row in rows]


# --- those who tell


def send(line: Sequence[object], folder: str | None = None) -> None:
    """Have one line written; returns when it is."""
    path = os.path.join(folder or os.environ[FOLDER], "ledger.sock")  # noqa: PTH118
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(path)
        client.sendall(json.dumps(line).encode() + b"\n")
        if not client.recv(64):
            raise RuntimeError("the ledger did not take a line")


class Body:
    """What one execution of a step's body tells."""

    def __init__(self) -> None:
        info = current_step()
        self.attempt = info.attempt
        self.run, self.key = info.run_id, f"{info.step_id}#{info.occurrence}"
        self.note = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._idem = info.idempotency_key
        self.tell("start")

    def tell(self, kind: str) -> None:
        send([kind, self.run, self.key, self.attempt, self._idem, os.getpid(), self.note])


# --- the process


class Ledger:
    """The SQLite file, and the two ways into it."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=OFF")  # this process is never killed
        self._database.execute(
            "CREATE TABLE line (seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL, kind TEXT,"
            " run TEXT, key TEXT, attempt INTEGER, idem TEXT, pid INTEGER, note TEXT)"
        )
        self._asked: Counter[str] = Counter()

    def write(self, line: Sequence[object]) -> int:
        marks = ", ".join("?" * (len(COLUMNS) + 1))
        sql = f"INSERT INTO line (at, {', '.join(COLUMNS)}) VALUES ({marks})"
        return int(self._database.execute(sql, [time.time(), *line]).lastrowid or 0)

    async def line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if text := await reader.readline():
            writer.write(b"%d\n" % self.write(json.loads(text)))
        writer.close()

    async def call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A ``ctx.step.call``: an effect of its own; 503 for the first ``fail`` of one key."""
        try:
            head, _, _ = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").partition("\r\n\r")
            fields = dict(each.lower().split(": ", 1) for each in head.split("\r\n")[1:])
            asked = json.loads(await reader.readexactly(int(fields["content-length"])))
        except asyncio.IncompleteReadError:  # the caller was killed
            writer.close()
            return
        status, answer = await self._served(asked, fields["idempotency-key"], fields["x-process"])
        body = json.dumps(answer).encode()
        writer.write(
            b"HTTP/1.1 %d .\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (status, len(body), body)
        )
        writer.close()

    async def _served(self, asked: dict[str, object], idem: str, pid: str) -> tuple[int, object]:
        note = f"{pid}-{secrets.token_hex(4)}"
        facts = [asked["run"], asked["key"], 0, idem, int(pid), note]
        self.write(["start", *facts])
        self._asked[idem] += 1
        await asyncio.sleep(float(str(asked["ms"])) / 1000)
        if self._asked[idem] <= int(str(asked["fail"])):
            return 503, {}
        self.write(["effect", *facts])
        self.write(["end", *facts])
        return 200, {"note": note}


async def serve(folder: Path) -> None:
    ledger = Ledger(folder / "ledger.sqlite3")
    lines = await asyncio.start_unix_server(ledger.line, folder / "ledger.sock", backlog=500)
    calls = await asyncio.start_server(ledger.call, "127.0.0.1", 0, backlog=500)
    print(calls.sockets[0].getsockname()[1], flush=True)
    ended, loop = asyncio.Event(), asyncio.get_running_loop()

    def watch() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=watch, daemon=True).start()
    await ended.wait()
    lines.close()
    calls.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
