"""Routes over the raw request target, and what every request must pass: origin, token, size.

A destination stands unescaped in the path, ``/v2/publish/https://host/a?b=c``, so no decoded
or tidied path will do.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.datastructures import URLPath
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from django_hookflow.devserver.addresses import is_private_name
from django_hookflow.devserver.answers import Refused, error_answer
from django_hookflow.devserver.config import DEFAULT_TOKEN
from django_hookflow.devserver.service import Service

__all__ = ["Call", "Endpoint", "RawRoute"]

# What is too large is still read up to this many bytes, because a client that is cut off
# while it sends often never sees the answer.
_DRAINED = 33_554_432


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authorised request."""

    service: Service
    request: Request
    path: Mapping[str, str]

    def with_path(self, **path: str) -> Call:
        """The same request with other parts of its path."""
        return Call(service=self.service, request=self.request, path=path)

    @property
    def raw_query(self) -> str:
        """The query string as it stood in the request line."""
        return str(self.request.scope["query_string"].decode("latin-1"))

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query parameters, decoded."""
        return parse_qsl(self.raw_query, keep_blank_values=True)

    def last(self, name: str) -> str:
        """The value of a query parameter, the last of several, or nothing."""
        return dict(self.query).get(name, "")

    @property
    def caller_ip(self) -> str:
        """Who asks."""
        return self.request.client.host if self.request.client else "127.0.0.1"

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers that may go into a message: all but our own token."""
        return [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self.request.headers.raw
            if not (name.lower() == b"authorization" and _is_bearer(value, self._token))
        ]

    async def body(self, limit: int) -> bytes:
        """The request's body; raises ``Refused`` (413) if it has more than ``limit`` bytes."""
        kept = bytearray()
        total = 0
        async for chunk in self.request.stream():
            total += len(chunk)
            if total <= limit:
                kept += chunk
            elif total > _DRAINED:
                break
        if total > limit:
            raise Refused(413, f"the body is larger than {limit} bytes")
        return bytes(kept)

    def authorise(self) -> None:
        """Raise ``Refused`` unless the request shows the token and comes from no foreign page.

        The public token would let any web page in the developer's browser send signed
        messages to local applications, so browsers' cross-site requests are turned away, and
        those that reach this machine by a public name: its owner can have given it our address.
        """
        config = self.service.config
        if config.token == DEFAULT_TOKEN and not is_private_name(self.request.url.hostname or ""):
            raise Refused(403, "with the public token, use localhost or an address as the host")
        if self.request.headers.get("sec-fetch-site", "none") == "cross-site":
            raise Refused(403, "requests from other web sites are refused")
        header = self.request.headers.get("authorization", "").encode("latin-1")
        given = [value for name, value in self.query if name == "qstash_token"]
        if not _is_bearer(header, self._token) and not any(
            hmac.compare_digest(value.encode(), self._token) for value in given
        ):
            raise Refused(401, "unauthorized: the token is missing or wrong")

    @property
    def _token(self) -> bytes:
        return self.service.config.token.encode()


Endpoint = Callable[[Call], Awaitable[Response]]


class RawRoute(BaseRoute):
    """A route that matches the undecoded path; named groups become ``Call.path``."""

    def __init__(self, method: str, pattern: str, endpoint: Endpoint, service: Service) -> None:
        self._method = method
        self._pattern = re.compile(pattern, re.DOTALL)
        self._endpoint = endpoint
        self._service = service

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        raw = scope.get("raw_path") or scope["path"].encode()
        found = self._pattern.fullmatch(raw.decode("latin-1"))
        if found is None:
            return Match.NONE, {}
        fits = scope["method"] == self._method
        return Match.FULL if fits else Match.PARTIAL, {"path_params": found.groupdict()}

    def url_path_for(self, name: str, /, **path_params: object) -> URLPath:
        raise NoMatchFound(name, dict(path_params))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        call = Call(service=self._service, request=request, path=scope["path_params"])
        try:
            response = await self._answer(call)
        except Refused as refused:
            response = error_answer(refused.status, refused.text)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, call: Call) -> Response:
        if call.request.method != self._method:
            raise Refused(405, f"{call.request.method} is not allowed here")
        call.authorise()
        return await self._endpoint(call)


def _is_bearer(header: bytes, token: bytes) -> bool:
    scheme, _, value = header.partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(value.strip(), token)
