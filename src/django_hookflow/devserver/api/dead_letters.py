"""The dead-letter queue: list, look at one, delete or retry one or many."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from starlette.responses import JSONResponse, Response

from django_hookflow.devserver.answers import Refused, parse_json
from django_hookflow.devserver.filters import (
    Filters,
    read_count,
    read_filters,
    read_number,
    read_order,
)
from django_hookflow.devserver.routing import Call, Endpoint
from django_hookflow.devserver.service import Receipt

__all__ = ["DLQ_ROUTES"]

_MOST = 100


async def _list(call: Call) -> Response:
    page, following = call.service.store.dead_letters.page(
        read_filters(call.query, dead=True),
        count=read_count(call.last("count"), _MOST),
        cursor=call.last("cursor"),
        newest_first=read_order(call.last("order"), newest_first=False),
    )
    return JSONResponse(_with_cursor({"messages": [one.as_json() for one in page]}, following))


async def _get(call: Call) -> Response:
    letter = call.service.store.dead_letters.get(unquote(call.path["id"]))
    if letter is None:
        raise Refused(404, "dlq message not found")
    return JSONResponse(letter.as_json())


async def _delete(call: Call) -> Response:
    if not call.service.remove_dead_letters([unquote(call.path["id"])]):
        raise Refused(404, "dlq message not found")
    return JSONResponse({"deleted": 1})


async def _delete_many(call: Call) -> Response:
    ids = _ids(await call.body(call.service.config.max_body))
    if ids is not None and not ids:
        # A list that came out empty means nothing here: what is deleted does not come back.
        return JSONResponse({"deleted": 0})
    asked = [*call.query, *(("dlqIds", one) for one in ids or ())]
    filters = read_filters(asked, strict=True, dead=True)
    if filters.is_empty:
        raise Refused(400, "say which dead letters to delete: dlqIds, or a filter")
    chosen, following = _choose(call, filters)
    deleted = call.service.remove_dead_letters(chosen)
    return JSONResponse(_with_cursor({"deleted": deleted}, following))


async def _retry(call: Call) -> Response:
    letter = call.service.store.dead_letters.get(unquote(call.path["id"]))
    if letter is None:
        raise Refused(404, "dlq message not found")
    (result,) = call.service.retry_dead_letters([letter], tuple(call.headers))
    if isinstance(result, Refused):
        raise result
    # A duplicate is answered as a publish of one is; its letter is still there.
    return JSONResponse(_result(result), status_code=202 if result[2] else 201)


async def _retry_many(call: Call) -> Response:
    ids = _ids(await call.body(call.service.config.max_body))
    asked = [*call.query, *(("dlqIds", one) for one in ids or ())]
    filters = read_filters(asked, strict=True, dead=True)
    if filters.is_empty:
        raise Refused(400, "say which dead letters to retry: dlqIds, or a filter")
    page, following = call.service.store.dead_letters.page(
        filters,
        count=read_count(call.last("count"), _MOST),
        cursor=call.last("cursor"),
        newest_first=False,
    )
    results = call.service.retry_dead_letters(page, tuple(call.headers))
    answer = {"responses": [_result(result) for result in results]}
    return JSONResponse(_with_cursor(answer, following), status_code=201)


def _result(result: Receipt | Refused) -> dict[str, Any]:
    if isinstance(result, Refused):
        return {"error": result.text}
    message_id, _, known = result
    return {"messageId": message_id, **({"deduplicated": True} if known else {})}


def _choose(call: Call, filters: Filters) -> tuple[list[str], str | None]:
    """Ids of all that fit, or of as many as ``count`` says, and where the rest begins."""
    letters = call.service.store.dead_letters
    count = call.last("count")
    page, following = letters.page(
        filters,
        count=max(1, read_number("count", count) if count else len(letters.snapshot())),
        cursor=call.last("cursor"),
        newest_first=False,
    )
    return [letter.id for letter in page], following


def _ids(body: bytes) -> list[str] | None:
    if not body.strip():
        return None
    asked = parse_json(body)
    ids = asked.get("dlqIds") if isinstance(asked, dict) else None
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise Refused(400, "the body is an object with a list of dlqIds")
    return ids


def _with_cursor(answer: dict[str, Any], cursor: str | None) -> dict[str, Any]:
    # Clients go on until there is no cursor; an empty one would not stop them.
    return answer if cursor is None else {**answer, "cursor": cursor}


DLQ_ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", r"dlq/?", _list),
    ("GET", r"dlq/(?P<id>[^/]+)", _get),
    ("POST", r"dlq/retry/(?P<id>[^/]+)", _retry),
    ("POST", r"dlq/retry/?", _retry_many),
    ("DELETE", r"dlq/(?P<id>[^/]+)", _delete),
    ("DELETE", r"dlq/?", _delete_many),
)
