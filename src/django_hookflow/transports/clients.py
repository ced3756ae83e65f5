"""The SDK's HTTP seam with our own httpx clients behind it.

The SDK's APIs (``MessageApi``, ``SigningKeyApi`` …) make paths and ``Upstash-`` headers and
hand them to an object with one method, ``request``. Ours differs from the SDK's in three ways:

* its clients share one SSL context per process. The SDK builds one per client, which takes
  32 ms, and under WSGI every request needs a client of its own, because a client is bound to
  its event loop;
* it retries once and pauses 50 ms. The SDK's default blocks 32 s on a dead broker and sleeps
  even after its last attempt;
* an answer that is no success is raised with its status and headers. The SDK puts them into
  a text.

tests/transports/test_qstash.py pins it to the installed SDK.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from qstash.asyncio.http import AsyncHttpClient
from qstash.http import HttpClient, HttpMethod

from django_hookflow.core.addresses import is_loopback

__all__ = ["AsyncHttp", "Endpoint", "Http", "Refused", "ssl_context"]

ATTEMPTS = 2
PAUSE = 0.05
"""Seconds between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where QStash is, with which token, and for how long one try may wait (seconds)."""

    token: str = field(repr=False)
    base_url: str
    timeout: float

    def client_options(self) -> dict[str, Any]:
        """Arguments of an httpx client for this endpoint."""
        return {
            "verify": ssl_context(),
            # Half for connecting: a second attempt still fits when the first finds nobody.
            "timeout": httpx.Timeout(self.timeout, connect=self.timeout / 2),
            # A proxy of the environment is for the outside; the local server is not.
            "trust_env": not is_loopback(self.base_url),
        }

    def request_options(
        self, path: str, headers: dict[str, str] | None, token: str | None
    ) -> dict[str, Any]:
        """URL and headers of one request."""
        authorization = {"Authorization": token or f"Bearer {self.token}"}
        return {
            "url": self.base_url.rstrip("/") + path,
            "headers": {**authorization, **(headers or {})},
        }


class Refused(Exception):
    """QStash answered, and not with success."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"status {response.status_code}")
        self.status = response.status_code
        self.headers = response.headers
        self.text = response.text


class Http(HttpClient):
    """The SDK's sync seam; shared by the threads of a process."""

    def __init__(self, endpoint: Endpoint) -> None:
        # Not super().__init__(): it would build a client of its own.
        self._endpoint = endpoint
        self._client = httpx.Client(**endpoint.client_options())

    def request(
        self,
        *,
        path: str,
        method: HttpMethod,
        headers: dict[str, str] | None = None,
        body: str | bytes | None = None,
        params: dict[str, str] | None = None,
        parse_response: bool = True,
        base_url: str | None = None,
        token: str | None = None,
    ) -> Any:
        """Send one request of an API of the SDK."""
        options = self._endpoint.request_options(path, headers, token)
        attempt = 1
        while True:
            try:
                response = self._client.request(method, content=body, params=params, **options)
                return _parsed(response, parse_response)
            except httpx.TransportError:
                if attempt == ATTEMPTS:
                    raise
            attempt += 1
            time.sleep(PAUSE)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class AsyncHttp(AsyncHttpClient):
    """The SDK's async seam; bound to the loop it was first used on."""

    def __init__(self, endpoint: Endpoint) -> None:
        # Not super().__init__(): it would build a client of its own.
        self._endpoint = endpoint
        self._client = httpx.AsyncClient(**endpoint.client_options())

    async def request(
        self,
        *,
        path: str,
        method: HttpMethod,
        headers: dict[str, str] | None = None,
        body: str | bytes | None = None,
        params: dict[str, str] | None = None,
        parse_response: bool = True,
        base_url: str | None = None,
        token: str | None = None,
    ) -> Any:
        """Send one request of an API of the SDK."""
        options = self._endpoint.request_options(path, headers, token)
        attempt = 1
        while True:
            try:
                send = self._client.request(method, content=body, params=params, **options)
                return _parsed(await send, parse_response)
            except httpx.TransportError:
                if attempt == ATTEMPTS:
                    raise
            attempt += 1
            await asyncio.sleep(PAUSE)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _parsed(response: httpx.Response, parse: bool) -> Any:
    if not response.is_success:
        raise Refused(response)
    return response.json() if parse else response.text


class _Shared:
    lock = threading.Lock()
    context: ssl.SSLContext | None = None


def ssl_context() -> ssl.SSLContext:
    """The one SSL context of this process, with httpx's defaults."""
    with _Shared.lock:
        if _Shared.context is None:
            _Shared.context = httpx.create_ssl_context()
        return _Shared.context
