"""Running the server: on a socket of its own, in the foreground or in a thread for tests.

Longer than other modules: what a test can ask of the server stands in one class.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import uvicorn

from django_hookflow.devserver.addresses import is_loopback
from django_hookflow.devserver.app import create_app
from django_hookflow.devserver.attempts import Delivery
from django_hookflow.devserver.clock import VirtualClock
from django_hookflow.devserver.config import (
    DEFAULT_CURRENT_KEY,
    DEFAULT_NEXT_KEY,
    DEFAULT_TOKEN,
    Config,
    parse_rewrite,
)
from django_hookflow.devserver.dead_letters import DeadLetter
from django_hookflow.devserver.events import Event
from django_hookflow.devserver.faults import PlannedAnswer, PublishFault
from django_hookflow.devserver.service import Published, Service

__all__ = ["DevServer", "bind", "serve", "url_of"]

# Enough to start on a busy machine, and to end when a delivery is stuck (seconds).
_PATIENCE = 10.0
_HEADER_BYTES = 131_072


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises ``OSError``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=1_024)
    # asyncio does so only for sockets that name their protocol, and the ones that come of this
    # do not: every answer on a kept connection would wait 40 ms for an acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket) -> str:
    """The base URL that clients of this machine use for the socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(service: Service, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve in this thread until SIGINT or SIGTERM; ``ready`` is called once it listens."""
    service.address = listener.getsockname()[:2]
    asyncio.run(_uvicorn(service, ready).serve(sockets=[listener]))


class DevServer:
    """The server in a thread, for tests: ``with DevServer() as server: server.url``.

    ``rewrite`` maps URLs under which the application is known to where it listens;
    ``time_scale`` shortens the back-off between redeliveries, never a message's delay nor what
    a destination asks for by ``Retry-After``. ``db`` is a file that keeps messages, log and dead
    letters for the next server on it; without one they are in memory.
    With ``virtual_time`` its clock stands still until ``advance`` is called; it begins at the
    Unix time given, or now. How long a destination may take stays real, and so do the times in
    signatures, which are checked by clocks that go.
    Everything here may be called from any thread while the server runs.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str = DEFAULT_TOKEN,
        current_key: str = DEFAULT_CURRENT_KEY,
        next_key: str = DEFAULT_NEXT_KEY,
        rewrite: Mapping[str, str] | None = None,
        time_scale: float = 1.0,
        db: str | os.PathLike[str] | None = None,
        virtual_time: bool | float = False,
        config: Config | None = None,
    ) -> None:
        """Prepare a server; ``config`` replaces the settings from ``token`` to ``db``.

        Raises ``ValueError`` for useless settings, and for a ``host`` beyond this machine with
        a token or keys that everybody knows.
        """
        rules = (rewrite or {}).items()
        # A number is the Unix time at which it begins; True is one too, and not meant.
        begin = time.time() if isinstance(virtual_time, bool) else virtual_time
        self._clock = VirtualClock(begin) if virtual_time is not False else None
        config = config or Config(
            token=token,
            current_key=current_key,
            next_key=next_key,
            time_scale=time_scale,
            db=None if db is None else Path(db),
            rewrites=tuple(parse_rewrite(f"{source}={target}") for source, target in rules),
        )
        if config.is_public and not is_loopback(host):
            raise ValueError(
                f"others can reach {host!r}, and everybody knows the default token and keys: "
                "set token, current_key and next_key to secrets of your own, or use 127.0.0.1"
            )
        self._service = Service(config, self._clock)
        self._address = (host, port)
        self._ready = threading.Event()
        self._server = _uvicorn(self._service, self._ready.set)
        self.url = ""

    def __enter__(self) -> DevServer:
        """Start it. Raises ``StoreError`` if the file cannot be used, ``OSError`` for the port."""
        listener = bind(*self._address)
        try:
            self._service.open()
        except BaseException:
            listener.close()
            raise
        self.url = url_of(listener)
        self._service.address = listener.getsockname()[:2]
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listener)),
            name="hookflow-devserver",
            daemon=True,
        )
        self._thread.start()
        if not self._ready.wait(_PATIENCE):
            raise RuntimeError(f"the server did not start within {_PATIENCE:g} s")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join(_PATIENCE)

    async def _serve(self, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[listener])

    @property
    def now(self) -> float:
        """The server's time in Unix seconds."""
        return self._service.clock.now()

    def advance(self, seconds: float = 0.0, *, patience: float = 30.0) -> None:
        """Let virtual time pass, and return when all that was due on the way has happened.

        Each delivery happens at its own time, and what it brings about (retries, callbacks,
        messages that the destination publishes) is waited for before time goes on. Raises
        ``TimeoutError`` after ``patience`` real seconds, ``RuntimeError`` without virtual time.
        """
        if self._clock is None:
            raise RuntimeError("time can be advanced on DevServer(virtual_time=True) only")
        if not 0 <= seconds < math.inf:
            raise ValueError(f"time goes forward, not by {seconds}")
        passing = self._service.dispatcher.advance(self._clock, seconds)
        future = asyncio.run_coroutine_threadsafe(passing, self._loop)
        try:
            future.result(patience)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise TimeoutError(f"deliveries were still under way after {patience:g} s") from None

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables by which SDKs and applications find the server."""
        return {
            "QSTASH_URL": self.url,
            "QSTASH_TOKEN": self.token,
            "QSTASH_CURRENT_SIGNING_KEY": self.current_key,
            "QSTASH_NEXT_SIGNING_KEY": self.next_key,
        }

    @property
    def token(self) -> str:
        """The token that clients must show."""
        return self._service.config.token

    @property
    def current_key(self) -> str:
        """The key that signs deliveries now."""
        return self._service.keys.current

    @property
    def next_key(self) -> str:
        """The key that will sign after the next rotation."""
        return self._service.keys.next

    def published(self) -> list[Published]:
        """The last accepted messages, oldest first, duplicates and dropped ones included."""
        return self._service.published.snapshot()

    def deliveries(self) -> list[Delivery]:
        """The last finished delivery attempts, in the order in which they ended."""
        return self._service.dispatcher.deliveries.snapshot()

    def events(self) -> list[Event]:
        """The last log entries, oldest first."""
        return self._service.events.snapshot()

    def dead_letters(self) -> list[DeadLetter]:
        """The messages that were given up, oldest first."""
        return self._service.store.dead_letters.snapshot()

    def wait_for(self, condition: Callable[[], object], *, timeout: float = 5.0) -> None:
        """Wait until ``condition()`` is true; raises ``TimeoutError`` after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"nothing of the kind happened within {timeout:g} s")
            time.sleep(0.005)

    def drop_next(self, count: int = 1) -> None:
        """Lose the next ``count`` messages: accepted, never delivered."""
        self._service.faults.drop(count)

    def duplicate_next(self, count: int = 1) -> None:
        """Deliver each of the next ``count`` messages twice at the same time.

        The answer to the second delivery counts for nothing.
        """
        self._service.faults.duplicate(count)

    def answer_next(
        self,
        count: int = 1,
        status: int = 500,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        """Let the next ``count`` attempts get this answer, without asking their destination.

        ``status`` 0 is a connection that broke.
        """
        answer = PlannedAnswer(status=status, headers=dict(headers or {}), body=body)
        self._service.faults.answer(count, answer)

    def fail_publish_next(
        self, count: int = 1, status: int = 500, *, accepted: bool = False
    ) -> None:
        """Answer the next ``count`` publish or batch requests with ``status``.

        With ``accepted`` the messages are taken nevertheless, as when an answer gets lost.
        """
        fault = PublishFault(status=status, accepted=accepted)
        self._service.faults.fail_publish(count, fault)


class _Uvicorn(uvicorn.Server):
    """A uvicorn that says when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._announce()


def _uvicorn(service: Service, ready: Callable[[], None]) -> _Uvicorn:
    config = uvicorn.Config(
        create_app(service=service),
        # One implementation everywhere, whatever else is installed: raw targets and header
        # limits differ between them.
        http="h11",
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,
    )
    return _Uvicorn(config, ready)
