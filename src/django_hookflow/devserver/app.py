"""The HTTP API: one small function per endpoint, and the table that leads to them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from django_hookflow.devserver.answers import Refused, error_answer, parse_json
from django_hookflow.devserver.config import Config
from django_hookflow.devserver.dlq import DLQ_ROUTES
from django_hookflow.devserver.faults import PublishFault
from django_hookflow.devserver.filters import (
    read_count,
    read_filters,
    read_number,
    read_order,
)
from django_hookflow.devserver.publishing import read_destination, read_spec
from django_hookflow.devserver.routing import Call, Endpoint, RawRoute
from django_hookflow.devserver.service import Service

__all__ = ["create_app"]

# A batch holds many messages, each of them no larger than the limit of one.
_BATCH_FACTOR = 16
_MOST_EVENTS = 1_000
_MOST_LOGS = 100


def create_app(config: Config | None = None, *, service: Service | None = None) -> Starlette:
    """The server as an ASGI application that delivers while its lifespan lasts.

    Give ``service`` to keep hold of what is behind it; ``config`` is ignored then.
    """
    behind = service or Service(config or Config())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await behind.start()
        try:
            yield
        finally:
            await behind.stop()

    app = Starlette(
        routes=[
            RawRoute(method, rf"/v2/{pattern}", endpoint, behind)
            for method, pattern, endpoint in _ROUTES
        ],
        exception_handlers={HTTPException: _not_offered, Exception: _broken},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


async def _not_offered(request: Request, error: Exception) -> Response:
    text = f"this server does not offer {request.method} {request.url.path}"
    return error_answer(404, text)


async def _broken(request: Request, error: Exception) -> Response:
    return error_answer(500, f"the server failed: {type(error).__name__}")


async def _publish(call: Call) -> Response:
    destination, options = read_destination(call.path["destination"], call.raw_query)
    body = await call.body(call.service.config.max_body)
    # The last of several wins, and a header is more deliberate than a URL's query.
    headers = [*options, *call.headers]
    spec = read_spec(destination, headers, body, caller_ip=call.caller_ip, now=time.time())
    fault = call.service.faults.take_publish_fault()
    _fail(fault, accepted=False)
    with call.service.accepting():
        message_id, duplicate = call.service.publish(spec)
    _fail(fault, accepted=True)
    return JSONResponse(_receipt(message_id, duplicate), status_code=202 if duplicate else 200)


async def _batch(call: Call) -> Response:
    items = parse_json(await call.body(call.service.config.max_body * _BATCH_FACTOR))
    if not isinstance(items, list):
        raise Refused(400, "a batch is an array of messages")
    fault = call.service.faults.take_publish_fault()
    _fail(fault, accepted=False)
    with call.service.accepting():
        answers = [_publish_item(call, item) for item in items]
    _fail(fault, accepted=True)
    return JSONResponse(answers)


def _publish_item(call: Call, item: Any) -> dict[str, Any]:
    """Publish one message of a batch; a bad one must not stop the others."""
    try:
        destination, body, headers = _read_item(item)
        if len(body) > call.service.config.max_body:
            raise Refused(413, f"the body is larger than {call.service.config.max_body} bytes")
        path, _, query = destination.partition("?")
        url, options = read_destination(path, query)
        spec = read_spec(url, [*options, *headers], body, caller_ip=call.caller_ip, now=time.time())
        return _receipt(*call.service.publish(spec))
    except Refused as refused:
        return {"error": refused.text}


def _read_item(item: Any) -> tuple[str, bytes, list[tuple[str, str]]]:
    if not isinstance(item, dict) or not isinstance(item.get("destination"), str):
        raise Refused(400, "an item of a batch is an object with a destination")
    if item.get("queue") is not None:
        raise Refused(400, "queues are not offered by this server")
    body, headers = item.get("body"), item.get("headers") or {}
    if not isinstance(body, (str, type(None))):
        raise Refused(400, "the body of a batch's item is a string")
    if not isinstance(headers, dict) or not all(isinstance(v, str) for v in headers.values()):
        raise Refused(400, "the headers of a batch's item are an object of strings")
    try:
        # Headers are kept as what their bytes look like in Latin-1.
        wire = [(name, value.encode().decode("latin-1")) for name, value in headers.items()]
        return item["destination"], (body or "").encode(), wire
    except UnicodeEncodeError:
        raise Refused(400, "an item of a batch has characters that cannot be sent") from None


def _receipt(message_id: str, duplicate: bool) -> dict[str, Any]:
    return {"messageId": message_id, **({"deduplicated": True} if duplicate else {})}


def _fail(fault: PublishFault | None, *, accepted: bool) -> None:
    if fault is not None and fault.accepted == accepted:
        raise Refused(fault.status, "a fault that was asked for")


async def _get_message(call: Call) -> Response:
    message = call.service.store.get(unquote(call.path["id"]))
    if message is None:
        raise Refused(404, "message not found")
    return JSONResponse(message.as_json())


async def _cancel_message(call: Call) -> Response:
    return JSONResponse({"cancelled": call.service.cancel(unquote(call.path["id"]))})


async def _cancel_messages(call: Call) -> Response:
    body = await call.body(call.service.config.max_body)
    asked = parse_json(body) if body.strip() else {}
    ids = asked.get("messageIds") or [] if isinstance(asked, dict) else None
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise Refused(400, "the body is an object with a list of messageIds")
    # An empty list has always meant "all of them", and SDKs send it.
    filters = read_filters([*call.query, *(("messageIds", one) for one in ids)], strict=True)
    most = call.last("count")
    count = call.service.cancel_matching(filters, read_number("count", most) if most else None)
    return JSONResponse({"cancelled": count})


async def _list_events(call: Call) -> Response:
    return _events_page(call, "events", _MOST_EVENTS)


async def _list_logs(call: Call) -> Response:
    return _events_page(call, "logs", _MOST_LOGS)


def _events_page(call: Call, name: str, most: int) -> Response:
    cursor = call.last("cursor")
    page, following = call.service.events.page(
        read_filters(call.query),
        count=read_count(call.last("count"), most),
        cursor=read_number("cursor", cursor) if cursor else None,
        newest_first=read_order(call.last("order"), newest_first=True),
    )
    answer: dict[str, Any] = {name: [event.as_json() for event in page]}
    # Clients go on until there is no cursor; an empty one would not stop them.
    if following is not None:
        answer["cursor"] = str(following)
    return JSONResponse(answer)


async def _get_keys(call: Call) -> Response:
    return JSONResponse({"current": call.service.current_key, "next": call.service.next_key})


async def _rotate_keys(call: Call) -> Response:
    call.service.rotate_keys()
    return await _get_keys(call)


# Trailing slashes are tolerated on collections, because official examples have them.
_ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("POST", r"publish/(?P<destination>.+)", _publish),
    ("POST", r"batch/?", _batch),
    ("GET", r"messages/(?P<id>[^/]+)", _get_message),
    ("DELETE", r"messages/(?P<id>[^/]+)", _cancel_message),
    ("DELETE", r"messages/?", _cancel_messages),
    ("GET", r"events/?", _list_events),
    ("GET", r"logs/?", _list_logs),
    ("GET", r"keys/?", _get_keys),
    ("POST", r"keys/rotate/?", _rotate_keys),
    *DLQ_ROUTES,
)
