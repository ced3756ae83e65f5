"""Messages that are there, the log of what happened to them, and the signing keys."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from starlette.responses import JSONResponse, Response

from django_hookflow.devserver.answers import Refused, parse_json
from django_hookflow.devserver.filters import (
    read_count,
    read_filters,
    read_number,
    read_order,
)
from django_hookflow.devserver.routing import Call, Endpoint

__all__ = ["MESSAGE_ROUTES"]

_MOST_EVENTS = 1_000
_MOST_LOGS = 100


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
    # A misspelt key must not mean "everything", which is what no key at all means.
    is_known = isinstance(asked, dict) and set(asked) <= {"messageIds"}
    ids = asked.get("messageIds") or [] if is_known else None
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise Refused(400, "the body is an object with a list of messageIds, and nothing else")
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
    return JSONResponse({"current": call.service.keys.current, "next": call.service.keys.next})


async def _rotate_keys(call: Call) -> Response:
    call.service.keys.rotate()
    call.service.changed()
    return await _get_keys(call)


# Trailing slashes are tolerated on collections, because official examples have them.
MESSAGE_ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", r"messages/(?P<id>[^/]+)", _get_message),
    ("DELETE", r"messages/(?P<id>[^/]+)", _cancel_message),
    ("DELETE", r"messages/?", _cancel_messages),
    ("GET", r"events/?", _list_events),
    ("GET", r"logs/?", _list_logs),
    ("GET", r"keys/?", _get_keys),
    ("POST", r"keys/rotate/?", _rotate_keys),
)
