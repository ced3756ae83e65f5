"""Callbacks: messages that tell what came of another message."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from django_hookflow.devserver.delivery import Outcome
from django_hookflow.devserver.messages import Message, Spec, header_lists
from django_hookflow.devserver.publishing import Headers, read_spec

__all__ = ["callback_spec", "failure_callback_spec"]


def callback_spec(message: Message, outcome: Outcome, now: float) -> Spec | None:
    """The callback for one attempt, if one was asked for."""
    spec = message.spec
    if spec.callback is None:
        return None
    facts = _facts(message, outcome)
    return _spec(message, spec.callback, spec.callback_options, facts, now)


def failure_callback_spec(
    message: Message, outcome: Outcome, dlq_id: str, run: Mapping[str, Any], now: float
) -> Spec | None:
    """The callback for a message that was given up, if one was asked for."""
    spec = message.spec
    if spec.failure_callback is None:
        return None
    facts = {**_facts(message, outcome), "dlqId": dlq_id, **run}
    return _spec(message, spec.failure_callback, spec.failure_callback_options, facts, now)


def _spec(
    message: Message, url: str, options: Headers, facts: Mapping[str, Any], now: float
) -> Spec:
    original = message.spec
    spec = read_spec(
        url,
        # The message's own number of retries, unless the callback's options say otherwise.
        [("Content-Type", "application/json"), ("Upstash-Retries", str(original.retries)),
         *options],
        json.dumps(facts).encode(),
        caller_ip=original.caller_ip,
        now=now,
    )  # fmt: skip
    # A queue goes on when its message and the callbacks of it are over; theirs belong to it too.
    holds = original.holds or ((original.queue, message.id) if original.queue else None)
    # The callback's body holds what the message wanted hidden.
    redact = (*spec.redact, "body") if original.redact else spec.redact
    return dataclasses.replace(spec, holds=holds, redact=redact)


def _facts(message: Message, outcome: Outcome) -> dict[str, Any]:
    spec = message.spec
    sent = [] if spec.content_type is None else [("Content-Type", spec.content_type)]
    facts: dict[str, Any] = {
        "status": outcome.status,
        "header": header_lists(outcome.headers.multi_items()),
        "body": base64.b64encode(outcome.body).decode(),
        "maxRetries": spec.retries,
        "sourceMessageId": message.id,
        "url": spec.url,
        "method": spec.method,
        "sourceHeader": header_lists([*sent, *spec.headers]),
        "sourceBody": base64.b64encode(spec.body).decode(),
        "notBefore": int(spec.due * 1000),
        "createdAt": int(spec.created_at * 1000),
        "callerIP": spec.caller_ip,
    }
    # QStash leaves out what is empty, a zero included: the workflow SDKs rely on it.
    optional = {
        "retried": message.retried,
        "topicName": spec.group,
        "endpointName": spec.endpoint,
        "scheduleId": spec.schedule_id,
        "error": outcome.error if not outcome.status else None,
    }
    return facts | {name: value for name, value in optional.items() if value}
