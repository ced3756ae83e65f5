"""One attempt to deliver one message: the signed request, and what came back."""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import urlsplit

import httpx

from django_hookflow.devserver.config import Config
from django_hookflow.devserver.messages import HeaderList, Message, new_id
from django_hookflow.transports.signing import sign

__all__ = ["Courier", "Outcome", "Parcel"]

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
    """Delivers through one long-lived HTTP client; create and close it inside the event loop."""

    def __init__(self, config: Config, signing_key: Callable[[], str]) -> None:
        self._config = config
        self._signing_key = signing_key
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            verify=_certificates(),
            # Answers are kept as they come; nobody here would unpack them.
            headers={
                "User-Agent": "Upstash-QStash",
                "Accept-Encoding": "identity",
                "Connection": "close",
            },
            # A destination's cookies must not come back with the next message.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # One connection per delivery: servers close idle ones after a few seconds, and a
            # message sent into that moment would fail for nothing and wait for its back-off.
            # It is also faster: 640 instead of 230 deliveries a second with 100 at a time,
            # because the pool looks through all its connections at every turn.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def attempt(self, message: Message, parcel: Parcel) -> Outcome:
        """Deliver once; every failure is an outcome, nothing but cancellation is raised."""
        seconds = min(message.spec.timeout or self._config.max_timeout, self._config.max_timeout)
        try:
            return await asyncio.wait_for(self._exchange(message, parcel, seconds), seconds)
        except (asyncio.TimeoutError, httpx.TimeoutException):
            problem = f"no answer within {seconds:g} s"
        except Exception as error:
            # Whatever a URL, a socket or a broken answer can raise ends this attempt only.
            problem = f"{type(error).__name__}: {error}"
        return Outcome(headers=httpx.Headers(), error=problem)

    async def _exchange(self, message: Message, parcel: Parcel, seconds: float) -> Outcome:
        request = self._client.build_request(
            message.spec.method,
            self._config.connect_url(message.spec.url),
            headers=self._headers(message, parcel),
            content=parcel.body,
            timeout=seconds,
        )
        response = await self._client.send(request, stream=True)
        try:
            body = await _beginning(response)
        finally:
            await response.aclose()
        delivered = 200 <= response.status_code < 300
        return Outcome(
            status=response.status_code,
            headers=response.headers,
            body=body,
            error=None if delivered else f"answered with status {response.status_code}",
        )

    def _headers(self, message: Message, parcel: Parcel) -> list[tuple[bytes, bytes]]:
        spec = message.spec
        headers = [
            # The destination's own name, also if a rewrite leads the connection elsewhere.
            ("Host", urlsplit(spec.url).netloc.rpartition("@")[2]),
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


@functools.cache
def _certificates() -> ssl.SSLContext:
    # Loading the authorities takes tens of milliseconds; servers in tests come and go.
    return httpx.create_ssl_context(trust_env=False)


async def _beginning(response: httpx.Response) -> bytes:
    """The first 64 KiB of the answer; the rest is read and dropped, so that it can end well."""
    kept = bytearray()
    async for chunk in response.aiter_raw():
        kept += chunk[: _KEPT_OF_ANSWER - len(kept)]
    return bytes(kept)
