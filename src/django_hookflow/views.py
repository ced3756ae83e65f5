"""The webhook: verify, parse, call one thing, answer.

The answers are the table of the protocol, section 4. An unsigned request touches neither the
database nor, unless its token could be genuine, the network.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import UUID

from asgiref.sync import AsyncToSync, ThreadSensitiveContext, sync_to_async
from django.core.exceptions import RequestDataTooBig
from django.core.handlers.asgi import ASGIRequest
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError

from django_hookflow.conf import options
from django_hookflow.core.messages import (
    MAX_BODY_BYTES,
    Newer,
    Ping,
    SweepOrder,
    Unknown,
    Wake,
    parse_message,
)
from django_hookflow.engine.driver import Answer
from django_hookflow.engine.suspending import StopSign
from django_hookflow.exceptions import ConfigurationError, SignatureError
from django_hookflow.runtime import runtime
from django_hookflow.shutdown import shutdown
from django_hookflow.transports.keys import KeysUnavailable

logger = logging.getLogger("django_hookflow.webhook")

T = TypeVar("T")

#: Deliveries whose request has gone: the loop itself keeps only weak references to tasks.
_running: set[asyncio.Task[Any]] = set()

TOO_LARGE = Answer(status=413, note="body too large")
UNSIGNED = Answer(status=401, note="")
NO_KEYS = Answer(status=503, note="signing keys are not to be had", retry_after=30)
NEWER = Answer(status=503, note="message of a newer version", retry_after=30)
NOT_OURS = Answer(status=489, note="no message of ours")
ENDING = Answer(status=503, note="this process is ending", retry_after=1)
PONG = Answer(status=200, note="pong")


async def webhook(request: HttpRequest) -> HttpResponse:
    """Take one delivery of QStash."""
    if request.method != "POST":
        return HttpResponse(status=405, headers={"Allow": "POST"})
    body = body_of(request, MAX_BODY_BYTES)
    if body is None:
        return _response(TOO_LARGE)
    refusal = await _refusal(request.headers.get("Upstash-Signature", ""), body)
    if refusal is not None:
        return _response(refusal)
    return _response(await _answer(body, lasting_loop=isinstance(request, ASGIRequest)))


# On every alias, not on "default" alone: a delivery is many transactions, never one.
for _alias in connections:
    transaction.non_atomic_requests(using=_alias)(webhook)
# Attributes, because the decorators of Django 4.2 do not know async views. QStash does not log
# in and has no CSRF cookie; the signature is what admits it.
webhook.csrf_exempt = True  # type: ignore[attr-defined]
webhook.login_required = False  # type: ignore[attr-defined]


def body_of(request: HttpRequest, most: int) -> bytes | None:
    """The raw body, or ``None`` if it has more than so many bytes."""
    try:
        if int(request.headers.get("Content-Length") or 0) > most:
            return None
        body = request.read(most + 1)
    except (ValueError, RequestDataTooBig):
        return None
    except UnreadablePostError:
        return b""  # the client went away; nobody reads the answer
    return body if len(body) <= most else None


async def _refusal(token: str, body: bytes) -> Answer | None:
    try:
        await runtime.keys.verify(token, options.webhook_url, body)
    except SignatureError as error:
        logger.info("a delivery was refused: %s", error)
        return UNSIGNED
    except KeysUnavailable as error:
        logger.error("signing keys are not to be had: %s", error)
        return NO_KEYS
    except ConfigurationError as error:
        logger.error("deliveries cannot be verified: %s", error)
        return NO_KEYS
    return None


async def _answer(body: bytes, *, lasting_loop: bool) -> Answer:
    message = parse_message(body)
    if isinstance(message, Unknown):
        return NOT_OURS
    if isinstance(message, Newer):
        return NEWER
    if isinstance(message, Ping):
        return PONG  # nothing else: it says that deliveries arrive, not that the database is there
    if isinstance(message, SweepOrder):
        return await outlive(_sweep(lasting_loop), StopSign(), lasting_loop)
    assert isinstance(message, Wake)
    await _watch(lasting_loop)
    if shutdown.ending:
        return ENDING
    stop = StopSign()
    deliver = _deliver(message.run, message.number, stop, lasting_loop)
    return await outlive(deliver, stop, lasting_loop)


async def _watch(lasting_loop: bool) -> None:
    """Notice SIGTERM, which only the main thread can: the loop's, or a sync worker's own."""
    if lasting_loop:
        shutdown.watch()
    elif not shutdown.watching:
        await sync_to_async(shutdown.watch)()


async def _deliver(run: UUID, wake: int, stop: StopSign, lasting_loop: bool) -> Answer:
    with shutdown.telling(stop.stop):
        answer = await runtime.driver.deliver(run, wake, stop=stop, lasting_loop=lasting_loop)
    if not stop.stopped:
        await runtime.wakes.share(lasting_loop=lasting_loop, delivering=True)
    return answer


async def _sweep(lasting_loop: bool) -> Answer:
    sent, owed = await runtime.wakes.asweep(lasting_loop=lasting_loop)
    return Answer(status=200, note=f"sent {sent}, still owed {owed}")


async def outlive(work: Coroutine[Any, Any, T], stop: StopSign, lasting_loop: bool) -> T:
    """Run as a task that a client going away does not cut; it is asked to stop instead."""
    task = _task(work, lasting_loop)
    _running.add(task)
    task.add_done_callback(_running.discard)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.stop()
        raise


def _task(work: Coroutine[Any, Any, T], lasting_loop: bool) -> asyncio.Task[T]:
    """A task that has nothing of the request's, which may end before it.

    asgiref makes no thread for a ``ThreadSensitiveContext`` inside another one, and an
    executor for a request that is gone would never be shut down: so the task starts from an
    empty context. Under a sync caller (WSGI, a test) everything stays on the caller's thread.
    """
    if not lasting_loop or getattr(AsyncToSync.executors, "current", None) is not None:
        return asyncio.ensure_future(work)
    return contextvars.Context().run(asyncio.ensure_future, _in_own_thread(work))


async def _in_own_thread(work: Coroutine[Any, Any, T]) -> T:
    """A thread and a connection of the delivery's own, which may outlive the request's."""
    async with ThreadSensitiveContext():
        try:
            return await work
        finally:
            await sync_to_async(runtime.journal.close_thread)()


def _response(answer: Answer) -> HttpResponse:
    headers = {}
    if answer.retry_after is not None:
        headers["Retry-After"] = str(answer.retry_after)
    if answer.status == 489:
        headers["Upstash-NonRetryable-Error"] = "true"
    if not answer.note:
        return HttpResponse(status=answer.status, headers=headers)
    return JsonResponse({"status": answer.note}, status=answer.status, headers=headers)
