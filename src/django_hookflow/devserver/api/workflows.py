"""Runs of ``upstash-workflow``: their steps, their end, their cancelling."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from starlette.responses import JSONResponse, Response

from django_hookflow.devserver.answers import Refused, parse_json
from django_hookflow.devserver.routing import Call, Endpoint
from django_hookflow.devserver.runs import Run

__all__ = ["WORKFLOW_ROUTES"]


async def _steps(call: Call) -> Response:
    return JSONResponse(call.service.runs.get(unquote(call.path["id"])).steps)


async def _end(call: Call) -> Response:
    run = call.service.runs.get(unquote(call.path["id"]))
    cancelled = call.last("cancel").lower() == "true"
    call.service.runs.end(run.id, "cancelled" if cancelled else "finished")
    call.service.changed()
    return JSONResponse({"cancelled": 1} if cancelled else {})


async def _cancel(call: Call) -> Response:
    body = await call.body(call.service.config.max_body)
    asked: Any = parse_json(body) if body.strip() else {}
    if not isinstance(asked, dict):
        raise Refused(400, "the body is an object")
    query = dict(call.query)
    ids = [one for name, value in call.query if name == "workflowRunIds"
           for one in value.split(",")]  # fmt: skip
    ids += asked.get("workflowRunIds") or []
    url = query.get("workflowUrl") or asked.get("workflowUrl") or ""
    exact = query.get("workflowUrlExactMatch", "").lower() == "true"
    if not ids and not url:
        raise Refused(400, "say which runs to cancel: workflowRunIds or workflowUrl")

    def fits(run: Run) -> bool:
        if ids and run.id not in ids:
            return False
        return run.url == url if exact else run.url.startswith(url)

    chosen = [run for run in call.service.runs.going() if fits(run)]
    for run in chosen:
        call.service.runs.end(run.id, "cancelled")
    call.service.changed()
    return JSONResponse({"cancelled": len(chosen)})


WORKFLOW_ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", r"workflows/runs/(?P<id>[^/]+)", _steps),
    ("DELETE", r"workflows/runs/(?P<id>[^/]+)", _end),
    ("DELETE", r"workflows/runs/?", _cancel),
)
