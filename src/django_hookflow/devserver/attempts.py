"""What is kept and told of finished attempts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import httpx

from django_hookflow.devserver.dead_letters import Answer
from django_hookflow.devserver.delivery import Outcome
from django_hookflow.devserver.faults import PlannedAnswer
from django_hookflow.devserver.messages import beginning, header_lists

__all__ = ["Delivery", "answer_details", "last_answer", "planned", "report"]

_KEPT_OF_ANSWER = 65_536

logger = logging.getLogger("django_hookflow.devserver")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One finished attempt; instants in Unix seconds, ``status`` 0 if there was no answer.

    ``retried`` is what the destination was told, ``is_duplicate`` marks the second of two
    deliveries that a test asked for.
    """

    message_id: str
    url: str
    method: str
    retried: int
    started_at: float
    finished_at: float
    body_size: int
    status: int
    error: str | None
    is_duplicate: bool


def planned(answer: PlannedAnswer) -> Outcome:
    """What a test wanted the answer to be."""
    problem = f"answered with status {answer.status}" if answer.status else "a planned fault"
    return Outcome(
        status=answer.status,
        headers=httpx.Headers(dict(answer.headers)),
        body=answer.body,
        error=None if 200 <= answer.status < 300 else problem,
    )


def answer_details(outcome: Outcome) -> dict[str, Any]:
    """What the log keeps of an answer."""
    details: dict[str, Any] = {
        "responseStatus": outcome.status,
        "responseHeader": header_lists(outcome.headers.multi_items()),
        "responseBody": beginning(outcome.body, _KEPT_OF_ANSWER).decode("utf-8", "replace"),
    }
    return details if outcome.error is None else {**details, "error": outcome.error}


def last_answer(outcome: Outcome) -> Answer:
    """What a dead letter keeps of it."""
    return Answer(
        status=outcome.status,
        headers=header_lists(outcome.headers.multi_items()),
        body=beginning(outcome.body, _KEPT_OF_ANSWER),
        error=outcome.error,
    )


def report(delivery: Delivery) -> None:
    """A line on the terminal."""
    logger.log(
        logging.WARNING if delivery.error else logging.INFO,
        "%s %s %s retried=%d: %s",
        delivery.message_id,
        delivery.method,
        delivery.url,
        delivery.retried,
        # Answers can put anything into an error's text, line breaks included.
        repr(delivery.error) if delivery.error else delivery.status,
    )
