"""A tiny HTTP server in a thread that answers as told and remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    status: int = 200
    body: Any = field(default_factory=lambda: {"messageId": "msg_1"})
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


class Broker:
    """``answers`` are used up in order, then ``default`` is given."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[Request] = []
        self.connections = 0
        self.answers: list[Answer] = []
        self.default = Answer()

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        return self.answers.pop(0) if self.answers else self.default


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A connection beyond the usual five waits a second or more for its second attempt.
    request_queue_size = 128
    block_on_close = False
    broker: Broker


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.broker.connections += 1

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        answer = self.server.broker.answer(request)
        time.sleep(answer.delay)
        content = (
            answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        )
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _serve

    def log_message(self, *args: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client went away first
            super().handle()


@contextmanager
def serving() -> Iterator[Broker]:
    server = _Server(("127.0.0.1", 0), _Connection)
    server.broker = Broker(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.broker
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
