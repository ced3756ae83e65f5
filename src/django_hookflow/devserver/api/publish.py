"""Publishing: one message, one into a queue, a batch."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from starlette.responses import JSONResponse, Response

from django_hookflow.devserver.answers import Refused, parse_json
from django_hookflow.devserver.api.schedules import create_schedule
from django_hookflow.devserver.faults import PublishFault
from django_hookflow.devserver.options import check_name
from django_hookflow.devserver.publishing import Request, read_destination
from django_hookflow.devserver.routing import Call, Endpoint
from django_hookflow.devserver.service import Receipt

__all__ = ["PUBLISH_ROUTES"]

# A batch holds many messages, each of them no larger than the limit of one.
_BATCH_FACTOR = 16
_LARGEST_BATCH = 10_000


async def _publish(call: Call) -> Response:
    request = await read_request(call)
    options = {name.lower(): value for name, value in request.headers}
    # The old way to a schedule.
    if "upstash-cron" in options:
        return create_schedule(call, request)
    return _accept(call, request)


async def _enqueue(call: Call) -> Response:
    name = check_name("queue name", unquote(call.path["queue"]))
    return _accept(call, await read_request(call, queue=name))


async def read_request(call: Call, queue: str | None = None) -> Request:
    """The message that a request to a destination holds."""
    destination, options = read_destination(call.path["destination"], call.raw_query)
    body = await call.body(call.service.config.max_body)
    # The last of several wins, and a header is more deliberate than a URL's query.
    return Request(destination=destination, headers=(*options, *call.headers), body=body,
                   caller_ip=call.caller_ip, queue=queue)  # fmt: skip


def _accept(call: Call, request: Request) -> Response:
    fault = call.service.faults.take_publish_fault()
    _fail(fault, accepted=False)
    with call.service.accepting():
        receipts, is_group = call.service.publish(request)
    _fail(fault, accepted=True)
    duplicate = all(known for _, _, known in receipts)
    return JSONResponse(_answer(receipts, is_group), status_code=202 if duplicate else 200)


async def _batch(call: Call) -> Response:
    items = parse_json(await call.body(call.service.config.max_body * _BATCH_FACTOR))
    if not isinstance(items, list):
        raise Refused(400, "a batch is an array of messages")
    if len(items) > _LARGEST_BATCH:
        raise Refused(413, f"a batch has at most {_LARGEST_BATCH} messages")
    fault = call.service.faults.take_publish_fault()
    _fail(fault, accepted=False)
    with call.service.accepting():
        answers = [_publish_item(call, item) for item in items]
    _fail(fault, accepted=True)
    return JSONResponse(answers)


def _publish_item(call: Call, item: Any) -> Any:
    """Publish one message of a batch; a bad one must not stop the others."""
    try:
        request = _read_item(call, item)
        if len(request.body) > call.service.config.max_body:
            raise Refused(413, f"the body is larger than {call.service.config.max_body} bytes")
        return _answer(*call.service.publish(request))
    except Refused as refused:
        return {"error": refused.text}


def _read_item(call: Call, item: Any) -> Request:
    if not isinstance(item, dict) or not isinstance(item.get("destination"), str):
        raise Refused(400, "an item of a batch is an object with a destination")
    body, headers, queue = item.get("body"), item.get("headers") or {}, item.get("queue")
    if not isinstance(body, (str, type(None))):
        raise Refused(400, "the body of a batch's item is a string")
    if not isinstance(queue, (str, type(None))):
        raise Refused(400, "the queue of a batch's item is a string")
    if not isinstance(headers, dict) or not all(isinstance(v, str) for v in headers.values()):
        raise Refused(400, "the headers of a batch's item are an object of strings")
    path, _, query = item["destination"].partition("?")
    destination, options = read_destination(path, query)
    try:
        # Headers are kept as what their bytes look like in Latin-1.
        wire = [(name, value.encode().decode("latin-1")) for name, value in headers.items()]
        sent = (body or "").encode()
    except UnicodeEncodeError:
        raise Refused(400, "an item of a batch has characters that cannot be sent") from None
    return Request(
        destination=destination,
        headers=(*options, *wire),
        body=sent,
        caller_ip=call.caller_ip,
        queue=check_name("queue name", queue) if queue else None,
    )


def _answer(receipts: list[Receipt], is_group: bool) -> Any:
    items = [
        {
            "messageId": message_id,
            **({"url": url} if is_group else {}),
            **({"deduplicated": True} if known else {}),
        }
        for message_id, url, known in receipts
    ]
    return items if is_group else items[0]


def _fail(fault: PublishFault | None, *, accepted: bool) -> None:
    if fault is not None and fault.accepted == accepted:
        raise Refused(fault.status, "a fault that was asked for")


PUBLISH_ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("POST", r"publish/(?P<destination>.+)", _publish),
    ("POST", r"enqueue/(?P<queue>[^/]+)/(?P<destination>.+)", _enqueue),
    ("POST", r"batch/?", _batch),
)
