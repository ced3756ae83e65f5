"""One attempt to deliver one message: the signed request, and what came back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from django_hookflow.devserver.config import Config
from django_hookflow.devserver.messages import HeaderList, Message, beginning, new_id
from django_hookflow.devserver.wire import exchange
from django_hookflow.transports.signing import sign

__all__ = ["Courier", "Outcome", "Parcel"]

# Of an answer that only the log and a dead letter will show; a callback brings more of it.
_KEPT_OF_ANSWER = 65_536
_REGION = "EU-CENTRAL-1"
_NON_RETRYABLE = 489


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The answer to an attempt; ``status`` is 0 and ``error`` says why if there was none."""

    status: int = 0
    headers: httpx.Headers
    body: bytes = b""
    error: str | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether the destination took the message."""
        return 200 <= self.status < 300

    @property
    def is_final(self) -> bool:
        """Whether the destination forbids further attempts; the status alone does not."""
        says_so = self.headers.get("Upstash-NonRetryable-Error", "").lower() == "true"
        return self.status == _NON_RETRYABLE and says_so


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What is sent: the body, and headers besides those that the publisher wanted forwarded."""

    body: bytes
    headers: HeaderList = ()


class Courier:
    """Delivers, each message on a connection of its own.

    Servers close idle connections after a few seconds, and a message sent into that moment would
    fail for nothing and wait for its back-off.
    """

    def __init__(self, config: Config, signing_key: Callable[[], str]) -> None:
        self._config = config
        self._signing_key = signing_key

    async def attempt(self, message: Message, parcel: Parcel) -> Outcome:
        """Deliver once; every failure is an outcome, nothing but cancellation is raised."""
        seconds = min(message.spec.timeout or self._config.max_timeout, self._config.max_timeout)
        try:
            return await asyncio.wait_for(self._exchange(message, parcel), seconds)
        except asyncio.TimeoutError:
            problem = f"no answer within {seconds:g} s"
        except Exception as error:
            # Whatever a URL, a socket or a broken answer can raise ends this attempt only.
            problem = f"{type(error).__name__}: {error}"
        return Outcome(headers=httpx.Headers(), error=problem)

    async def _exchange(self, message: Message, parcel: Parcel) -> Outcome:
        spec = message.spec
        is_told = spec.callback is not None or spec.failure_callback is not None
        most = self._config.max_body if is_told else _KEPT_OF_ANSWER
        status, headers, body = await exchange(
            spec.method,
            self._config.connect_url(spec.url),
            self._headers(message, parcel),
            parcel.body,
            # One more tells whether a character begins there.
            most + 1,
        )
        delivered = 200 <= status < 300
        return Outcome(
            status=status,
            headers=headers,
            body=beginning(body, most),
            error=None if delivered else f"answered with status {status}",
        )

    def _headers(self, message: Message, parcel: Parcel) -> list[tuple[bytes, bytes]]:
        spec = message.spec
        headers = [
            # The destination's own name, also if a rewrite leads the connection elsewhere.
            ("Host", urlsplit(spec.url).netloc.rpartition("@")[2]),
            ("User-Agent", "Upstash-QStash"),
            # Answers are kept as they come; nobody here would unpack them.
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
            *spec.headers,
            *parcel.headers,
            ("Upstash-Message-Id", message.id),
            ("Upstash-Retried", str(message.retried)),
            ("Upstash-Caller-Ip", spec.caller_ip),
            ("Upstash-Region", _REGION),
            ("Upstash-Signature", self._signature(message, parcel)),
        ]
        if spec.schedule_id is not None:
            headers.append(("Upstash-Schedule-Id", spec.schedule_id))
        if spec.group is not None:
            headers.append(("Upstash-Topic-Name", spec.group))
        if spec.content_type is not None:
            headers.append(("Content-Type", spec.content_type))
        return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]

    def _signature(self, message: Message, parcel: Parcel) -> str:
        return sign(
            key=self._signing_key(),
            url=message.spec.url,
            body=parcel.body,
            now=int(time.time()),
            jti=new_id("jwt_"),
        )
