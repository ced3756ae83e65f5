"""What the local QStash carries: ``python -m tests.benchmarks.local_qstash [--db FILE]``.

Three figures, from a server in a process of its own and a destination in another: messages a
second from the first publish to the last delivery, memory with many delayed messages, and how
late timers are. Nothing here is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import re
import statistics
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx

from django_hookflow.devserver.config import DEFAULT_TOKEN

MESSAGES, DELAYED, TIMERS = 20_000, 100_000, 5_000
BATCH = 200
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_ID = re.compile(rb"\r\nupstash-message-id: *([^\r]+)\r\n", re.IGNORECASE)


class Destination(asyncio.Protocol):
    """Answers 200 to everything, and remembers when which message came."""

    arrivals: dict[str, float] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.head = b""

    def data_received(self, data: bytes) -> None:
        self.head += data
        if b"\r\n\r\n" in self.head:
            found = _ID.search(self.head)
            assert found is not None
            self.arrivals.setdefault(found[1].decode(), time.time())
            self.transport.write(ANSWER)  # type: ignore[attr-defined]
            self.transport.close()
            self.head = b""


def receive(pipe: Connection) -> None:
    """The destination's process: says its port, then its arrivals whenever it is asked."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Destination, "127.0.0.1", 0, backlog=1024)
        pipe.send(server.sockets[0].getsockname()[1])
        while True:
            await loop.run_in_executor(None, pipe.recv)
            pipe.send(dict(Destination.arrivals))
            Destination.arrivals.clear()

    asyncio.run(serve())


class Bench:
    def __init__(self, *arguments: str) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        self.receiver = multiprocessing.Process(target=receive, args=(theirs,), daemon=True)
        self.receiver.start()
        self.url = f"http://127.0.0.1:{self.pipe.recv()}/"
        command = [sys.executable, "-m", "django_hookflow.devserver", "--port", "0", *arguments]
        self.server = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.server.stdout is not None
        base = self.server.stdout.readline().split()[-1]
        self.http = httpx.Client(
            base_url=base, headers={"Authorization": f"Bearer {DEFAULT_TOKEN}"},
            trust_env=False, timeout=60,
        )  # fmt: skip

    def publish(self, headers: list[dict[str, str]], body: str = '{"n": 1}') -> None:
        for start in range(0, len(headers), BATCH):
            items = [
                {"destination": self.url, "headers": one, "body": body}
                for one in headers[start : start + BATCH]
            ]
            self.http.post("/v2/batch", content=json.dumps(items)).raise_for_status()

    def arrivals(self, wanted: int, patience: float = 300.0) -> dict[str, float]:
        found: dict[str, float] = {}
        end = time.monotonic() + patience
        while len(found) < wanted and time.monotonic() < end:
            self.pipe.send(None)
            for message_id, at in self.pipe.recv().items():
                found.setdefault(message_id, at)
            time.sleep(0.1)
        return found

    def resident(self) -> float:
        """Megabytes of the server."""
        status = Path(f"/proc/{self.server.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def created(self) -> dict[str, float]:
        """When which message is due, out of the log."""
        found: dict[str, float] = {}
        query: dict[str, Any] = {"state": "CREATED", "count": 1000}
        while True:
            page = self.http.get("/v2/events", params=query).json()
            for entry in page["events"]:
                found[entry["messageId"]] = entry["nextDeliveryTime"] / 1000
            if "cursor" not in page:
                return found
            query["cursor"] = page["cursor"]

    def close(self) -> None:
        self.http.close()
        self.server.kill()
        self.server.communicate()
        self.receiver.terminate()


def throughput(*arguments: str) -> None:
    bench = Bench(*arguments)
    before = bench.resident()
    began = time.time()
    bench.publish([{}] * MESSAGES)
    published = time.time()
    arrivals = bench.arrivals(MESSAGES)
    last = max(arrivals.values())
    print(f"{len(arrivals)} of {MESSAGES} messages in {last - began:.1f} s: "
          f"{len(arrivals) / (last - began):.0f} a second "
          f"(the last was published after {published - began:.1f} s); "
          f"memory {before:.0f} MB before, {bench.resident():.0f} MB after")  # fmt: skip
    bench.close()


def memory(*arguments: str) -> None:
    bench = Bench(*arguments)
    before = bench.resident()
    began = time.time()
    bench.publish([{"Upstash-Delay": "1d"}] * DELAYED)
    took = time.time() - began
    time.sleep(2)
    began = time.time()
    bench.http.get("/page/state").raise_for_status()
    page = time.time() - began
    print(f"{DELAYED} delayed messages, accepted at {DELAYED / took:.0f} a second: "
          f"{bench.resident():.0f} MB, {before:.0f} MB without them; "
          f"the page's state takes {page * 1000:.0f} ms then")  # fmt: skip
    bench.close()


def lateness(*arguments: str) -> None:
    bench = Bench(*arguments)
    chance = random.Random(1)
    delays = [chance.uniform(15, 45) for _ in range(TIMERS)]
    bench.publish([{"Upstash-Delay": f"{delay:.3f}s"} for delay in delays])
    due = bench.created()
    arrivals = bench.arrivals(TIMERS)
    late = sorted((arrivals[one] - due[one]) * 1000 for one in arrivals if one in due)
    print(f"{len(late)} of {TIMERS} timers over 30 s, late by: "
          f"median {statistics.median(late):.1f} ms, "
          f"99 % within {late[int(len(late) * 0.99)]:.1f} ms, at most {late[-1]:.1f} ms, "
          f"at least {late[0]:.1f} ms")  # fmt: skip
    bench.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--db", help="keep everything in this file; it is begun anew each time")
    db = parser.parse_args().db
    for figure in (throughput, memory, lateness):
        if db:
            for suffix in ("", "-wal", "-shm"):
                Path(db + suffix).unlink(missing_ok=True)
        figure(*(["--db", db] if db else []))


if __name__ == "__main__":
    main()
