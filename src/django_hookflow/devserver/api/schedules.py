"""Schedules: create, look at, pause, resume, delete."""

from __future__ import annotations

from urllib.parse import unquote

from starlette.responses import JSONResponse, Response

from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.options import check_name
from django_hookflow.devserver.publishing import Request, read_destination
from django_hookflow.devserver.routing import Call, Endpoint

__all__ = ["SCHEDULE_ROUTES", "create_schedule"]

# What says how to schedule, not how to publish.
_OWN = ("upstash-cron", "upstash-schedule-id", "upstash-queue-name")


def create_schedule(call: Call, request: Request) -> Response:
    """Answer with the id of a new schedule for this request."""
    options = {name.lower(): value for name, value in request.headers}
    if options.get("upstash-not-before"):
        raise Refused(400, "invalid Upstash-Not-Before: a schedule has a cron instead")
    if not options.get("upstash-cron"):
        raise Refused(400, "Upstash-Cron is missing")
    queue = options.get("upstash-queue-name") or request.queue
    kept = tuple(pair for pair in request.headers if pair[0].lower() not in _OWN)
    scheduled = Request(
        destination=request.destination,
        headers=kept,
        body=request.body,
        caller_ip=request.caller_ip,
        queue=check_name("Upstash-Queue-Name", queue) if queue else None,
    )
    schedule_id = call.service.add_schedule(
        scheduled, options["upstash-cron"], options.get("upstash-schedule-id", "")
    )
    return JSONResponse({"scheduleId": schedule_id})


async def _create(call: Call) -> Response:
    destination, options = read_destination(call.path["destination"], call.raw_query)
    body = await call.body(call.service.config.max_body)
    request = Request(destination=destination, headers=(*options, *call.headers), body=body,
                      caller_ip=call.caller_ip)  # fmt: skip
    return create_schedule(call, request)


async def _list(call: Call) -> Response:
    return JSONResponse([schedule.as_json() for schedule in call.service.schedules.all()])


async def _get(call: Call) -> Response:
    return JSONResponse(call.service.schedules.get(_id(call)).as_json())


async def _delete(call: Call) -> Response:
    call.service.schedules.remove(_id(call))
    call.service.changed()
    return Response()


async def _switch(call: Call) -> Response:
    is_paused = call.path["action"] == "pause"
    call.service.schedules.pause(_id(call), is_paused, call.service.clock.now())
    call.service.changed()
    return Response()


async def _switch_or_create(call: Call) -> Response:
    # The name of a URL group may end like that; a schedule of that id is meant more likely.
    if call.service.schedules.find(_id(call)) is not None:
        return await _switch(call)
    destination = f"{call.path['id']}/{call.path['action']}"
    return await _create(call.with_path(destination=destination))


def _id(call: Call) -> str:
    return unquote(call.path["id"])


SCHEDULE_ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("PATCH", r"schedules/(?P<id>[^/]+)/(?P<action>pause|resume)", _switch),
    ("POST", r"schedules/(?P<id>[^/]+)/(?P<action>pause|resume)", _switch_or_create),
    ("POST", r"schedules/(?P<destination>.+)", _create),
    ("GET", r"schedules/?", _list),
    ("GET", r"schedules/(?P<id>[^/]+)", _get),
    ("DELETE", r"schedules/(?P<id>[^/]+)", _delete),
)
