"""A callback's URL: read the ticket, take the answer, store it, say what came of it.

What is refused for the URL alone touches no database. Nothing happens on GET: those who scan
links open them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn, Union
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import QueryDict

from django_hookflow import tickets
from django_hookflow.conf import options
from django_hookflow.confirmation import FIELD, confirmed, question, result
from django_hookflow.core.callbacks import Ticket
from django_hookflow.core.transitions import CALLBACK, JournalUnavailable, Over, SendEvent
from django_hookflow.engine.driver import UNAVAILABLE, Answer
from django_hookflow.engine.suspending import StopSign
from django_hookflow.exceptions import SerializationError
from django_hookflow.runtime import runtime
from django_hookflow.views import body_of, outlive

FORM = "application/x-www-form-urlencoded"

ACCEPTED = Answer(status=202, note="accepted")
NOT_JSON = Answer(status=400, note="not JSON")
FORGED = Answer(status=403, note="no such URL")
LATE = Answer(status=409, note="answered already, or not asked any more")
EXPIRED = Answer(status=410, note="expired")
TOO_LARGE = Answer(status=413, note="too large")
NO_CONTENT_TYPE_OF_OURS = Answer(status=415, note="send application/json")


async def callback(request: HttpRequest, token: str) -> HttpResponse:
    """Take an answer; show the confirmation page to browsers where there is one."""
    ticket = tickets.read(token)
    if ticket is None:
        return _json(FORGED)
    looks = bool(ticket.confirm) and request.method in {"GET", "HEAD"}
    if request.method != "POST" and not looks:
        allowed = "GET, HEAD, POST" if ticket.confirm else "POST"
        return HttpResponse(status=405, headers={"Allow": allowed})
    by_form = bool(ticket.confirm) and request.content_type == FORM
    respond = result if looks or by_form else _json
    if ticket.expires_at <= runtime.now():
        return respond(EXPIRED)
    if looks:
        return question(ticket)
    if not by_form and not _is_json(request.content_type or ""):
        return respond(NO_CONTENT_TYPE_OF_OURS)
    body = body_of(request, options.max_value_bytes)
    payload = TOO_LARGE if body is None else payload_of(body, _form if by_form else _loads)
    if isinstance(payload, Answer):
        return respond(payload)
    lasting_loop = isinstance(request, ASGIRequest)
    taking = _take(ticket, payload, lasting_loop)
    # Once it is stored the run is to be woken, whether the sender still listens or not.
    return respond(await outlive(taking, StopSign(), lasting_loop))


# As for the webhook: see there. What admits an answer is its URL, which no other site knows; there
# is no cookie that another site could make a browser send along.
for _alias in connections:
    transaction.non_atomic_requests(using=_alias)(callback)
callback.csrf_exempt = True  # type: ignore[attr-defined]
callback.login_required = False  # type: ignore[attr-defined]


async def _take(ticket: Ticket, payload: str, lasting_loop: bool) -> Answer:
    try:
        answer, owed = await sync_to_async(store)(ticket, payload)
    except JournalUnavailable:
        return UNAVAILABLE
    if owed:
        await runtime.wakes.apublish(ticket.run, lasting_loop=lasting_loop)
    return answer


def store(ticket: Ticket, payload: str) -> tuple[Answer, bool]:
    """Put the answer into the run's mailbox: what to say, and whether a wake-up is owed."""
    stored = runtime.journal.send_event(
        SendEvent(
            id=ticket.run,
            name=ticket.name,
            payload=payload,
            # One answer to each question, whatever becomes of its wait: also after a retry.
            dedup_id=ticket.name,
            source=CALLBACK,
            generation=ticket.generation,
        )
    )
    if isinstance(stored, Over) or not stored.stored:
        return LATE, False
    return ACCEPTED, stored.owed


def answer_at(url: str, data: Any) -> Answer:
    """What a POST of ``data`` as JSON to this URL comes to; the wake-up stays owed.

    Raises ``TypeError`` or ``ValueError`` for what is no JSON.
    """
    ticket = tickets.read(urlsplit(url).path.rstrip("/").rpartition("/")[2])
    if ticket is None:
        return FORGED
    if ticket.expires_at <= runtime.now():
        return EXPIRED
    payload = payload_of(json.dumps(data, allow_nan=False).encode())
    return payload if isinstance(payload, Answer) else store(ticket, payload)[0]


def payload_of(body: bytes, parse: Union[Callable[[str], Any], None] = None) -> Union[str, Answer]:
    """The text to store, or why it is refused."""
    try:
        text = runtime.codec.encode((parse or _loads)(body.decode()))
    except (ValueError, RecursionError, SerializationError):
        return NOT_JSON
    # Some values take more room as they are stored than as they were sent.
    return text if len(text.encode()) <= options.max_value_bytes else TOO_LARGE


def _loads(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _form(text: str) -> Any:
    """What the confirmation page's button sends, and no other form."""
    if not QueryDict(text).get(FIELD):
        raise ValueError("not our form")
    return confirmed()


def _is_json(content_type: str) -> bool:
    return content_type == "application/json" or content_type.endswith("+json")


def _json(answer: Answer) -> HttpResponse:
    headers = {"Cache-Control": "no-store"}
    if answer.retry_after is not None:
        headers["Retry-After"] = str(answer.retry_after)
    return JsonResponse({"status": answer.note}, status=answer.status, headers=headers)
