"""Between the server's objects and the rows of its file; the only place that knows both."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from django_hookflow.core.expressions import parse_retry_delay
from django_hookflow.devserver.dead_letters import Answer, DeadLetter
from django_hookflow.devserver.events import Event, State
from django_hookflow.devserver.messages import FlowLimits, Message, Phase, Spec

__all__ = [
    "delete_events_before",
    "read_dead_letters",
    "read_deduplication_ids",
    "read_events",
    "read_messages",
    "read_records",
    "write_dead_letter",
    "write_deduplication_id",
    "write_event",
    "write_message",
    "write_record",
]


def write_message(
    connection: sqlite3.Connection, message_id: str, message: Message | None, finished: float | None
) -> None:
    """Make the message's rows what it is now; ``None`` is one that is gone."""
    if message is None:
        connection.execute("DELETE FROM message WHERE id = ?", (message_id,))
        connection.execute("DELETE FROM body WHERE id = ?", (message_id,))
        return
    state = (message.retried, message.due, message.cancel_requested, finished)
    done = connection.execute(
        "UPDATE message SET retried = ?, due = ?, cancel_requested = ?, finished_at = ?"
        " WHERE id = ?",
        (*state, message.id),
    )
    if not done.rowcount:
        connection.execute(
            "INSERT INTO message (id, spec, retried, due, cancel_requested, finished_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (message.id, _spec_text(message.spec), *state),
        )
        connection.execute("INSERT INTO body VALUES (?, ?)", (message.id, message.spec.body))


def read_messages(connection: sqlite3.Connection) -> Iterator[tuple[Message, float | None]]:
    """All messages, oldest first, with the instant at which they were done with, if they are."""
    for message_id, text, body, retried, due, cancelled, finished in connection.execute(
        "SELECT id, spec, body, retried, due, cancel_requested, finished_at"
        " FROM message JOIN body USING (id) ORDER BY message.number"
    ):
        message = Message(message_id, _spec(text, body))
        message.retried = retried
        message.due = due
        message.cancel_requested = bool(cancelled)
        # What was under way when the process ended is under way no more.
        message.phase = Phase.WAITING if finished is None else Phase.FINISHED
        yield message, finished


def write_deduplication_id(
    connection: sqlite3.Connection, name: str, value: tuple[str, float] | None
) -> None:
    """Make the row what the id means now, message and expiry; ``None`` means nothing."""
    if value is None:
        connection.execute("DELETE FROM deduplication WHERE id = ?", (name,))
    else:
        connection.execute("REPLACE INTO deduplication VALUES (?, ?, ?)", (name, *value))


def read_deduplication_ids(connection: sqlite3.Connection) -> Iterator[tuple[str, str, float]]:
    """All ids with their message and their expiry, in the order in which they expire."""
    yield from connection.execute(
        "SELECT id, message_id, expires_at FROM deduplication ORDER BY expires_at"
    )


def write_event(connection: sqlite3.Connection, event: Event) -> None:
    """Add an entry of the log."""
    facts, details = json.dumps(event.facts), json.dumps(event.details)
    connection.execute(
        "REPLACE INTO event VALUES (?, ?, ?, ?, ?)",
        (event.number, event.time, event.state.value, facts, details),
    )


def delete_events_before(connection: sqlite3.Connection, number: int) -> None:
    """Drop the older entries of the log."""
    connection.execute("DELETE FROM event WHERE number < ?", (number,))


def read_events(connection: sqlite3.Connection) -> Iterator[Event]:
    """The log, oldest first."""
    for number, time, state, facts, details in connection.execute(
        "SELECT number, time, state, facts, details FROM event ORDER BY number"
    ):
        yield Event(number=number, time=time, state=State(state), facts=json.loads(facts),
                    details=json.loads(details))  # fmt: skip


def write_dead_letter(
    connection: sqlite3.Connection, dlq_id: str, letter: DeadLetter | None
) -> None:
    """Add a dead letter; ``None`` is one that is gone."""
    if letter is None:
        connection.execute("DELETE FROM dead_letter WHERE id = ?", (dlq_id,))
        return
    spec, answer = letter.message.spec, letter.answer
    connection.execute(
        "REPLACE INTO dead_letter VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (letter.id, letter.milliseconds, letter.number, letter.message.id, _spec_text(spec),
         spec.body, answer.status, json.dumps(answer.headers), answer.body,
         # As JSON too: what was raised somewhere may have text that is no Unicode.
         json.dumps(answer.error)),
    )  # fmt: skip


def read_dead_letters(connection: sqlite3.Connection) -> Iterator[DeadLetter]:
    """All dead letters, oldest first."""
    for *order, message_id, text, body, status, headers, answer, error in connection.execute(
        "SELECT milliseconds, number, message_id, spec, body, status, headers, answer, error"
        " FROM dead_letter ORDER BY milliseconds, number"
    ):
        yield DeadLetter(
            milliseconds=order[0],
            number=order[1],
            message=Message(message_id, _spec(text, body)),
            answer=Answer(status=status, headers=json.loads(headers), body=answer,
                          error=json.loads(error)),
        )  # fmt: skip


def write_record(
    connection: sqlite3.Connection, kind: str, name: str, value: Mapping[str, Any] | None
) -> None:
    """Make the row what the record is now; ``None`` is one that is gone."""
    if value is None:
        connection.execute("DELETE FROM record WHERE kind = ? AND name = ?", (kind, name))
    else:
        connection.execute(
            "INSERT INTO record (kind, name, value) VALUES (?, ?, ?)"
            " ON CONFLICT (kind, name) DO UPDATE SET value = excluded.value",
            (kind, name, json.dumps(value)),
        )


def read_records(connection: sqlite3.Connection) -> Iterator[tuple[str, str, Any]]:
    """All records, in the order in which they first came."""
    for kind, name, value in connection.execute(
        "SELECT kind, name, value FROM record ORDER BY number"
    ):
        yield kind, name, json.loads(value)


def _spec_text(spec: Spec) -> str:
    fields: dict[str, Any] = {name: getattr(spec, name) for name in _PLAIN}
    fields["retry_delay"] = None if spec.retry_delay is None else spec.retry_delay.text
    fields["flow"] = None if spec.flow is None else dataclasses.asdict(spec.flow)
    return json.dumps(fields)


def _spec(text: str, body: bytes) -> Spec:
    fields: dict[str, Any] = json.loads(text)
    for name in _PAIRS:
        fields[name] = tuple((key, value) for key, value in fields[name])
    for name in ("labels", "redact"):
        fields[name] = tuple(fields[name])
    holds, delay, flow = (fields.pop(name) for name in ("holds", "retry_delay", "flow"))
    return Spec(
        **fields,
        body=body,
        holds=None if holds is None else (holds[0], holds[1]),
        retry_delay=None if delay is None else parse_retry_delay(delay),
        flow=None if flow is None else FlowLimits(**flow),
    )


# What JSON can say as it is; lists come back where tuples were.
_PLAIN = tuple(name for name in Spec.__slots__ if name not in ("body", "retry_delay", "flow"))
_PAIRS = ("headers", "callback_options", "failure_callback_options", "workflow")
