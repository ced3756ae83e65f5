"""A destination that records what arrives, and the local server in front of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import qstash

from django_hookflow.devserver.messages import Spec
from django_hookflow.devserver.server import DevServer


@dataclass
class Arrival:
    method: str
    path: str
    headers: dict[str, str]
    raw_headers: list[tuple[str, str]]
    body: bytes
    at: float


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    pause: float = 0.0


@pytest.fixture(autouse=True, scope="session")
def _patience() -> Iterator[None]:
    """Wait longer than users do: a busy machine is no defect, and what comes ends the wait."""
    usual = DevServer.wait_for.__kwdefaults__
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(usual, "timeout", 30.0)
        yield


def spec(now: float = 0.0, body: bytes = b"", **changes) -> Spec:
    values = {
        "url": "http://h/p?q",
        "method": "POST",
        "body": body,
        "content_type": None,
        "headers": (),
        "retries": 3,
        "created_at": now,
        "due": now,
        "timeout": None,
        "retry_delay": None,
        "deduplication_id": None,
        "labels": (),
        "caller_ip": "127.0.0.1",
    }
    return Spec(**(values | changes))


class Destination:
    """Answers what ``plan(arrival)`` says."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.plan: Callable[[Arrival], Answer] = lambda arrival: Answer()
        self.url = ""

    def count(self, path: str = "") -> int:
        return sum(1 for arrival in list(self.arrivals) if arrival.path.startswith(path))

    def answer_in_turn(self, *answers: Answer) -> None:
        """The answers in this order, the last one for ever."""
        self.plan = lambda arrival: answers[min(len(self.arrivals), len(answers)) - 1]


@pytest.fixture(scope="session")
def _shared() -> Iterator[Destination]:
    destination = Destination()

    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            arrival = Arrival(
                method=self.command,
                path=self.path,
                headers={name.lower(): value for name, value in self.headers.items()},
                raw_headers=self.headers.items(),
                body=body,
                at=time.time(),
            )
            destination.arrivals.append(arrival)
            answer = destination.plan(arrival)
            time.sleep(answer.pause)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        # A connection beyond the usual five waits a second or more for its second attempt.
        request_queue_size = 128
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a delivery that timed out has hung up

    server = Quiet(("127.0.0.1", 0), Endpoint)
    destination.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
    thread.start()
    yield destination
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def destination(_shared: Destination) -> Iterator[Destination]:
    _shared.arrivals = []
    _shared.plan = lambda arrival: Answer()
    yield _shared
    _shared.plan = lambda arrival: Answer()


@pytest.fixture
def server() -> Iterator[DevServer]:
    # Back-off a thousand times as fast: 12 ms, 148 ms, 1.8 s.
    with DevServer(time_scale=1000.0) as running:
        yield running


@pytest.fixture(scope="session")
def idle_server() -> Iterator[DevServer]:
    """For tests that publish nothing; starting a server takes a while."""
    with DevServer() as running:
        yield running
        assert running.published() == []


@contextmanager
def sdk_of(server: DevServer, token: str = "") -> Iterator[qstash.QStash]:
    """The official client; it has no way of its own to close its connections."""
    sdk = qstash.QStash(token or server.token, base_url=server.url, retry=False)
    try:
        yield sdk
    finally:
        sdk.http._client.close()


@pytest.fixture
def client(server: DevServer) -> Iterator[qstash.QStash]:
    with sdk_of(server) as sdk:
        yield sdk


@pytest.fixture
def http(server: DevServer) -> Iterator[httpx.Client]:
    with raw_client(server) as raw:
        yield raw


@pytest.fixture(scope="session")
def idle_http(idle_server: DevServer) -> Iterator[httpx.Client]:
    with raw_client(idle_server) as raw:
        yield raw


def raw_client(server: DevServer) -> httpx.Client:
    return httpx.Client(
        base_url=server.url,
        headers={"Authorization": f"Bearer {server.token}"},
        trust_env=False,
        verify=False,
        timeout=10,
    )
