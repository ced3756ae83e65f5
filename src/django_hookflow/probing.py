"""Whether a delivery arrives: a signed no-op through QStash to the project's own webhook.

QStash's log tells what became of it, and from that and the answer's shape follows which layer
answered: QStash itself, nobody, another server or a proxy, or the webhook. The message is tried
once and asks for nothing; the webhook answers it before it touches the database.

A few lines longer than the habit because the layers and their sentences stand side by side.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import httpx
from qstash.message import MessageApi

from django_hookflow.core.messages import Ping
from django_hookflow.exceptions import TransportError
from django_hookflow.transports.clients import Http
from django_hookflow.transports.qstash import PublishConfig, translated

__all__ = ["Layer", "Probe", "Verdict", "judge"]

#: Seconds that QStash waits for the webhook's answer, and we for QStash to tell of it.
ANSWER_WITHIN = 15
PATIENCE = 30.0
FIRST_POLL, LONGEST_POLL = 0.2, 2.0
#: Characters of a strange answer that are shown.
SHOWN = 120

#: The log's states that end a message which is tried once.
_ENDS = ("DELIVERED", "ERROR", "FAILED", "CANCELED")

Event = Mapping[str, Any]


class Layer(str, Enum):
    """Who had the last word."""

    QSTASH = "qstash"
    NETWORK = "network"
    SERVER = "server"
    WEBHOOK = "webhook"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``status`` and ``answer`` are what the delivery got; times are seconds."""

    ok: bool
    layer: Layer
    sentence: str
    hint: str = ""
    status: int | None = None
    answer: str = ""
    published_in: float | None = None
    delivered_in: float | None = None


@dataclass(frozen=True, kw_only=True)
class Probe:
    """``progress`` is called with a line for people while it waits."""

    config: PublishConfig
    progress: Callable[[str], None]
    patience: float = PATIENCE

    def run(self) -> Verdict:
        """Publish, wait for the log, judge; never raises for anything that it looks into."""
        http = Http(self.config.endpoint)
        try:
            began = time.monotonic()
            try:
                message_id = self._publish(http)
            except TransportError as error:
                return Verdict(ok=False, layer=Layer.QSTASH, sentence=f"{error}.")
            took = time.monotonic() - began
            self.progress(f"QStash took message {message_id} in {took:.2f} s.")
            return self._wait(http, message_id, took)
        finally:
            http.close()

    def _publish(self, http: Http) -> str:
        with translated(self.config):
            answer = MessageApi(http).publish(
                url=self.config.destination,
                body=Ping(token=secrets.token_hex(8)).encode(),
                content_type="application/json",
                retries=0,
                timeout=ANSWER_WITHIN,
            )
            return str(answer.message_id)  # type: ignore[union-attr]  # a list only of groups

    def _wait(self, http: Http, message_id: str, took: float) -> Verdict:
        began, pause, told = time.monotonic(), FIRST_POLL, 0.0
        while (waited := time.monotonic() - began) < self.patience:
            try:
                events = self._events(http, message_id)
            except TransportError as error:
                return Verdict(
                    ok=False,
                    layer=Layer.QSTASH,
                    sentence=f"QStash took the message, but its log cannot be read: {error}.",
                    published_in=took,
                )
            if (end := _end_of(events)) is not None:
                return judge(end, published_in=took, delivered_in=_duration(events, end))
            if waited - told >= 5:
                told = waited
                self.progress(f"... not delivered after {waited:.0f} s")
            time.sleep(min(pause, self.patience))
            pause = min(pause * 1.5, LONGEST_POLL)
        return Verdict(
            ok=False,
            layer=Layer.QSTASH,
            sentence="QStash took the message and has not told its fate after "
            f"{self.patience:g} s.",
            hint=f"Look for {message_id} in the log of the QStash console.",
            published_in=took,
        )

    def _events(self, http: Http, message_id: str) -> Sequence[Event]:
        # Not the SDK's LogApi: it prints what it gets, and breaks on a state that it does not know.
        with translated(self.config):
            answer = http.request(path="/v2/events", method="GET", params={"messageId": message_id})
            events: Sequence[Event] = [dict(event) for event in answer["events"]]
            return events


def _end_of(events: Sequence[Event]) -> Event | None:
    """The entry that tells most of the end: an attempt's own, which has the answer."""
    ends = [event for event in events if event.get("state") in _ENDS]
    return max(ends, key=lambda event: bool(event.get("responseStatus")), default=None)


def _duration(events: Sequence[Event], end: Event) -> float | None:
    """Seconds by QStash's clock."""
    times = [event.get("time") for event in (*events, end)]
    known = [float(at) for at in times if isinstance(at, (int, float))]
    return (float(end["time"]) - min(known)) / 1000 if known and "time" in end else None


# --- which layer answered


def judge(event: Event, **times: float | None) -> Verdict:
    """What the log's entry for the end of the message means."""
    status = event.get("responseStatus") or None
    body = str(event.get("responseBody") or "")
    facts: dict[str, Any] = {"status": status, "answer": " ".join(body.split())[:SHOWN], **times}
    if event.get("state") == "DELIVERED":
        return _delivered(body, facts)
    if status is None:
        told = str(event.get("error") or event.get("state"))
        return Verdict(
            ok=False,
            layer=Layer.NETWORK,
            sentence=f"QStash could not reach the webhook: {told[: 2 * SHOWN]}.",
            hint="Is the domain's name known to everybody, its port open, its certificate good, "
            "and the server running?",
            **facts,
        )
    names = {str(name).lower(): value for name, value in _headers(event).items()}
    return _refused(int(status), body, names, facts)


def _headers(event: Event) -> Mapping[str, Any]:
    headers = event.get("responseHeader") or event.get("responseHeaders")
    return headers if isinstance(headers, Mapping) else {}


def _delivered(body: str, facts: dict[str, Any]) -> Verdict:
    if _note(body) == "pong":
        return Verdict(
            ok=True, layer=Layer.WEBHOOK, sentence="The webhook took the delivery.", **facts
        )
    if not body:
        return Verdict(
            ok=True,
            layer=Layer.WEBHOOK,
            sentence="The delivery was taken; QStash's log does not show by whom.",
            **facts,
        )
    return Verdict(
        ok=False,
        layer=Layer.SERVER,
        sentence="Something that is not the webhook took the delivery.",
        hint="It answers every POST with success: deliveries to it are lost. Compare "
        "DJANGO_HOOKFLOW_DOMAIN and DJANGO_HOOKFLOW_WEBHOOK_PATH with what serves this URL.",
        **facts,
    )


def _note(body: str) -> str | None:
    """The word in an answer of the webhook's."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict) or set(answer) != {"status"}:
        return None
    return str(answer["status"])


def _refused(status: int, body: str, headers: Mapping[str, Any], facts: dict[str, Any]) -> Verdict:
    if status == httpx.codes.UNAUTHORIZED and not body and "www-authenticate" not in headers:
        return Verdict(
            ok=False,
            layer=Layer.WEBHOOK,
            sentence="The webhook answered 401: it does not take the signature for QStash's.",
            hint="On the server compare QSTASH_CURRENT_SIGNING_KEY and QSTASH_NEXT_SIGNING_KEY "
            "with the QStash console, DJANGO_HOOKFLOW_DOMAIN and DJANGO_HOOKFLOW_WEBHOOK_PATH "
            "with the settings here, letter by letter, and its clock.",
            **facts,
        )
    if status == 489 and "upstash-nonretryable-error" in headers:
        return Verdict(
            ok=False,
            layer=Layer.WEBHOOK,
            sentence="The webhook took the signature, but runs a version that does not know this "
            "message: deliveries arrive.",
            hint="Deploy this version there and ask again.",
            **facts,
        )
    if status == httpx.codes.SERVICE_UNAVAILABLE and (note := _note(body)) is not None:
        return Verdict(
            ok=False,
            layer=Layer.WEBHOOK,
            sentence=f"The webhook was reached, and cannot answer now: {note}.",
            hint="The server's log says more (logger django_hookflow.webhook).",
            **facts,
        )
    return Verdict(
        ok=False,
        layer=Layer.SERVER,
        sentence=f"A server or a proxy answered {status}, and not the webhook.",
        hint=_HINTS.get(status, "Its first words are shown: whose are they?"),
        **facts,
    )


_REDIRECTED = (
    "It redirects, and QStash follows no redirect: write the URL it leads to in "
    "DJANGO_HOOKFLOW_DOMAIN; or it is SECURE_SSL_REDIRECT without SECURE_PROXY_SSL_HEADER."
)
_NOBODY_BEHIND = "The proxy finds nobody behind it: is the application running, and on its port?"
_HINTS = {
    **dict.fromkeys((301, 302, 303, 307, 308), _REDIRECTED),
    400: "Is the domain's host in ALLOWED_HOSTS on the server?",
    401: "A password is asked for before the webhook: except its path from that.",
    403: "Something before the webhook forbids it (a firewall, a middleware): except its path.",
    404: "Is django_hookflow.urls included at DJANGO_HOOKFLOW_WEBHOOK_PATH in the server's "
    "URLconf, and does DJANGO_HOOKFLOW_DOMAIN lead there?",
    500: "The server's log says why.",
    502: _NOBODY_BEHIND,
    503: _NOBODY_BEHIND,
    504: _NOBODY_BEHIND,
}
