"""``ctx.step.call``: one HTTP request by httpx, its answer as a value.

One client per event loop (a client is bound to its loop) and one SSL context per process
(building one costs about 30 ms).
"""

from __future__ import annotations

import asyncio
import ssl
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, Union

import httpx

from django_hookflow.core.durations import parse_retry_after
from django_hookflow.exceptions import HookflowError

#: Answers that may be different the next time; everything else from 400 up fails at once.
TRANSIENT = frozenset({408, 425, 429})

#: Never journaled: they are credentials.
SECRET_HEADERS = frozenset({"set-cookie", "www-authenticate", "proxy-authenticate"})


class CallResponse:
    """The answer to a call: ``status_code``, ``headers`` (lower-case names), ``data``.

    ``data`` is the parsed body if it is JSON, else its text. The three are attributes and
    items: ``response.data`` is ``response["data"]``.
    """

    __slots__ = ("data", "headers", "status_code")

    def __init__(self, *, status_code: int, headers: Mapping[str, str], data: Any) -> None:
        self.status_code = status_code
        self.headers = dict(headers)
        self.data = data

    def __getitem__(self, name: str) -> Any:
        if name not in self.__slots__:
            raise KeyError(name)
        return getattr(self, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CallResponse) and self.to_plain() == other.to_plain()

    __hash__ = None  # type: ignore[assignment]  # it holds a dict

    def __repr__(self) -> str:
        return f"<CallResponse [{self.status_code}]>"

    def to_plain(self) -> dict[str, Any]:
        """The stored form."""
        return {"status_code": self.status_code, "headers": self.headers, "data": self.data}

    @classmethod
    def from_plain(cls, stored: Mapping[str, Any]) -> CallResponse:
        """The inverse of :meth:`to_plain`."""
        return cls(
            status_code=stored["status_code"], headers=stored["headers"], data=stored["data"]
        )


class CallError(HookflowError):
    """An attempt got no answer (``response`` is ``None``) or one that is an error.

    ``retry_after`` is what the answer asked for, in seconds; ``final`` tells that trying
    again cannot help.
    """

    def __init__(
        self,
        message: str,
        *,
        response: CallResponse | None = None,
        retry_after: float | None = None,
        final: bool = False,
    ) -> None:
        super().__init__(message)
        self.response = response
        self.retry_after = retry_after
        self.final = final


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """What to request. ``timeout`` is seconds; ``body`` as given to ``ctx.step.call``."""

    method: str
    url: str
    body: Any
    headers: dict[str, str]
    params: Any
    timeout: float
    idempotency_key: Union[str, bool, None]
    raise_for_status: bool


@lru_cache(maxsize=1024)  # a replay asks for each call again
def origin(url: str) -> str:
    """Scheme and host: what identifies a call; paths may carry ids that differ in a loop."""
    parsed = httpx.URL(url)
    port = "" if parsed.port is None else f":{parsed.port}"
    return f"{parsed.scheme}://{parsed.host}{port}"


def shown(url: str) -> str:
    """The URL for people and logs: user, password and query may be credentials."""
    return origin(url) + httpx.URL(url).path


class CallClients:
    """The httpx clients of this process, one per running event loop."""

    def __init__(self) -> None:
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            weakref.WeakKeyDictionary()
        )

    def current(self) -> httpx.AsyncClient:
        """The running loop's client."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = httpx.AsyncClient(verify=_ssl_context())
        return client

    async def aclose(self) -> None:
        """Close the running loop's client, if there is one: its loop is about to end."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()


@lru_cache(maxsize=1)
def _ssl_context() -> ssl.SSLContext:
    return httpx.create_ssl_context()


async def perform(call: HttpCall, client: httpx.AsyncClient, idempotency_key: str) -> CallResponse:
    """Send the request once; raises :class:`CallError` for no answer or a bad one."""
    try:
        response = await client.request(
            call.method,
            call.url,
            params=call.params,
            headers=_headers(call, idempotency_key),
            timeout=call.timeout,
            **_body(call.body),
        )
    except httpx.HTTPError as error:
        raise CallError(
            f"{call.method} {shown(call.url)}: {type(error).__name__}: {error}".rstrip(": ")
        ) from error
    return _judge(call, response)


def _headers(call: HttpCall, idempotency_key: str) -> dict[str, str]:
    headers = dict(call.headers)
    given = any(name.lower() == "idempotency-key" for name in headers)
    if call.idempotency_key is not False and not given:
        chosen = call.idempotency_key
        headers["Idempotency-Key"] = chosen if isinstance(chosen, str) else idempotency_key
    return headers


def _body(body: Any) -> dict[str, Any]:
    if body is None:
        return {}
    return {"content": body} if isinstance(body, (str, bytes)) else {"json": body}


def _judge(call: HttpCall, response: httpx.Response) -> CallResponse:
    status = response.status_code
    answer = CallResponse(
        status_code=status,
        headers={
            name.lower(): value
            for name, value in response.headers.items()
            if name.lower() not in SECRET_HEADERS
        },
        data=_data(response),
    )
    transient = status in TRANSIENT or status >= 500
    if status < 400 or not (transient or call.raise_for_status):
        return answer
    raise CallError(
        f"{call.method} {shown(call.url)} answered {status}",
        response=answer,
        retry_after=_retry_after(response) if transient else None,
        final=not transient,
    )


def _data(response: httpx.Response) -> Any:
    if "json" in response.headers.get("content-type", ""):
        try:
            return response.json()
        except (ValueError, RecursionError):
            pass  # mislabelled, or nested without end: the text is the best that can be had
    return response.text


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after")
    return None if value is None else parse_retry_after(value, datetime.now(timezone.utc))
