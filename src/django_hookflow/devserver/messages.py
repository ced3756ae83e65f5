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

__all__ = ["Message", "Phase", "Spec", "header_lists", "new_id", "readable"]

# Letters and digits without those that look alike.
_ID_LETTERS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def new_id(prefix: str, length: int = 28) -> str:
    """A random id such as ``msg_…``."""
    return prefix + "".join(secrets.choice(_ID_LETTERS) for _ in range(length))


class Phase(enum.Enum):
    """Where a message stands."""

    WAITING = "waiting"
    ACTIVE = "active"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One message as it was published; lengths of time in seconds, instants in Unix seconds.

    ``headers`` are those to forward, prefix removed, text being the Latin-1 view of the bytes
    on the wire. ``due`` is when the first delivery may happen.
    """

    url: str
    method: str
    body: bytes
    content_type: str | None
    headers: tuple[tuple[str, str], ...]
    retries: int
    created_at: float
    due: float
    timeout: float | None
    retry_delay: RetryDelay | None
    deduplication_id: str | None
    labels: tuple[str, ...]
    caller_ip: str

    def content_id(self) -> str:
        """The deduplication id made of destination, body, content type and forwarded headers."""
        digest = hashlib.sha256()
        headers = sorted((name.lower(), value) for name, value in self.headers)
        for text in (self.url, self.content_type or "", repr(headers)):
            digest.update(text.encode() + b"\0")
        digest.update(self.body)
        return "content_" + digest.hexdigest()


class Message:
    """A message on its way; changed by the dispatcher only."""

    __slots__ = ("cancel_requested", "due", "duplicate", "id", "phase", "retried", "spec")

    def __init__(self, message_id: str, spec: Spec) -> None:
        self.id = message_id
        self.spec = spec
        self.phase = Phase.WAITING
        self.retried = 0
        #: When the next delivery may happen: of the first one what ``spec`` says.
        self.due = spec.due
        self.cancel_requested = False
        self.duplicate = False

    def facts(self) -> dict[str, Any]:
        """The fields that the message object and every log entry share, without the body."""
        spec = self.spec
        facts: dict[str, Any] = {
            "messageId": self.id,
            "url": spec.url,
            "method": spec.method,
            "header": header_lists(_sent_headers(spec)),
            "maxRetries": spec.retries,
            "callerIP": spec.caller_ip,
        }
        if spec.labels:
            facts["label"] = spec.labels[0]
            facts["labels"] = list(spec.labels)
        if spec.retry_delay is not None:
            facts["retryDelayExpression"] = spec.retry_delay.text
        if spec.timeout is not None:
            facts["timeout"] = int(spec.timeout * 1000)
        return facts

    def as_json(self) -> dict[str, Any]:
        """The message object of ``GET /v2/messages/{id}``."""
        spec = self.spec
        answer = self.facts()
        answer["notBefore"] = int(spec.due * 1000)
        answer["createdAt"] = int(spec.created_at * 1000)
        return answer | readable("body", spec.body)


def readable(name: str, body: bytes) -> dict[str, str]:
    """The field ``name`` with the text of ``body``, or ``nameBase64`` if it is none."""
    try:
        return {name: body.decode()}
    except UnicodeDecodeError:
        return {f"{name}Base64": base64.b64encode(body).decode()}


def header_lists(headers: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Headers as the API shows them: names in Train-Case, each with the list of its values."""
    lists: dict[str, list[str]] = {}
    for name, value in headers:
        lists.setdefault(name.title(), []).append(value)
    return lists


def _sent_headers(spec: Spec) -> list[tuple[str, str]]:
    content_type = [] if spec.content_type is None else [("Content-Type", spec.content_type)]
    return [*content_type, *spec.headers]
