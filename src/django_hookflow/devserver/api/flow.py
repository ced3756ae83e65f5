"""Flow control: look at keys, pause, pin, reset."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from starlette.responses import JSONResponse, Response

from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.flow import FlowKey
from django_hookflow.devserver.options import flow_limit
from django_hookflow.devserver.routing import Call, Endpoint

__all__ = ["FLOW_ROUTES"]


async def _list(call: Call) -> Response:
    part = call.last("search")
    keys = [key for key in call.service.flows.all() if part in key.name]
    return JSONResponse([_shown(call, key) for key in keys])


async def _get(call: Call) -> Response:
    return JSONResponse(_shown(call, _known(call)))


def _shown(call: Call, key: FlowKey) -> dict[str, object]:
    key.roll(call.service.clock.now())
    return key.as_json()


async def _pause(call: Call) -> Response:
    return _change(call, lambda key: setattr(key, "is_paused", True))


async def _resume(call: Call) -> Response:
    return _change(call, lambda key: setattr(key, "is_paused", False))


async def _pin(call: Call) -> Response:
    asked = dict(call.query)
    limits = {
        name: flow_limit(name, asked[name])
        for name in ("parallelism", "rate", "period")
        if name in asked
    }

    def pin(key: FlowKey) -> None:
        if "parallelism" in limits:
            key.parallelism, key.pinned_parallelism = limits["parallelism"], True
        if "rate" in limits or "period" in limits:
            key.rate = limits.get("rate", key.rate)
            key.period = limits.get("period", key.period)
            key.pinned_rate = True
            key.reset(call.service.clock.now())

    # A key can be pinned before the first message comes.
    call.service.flows.make(_key(call), call.service.clock.now())
    return _change(call, pin)


async def _unpin(call: Call) -> Response:
    asked = {name for name, value in call.query if value.lower() in ("true", "1")}

    def unpin(key: FlowKey) -> None:
        # The values stay until the next message brings others.
        key.pinned_parallelism = key.pinned_parallelism and "parallelism" not in asked
        key.pinned_rate = key.pinned_rate and "rate" not in asked

    return _change(call, unpin)


async def _reset(call: Call) -> Response:
    return _change(call, lambda key: key.reset(call.service.clock.now()))


async def _global(call: Call) -> Response:
    return JSONResponse(
        {
            "parallelismMax": call.service.config.concurrency,
            "parallelismCount": call.service.dispatcher.in_flight,
        }
    )


def _change(call: Call, change: Callable[[FlowKey], object]) -> Response:
    change(_known(call))
    call.service.flow_changed(_key(call))
    return Response()


def _known(call: Call) -> FlowKey:
    key = call.service.flows.get(_key(call))
    if key is None:
        raise Refused(404, f"flow control key {_key(call)[:40]} not found")
    return key


def _key(call: Call) -> str:
    return unquote(call.path["key"])


FLOW_ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", r"flowControl/?", _list),
    ("GET", r"flowControl/(?P<key>[^/]+)", _get),
    ("POST", r"flowControl/(?P<key>[^/]+)/pause", _pause),
    ("POST", r"flowControl/(?P<key>[^/]+)/resume", _resume),
    ("POST", r"flowControl/(?P<key>[^/]+)/pin", _pin),
    ("POST", r"flowControl/(?P<key>[^/]+)/unpin", _unpin),
    ("POST", r"flowControl/(?P<key>[^/]+)/reset(?:Rate)?", _reset),
    ("GET", r"globalParallelism/?", _global),
)
