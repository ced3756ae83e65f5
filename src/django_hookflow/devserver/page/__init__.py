"""The page for people at ``/``: three files as they are, and the state that the script asks for.

The public token stands in the page, so that nothing has to be typed on a developer's machine;
it is served under a name of this machine only, lest a foreign page reads it by giving its own
name the address 127.0.0.1. A token that is a secret is asked for.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from django_hookflow.devserver.addresses import is_loopback
from django_hookflow.devserver.clock import VirtualClock
from django_hookflow.devserver.config import DEFAULT_TOKEN
from django_hookflow.devserver.messages import Message, Phase
from django_hookflow.devserver.routing import Call, RawRoute
from django_hookflow.devserver.service import Service

__all__ = ["page_routes"]

_MOST_ROWS = 200
_KEPT_OF_BODY = 2_000
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
# What the log's entries show of an attempt.
_SHOWN = ("responseStatus", "responseBody", "error", "nextDeliveryTime")


def page_routes(service: Service) -> list[BaseRoute]:
    """The routes of the page."""
    return [
        Route("/", _index(service)),
        Route("/page.css", _file("page.css", "text/css")),
        Route("/page.js", _file("page.js", "text/javascript")),
        RawRoute("GET", r"/page/state", _state, service),
    ]


@functools.cache
def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return Response(_read(name), media_type=kind, headers=_HEADERS)

    return answer


def _index(service: Service) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        known = service.config.token == DEFAULT_TOKEN
        host = request.url.hostname or ""
        token = DEFAULT_TOKEN if known and is_loopback(host) else ""
        text = _read("index.html").replace("{{token}}", token)
        return Response(text, media_type="text/html", headers=_HEADERS)

    return answer


async def _state(call: Call) -> Response:
    service = call.service
    label, url = call.last("label").strip(), call.last("url").strip()

    def fits(message: Message) -> bool:
        return url in message.spec.url and (not label or label in message.spec.labels)

    fitting = (message for message in service.store.newest() if fits(message))
    messages = list(itertools.islice(fitting, _MOST_ROWS))
    logs = _logs(service, {message.id for message in messages})
    letters = service.store.dead_letters.snapshot()
    dead = [one for one in reversed(letters) if fits(one.message)][:_MOST_ROWS]
    lines = [queue.as_json() for queue in service.queues.all()]
    lines += [key.as_json() for key in service.flows.all()[:_MOST_ROWS]]
    return JSONResponse(
        {
            "now": int(service.clock.now() * 1000),
            "virtual": isinstance(service.clock, VirtualClock),
            "waiting": service.store.waiting,
            "dead": len(letters),
            "messages": [
                {**_row(message, logs[message.id]), "waitsFor": service.gates.holder(message)}
                for message in messages
            ],
            "deadLetters": [_short(letter.as_json()) for letter in dead],
            "schedules": [
                _short(schedule.as_json())
                for schedule in service.schedules.all()
                if url in schedule.request.destination
                and (not label or label in schedule.sample.labels)
            ],
            "lines": lines,
        }
    )


def _logs(service: Service, ids: set[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in service.events.snapshot():
        if event.facts["messageId"] in ids:
            details = {name: event.details[name] for name in _SHOWN if name in event.details}
            found[event.facts["messageId"]].append(
                _short({"time": event.time, "state": event.state.value, **details})
            )
    return found


def _row(message: Message, log: list[dict[str, Any]]) -> dict[str, Any]:
    is_over = message.phase is Phase.FINISHED
    waits = message.phase is Phase.WAITING and not message.cancel_requested
    made = message.retried + (message.phase is not Phase.WAITING)
    # Of a message older than the log, what it is now is all there is to tell.
    state = log[-1]["state"] if log else ("DELIVERED" if is_over else "CREATED")
    return {
        **message.facts(),
        "createdAt": int(message.spec.created_at * 1000),
        "isOver": is_over,
        "attempts": 0 if state == "CANCELED" and not message.retried else made,
        "next": int(message.due * 1000) if waits else None,
        "state": state,
        "log": log,
    }


def _short(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value[:_KEPT_OF_BODY] + "\u2026"
        if isinstance(value, str) and len(value) > _KEPT_OF_BODY
        else value
        for name, value in fields.items()
    }
