"""The HTTP API as an ASGI application, with the table that leads to its endpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from django_hookflow.devserver.answers import error_answer
from django_hookflow.devserver.api.dead_letters import DLQ_ROUTES
from django_hookflow.devserver.api.flow import FLOW_ROUTES
from django_hookflow.devserver.api.messages import MESSAGE_ROUTES
from django_hookflow.devserver.api.publish import PUBLISH_ROUTES
from django_hookflow.devserver.api.queues import GROUP_ROUTES, QUEUE_ROUTES
from django_hookflow.devserver.api.schedules import SCHEDULE_ROUTES
from django_hookflow.devserver.api.workflows import WORKFLOW_ROUTES
from django_hookflow.devserver.config import Config
from django_hookflow.devserver.page import page_routes
from django_hookflow.devserver.routing import Endpoint, RawRoute
from django_hookflow.devserver.service import Service

__all__ = ["create_app"]


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
        ]
        + page_routes(behind),
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


# Trailing slashes are tolerated on collections, because official examples have them.
_ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    *PUBLISH_ROUTES,
    *MESSAGE_ROUTES,
    *QUEUE_ROUTES,
    *SCHEDULE_ROUTES,
    *GROUP_ROUTES,
    *FLOW_ROUTES,
    *WORKFLOW_ROUTES,
    *DLQ_ROUTES,
)
