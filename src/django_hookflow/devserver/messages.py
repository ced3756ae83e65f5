"""Messages: what a publisher asked for, and how far the server has come with it."""

from __future__ import annotations

import base64
import enum
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django_hookflow.core.expressions import RetryDelay

__all__ = [
    "FlowLimits",
    "HeaderList",
    "Message",
    "Phase",
    "Spec",
    "beginning",
    "forwarded_lists",
    "header_lists",
    "new_id",
    "readable",
]

HeaderList = tuple[tuple[str, str], ...]

# Letters and digits without those that look alike.
_ID_LETTERS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def new_id(prefix: str, length: int = 28) -> str:
    """A random id such as ``msg_…``."""
    # A byte at a time: some letters come a little more often, which nobody minds in 28 of them.
    return prefix + "".join(_ID_LETTERS[byte % 58] for byte in secrets.token_bytes(length))


class Phase(enum.Enum):
    """Where a message stands."""

    WAITING = "waiting"
    ACTIVE = "active"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowLimits:
    """What a message says about its flow-control key; ``period`` in seconds."""

    key: str
    parallelism: int | None = None
    rate: int | None = None
    period: int = 1

    def facts(self) -> dict[str, Any]:
        """The fields that messages show; limits that are not set are not there."""
        limits = {"parallelism": self.parallelism, "rate": self.rate, "period": self.period}
        shown = {name: value for name, value in limits.items() if value is not None}
        return {"flowControlKey": self.key, **shown}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One message as it was published; lengths of time in seconds, instants in Unix seconds.

    ``headers`` are those to forward, prefix removed, text being the Latin-1 view of the bytes
    on the wire. ``due`` is when the first delivery may happen. ``callback_options`` and
    ``failure_callback_options`` are the headers that the callback will be published with.
    ``workflow`` is what ``Upstash-Workflow-*`` said, by lower-case name. ``holds`` names a
    queue and the message of it that is not over before this one is.
    """

    url: str
    method: str
    body: bytes
    content_type: str | None
    headers: HeaderList
    retries: int
    created_at: float
    due: float
    timeout: float | None
    retry_delay: RetryDelay | None
    deduplication_id: str | None
    labels: tuple[str, ...]
    caller_ip: str
    callback: str | None = None
    callback_options: HeaderList = ()
    failure_callback: str | None = None
    failure_callback_options: HeaderList = ()
    group: str | None = None
    endpoint: str | None = None
    queue: str | None = None
    schedule_id: str | None = None
    flow: FlowLimits | None = None
    redact: tuple[str, ...] = ()
    workflow: HeaderList = ()
    holds: tuple[str, str] | None = None

    @property
    def size(self) -> int:
        """The bytes that it keeps alive, beyond the kilobyte or two that every message costs."""
        pairs = (*self.headers, *self.callback_options, *self.failure_callback_options,
                 *self.workflow)  # fmt: skip
        rest = len(self.url) + sum(len(name) + len(value) for name, value in pairs)
        return len(self.body) + max(0, rest - 1_024)

    def content_id(self) -> str:
        """The deduplication id made of destination, body, content type and forwarded headers."""
        digest = hashlib.sha256()
        headers = sorted((name.lower(), value) for name, value in self.headers)
        for text in (self.url, self.content_type or "", repr(headers)):
            digest.update(text.encode() + b"\0")
        digest.update(self.body)
        return "content_" + digest.hexdigest()

    def shown_headers(self) -> dict[str, list[str]]:
        """The headers to forward as the API shows them, hidden where that was asked for."""
        content_type = [] if self.content_type is None else [("Content-Type", self.content_type)]
        headers = [*content_type, *self.headers]
        if "header" in self.redact:
            return header_lists((name, _hidden(value.encode())) for name, value in headers)
        named = {field[7:] for field in self.redact if field.startswith("header:")}
        return header_lists(
            (name, _hidden(value.encode()) if name.lower() in named else value)
            for name, value in headers
        )

    def shown_body(self) -> bytes:
        """The body as the API shows it."""
        return _hidden(self.body).encode() if "body" in self.redact and self.body else self.body


class Message:
    """A message on its way; changed by the dispatcher only."""

    __slots__ = ("cancel_requested", "due", "duplicate", "has_place", "id", "phase", "retried",
                 "spec")  # fmt: skip

    def __init__(self, message_id: str, spec: Spec) -> None:
        self.id = message_id
        self.spec = spec
        self.phase = Phase.WAITING
        self.retried = 0
        #: When the next delivery may happen: of the first one what ``spec`` says.
        self.due = spec.due
        self.cancel_requested = False
        self.duplicate = False
        #: Whether it is one of those that its queue is busy with.
        self.has_place = False

    def facts(self) -> dict[str, Any]:
        """The fields that the message object and every log entry share, without the body."""
        spec = self.spec
        facts: dict[str, Any] = {
            "messageId": self.id,
            "url": spec.url,
            "method": spec.method,
            "header": spec.shown_headers(),
            "maxRetries": spec.retries,
            "callerIP": spec.caller_ip,
        }
        optional = {
            "topicName": spec.group,
            "endpointName": spec.endpoint,
            "queueName": spec.queue,
            "scheduleId": spec.schedule_id,
            "callback": spec.callback,
            "failureCallback": spec.failure_callback,
        }
        facts |= {name: value for name, value in optional.items() if value}
        for name, options in (
            ("callbackHeader", spec.callback_options),
            ("failureCallbackHeader", spec.failure_callback_options),
        ):
            if options:
                facts[name] = forwarded_lists(options)
        if spec.labels:
            facts["label"] = spec.labels[0]
            facts["labels"] = list(spec.labels)
        if spec.flow is not None:
            facts |= spec.flow.facts()
        if spec.retry_delay is not None:
            facts["retryDelayExpression"] = spec.retry_delay.text
        if spec.timeout is not None:
            facts["timeout"] = int(spec.timeout * 1000)
        run = dict(spec.workflow).get("runid")
        return facts | ({"workflowRunId": run} if run else {})

    def as_json(self) -> dict[str, Any]:
        """The message object of ``GET /v2/messages/{id}``."""
        spec = self.spec
        answer = self.facts()
        answer["notBefore"] = int(spec.due * 1000)
        answer["createdAt"] = int(spec.created_at * 1000)
        return answer | readable("body", spec.shown_body())


def readable(name: str, body: bytes) -> dict[str, str]:
    """The field ``name`` with the text of ``body``, or ``nameBase64`` if it is none."""
    try:
        return {name: body.decode()}
    except UnicodeDecodeError:
        return {f"{name}Base64": base64.b64encode(body).decode()}


def beginning(body: bytes, most: int) -> bytes:
    """At most ``most`` bytes of it, without the half of a UTF-8 character at their end."""
    if len(body) <= most:
        return body
    for end in range(most, max(most - 4, -1), -1):
        if body[end] & 0b1100_0000 != 0b1000_0000:
            return body[:end]
    # It is no text.
    return body[:most]


def header_lists(headers: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Headers as the API shows them: names in Train-Case, each with the list of its values."""
    lists: dict[str, list[str]] = {}
    for name, value in headers:
        lists.setdefault(name.title(), []).append(value)
    return lists


def forwarded_lists(options: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Of the headers that a callback is published with, those that it forwards."""
    prefix = "upstash-forward-"
    return header_lists(
        (name[len(prefix) :], value) for name, value in options if name.lower().startswith(prefix)
    )


def _hidden(value: bytes) -> str:
    return "REDACTED:" + hashlib.sha256(value).hexdigest()
