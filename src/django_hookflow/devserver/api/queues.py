"""Queues and URL groups."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from starlette.responses import JSONResponse, Response

from django_hookflow.devserver.answers import Refused, parse_json
from django_hookflow.devserver.routing import Call, Endpoint

__all__ = ["GROUP_ROUTES", "QUEUE_ROUTES"]


async def _upsert_queue(call: Call) -> Response:
    asked = await _object(call)
    name = asked.get("queueName")
    if not isinstance(name, str):
        raise Refused(400, "queueName is missing")
    _set(call, name, asked.get("parallelism"), asked.get("paused"))
    return Response()


async def _list_queues(call: Call) -> Response:
    return JSONResponse([queue.as_json() for queue in call.service.queues.all()])


async def _get_queue(call: Call) -> Response:
    return JSONResponse(call.service.queues.get(_name(call)).as_json())


async def _delete_queue(call: Call) -> Response:
    call.service.delete_queue(_name(call))
    return Response()


async def _switch_queue(call: Call) -> Response:
    call.service.queues.get(_name(call))
    _set(call, _name(call), None, call.path["action"] == "pause")
    return Response()


def _set(call: Call, name: str, parallelism: object, paused: object) -> None:
    now = call.service.clock.now()
    queue = call.service.queues.upsert(name, parallelism, paused, now)
    call.service.gates.pump_queue(queue, now)
    call.service.changed()


async def _add_endpoints(call: Call) -> Response:
    asked = await _object(call)
    now = call.service.clock.now()
    call.service.groups.add_endpoints(_name(call), asked.get("endpoints"), now)
    call.service.changed()
    return Response()


async def _remove_endpoints(call: Call) -> Response:
    asked = await _object(call)
    now = call.service.clock.now()
    call.service.groups.remove_endpoints(_name(call), asked.get("endpoints"), now)
    call.service.changed()
    return Response()


async def _list_groups(call: Call) -> Response:
    return JSONResponse([group.as_json() for group in call.service.groups.all()])


async def _get_group(call: Call) -> Response:
    return JSONResponse(call.service.groups.get(_name(call)).as_json())


async def _delete_group(call: Call) -> Response:
    # Scripts delete first, to start from nothing: an unknown name is fine.
    call.service.groups.remove(_name(call))
    call.service.changed()
    return Response()


async def _set_headers(call: Call) -> Response:
    asked = await _object(call)
    call.service.groups.set_headers(_name(call), asked.get("headers"), call.service.clock.now())
    call.service.changed()
    return Response()


async def _object(call: Call) -> dict[str, Any]:
    value = parse_json(await call.body(call.service.config.max_body))
    if not isinstance(value, dict):
        raise Refused(400, "the body is an object")
    return value


def _name(call: Call) -> str:
    return unquote(call.path["name"])


QUEUE_ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("POST", r"queues/?", _upsert_queue),
    ("GET", r"queues/?", _list_queues),
    ("GET", r"queues/(?P<name>[^/]+)", _get_queue),
    ("DELETE", r"queues/(?P<name>[^/]+)", _delete_queue),
    ("POST", r"queues/(?P<name>[^/]+)/(?P<action>pause|resume)", _switch_queue),
)
GROUP_ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("POST", r"topics/(?P<name>[^/]+)/endpoints", _add_endpoints),
    ("DELETE", r"topics/(?P<name>[^/]+)/endpoints", _remove_endpoints),
    ("GET", r"topics/?", _list_groups),
    ("GET", r"topics/(?P<name>[^/]+)", _get_group),
    ("DELETE", r"topics/(?P<name>[^/]+)", _delete_group),
    ("PATCH", r"topics/(?P<name>[^/]+)", _set_headers),
)
