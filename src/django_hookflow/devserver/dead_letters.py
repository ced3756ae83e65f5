"""Dead letters: messages that were given up, each with the last answer to it.

A message is given up when its retries are used up or its destination forbade further attempts.
Knows nothing of delivering; what is kept is bounded in number, in bytes and by age.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.config import Config
from django_hookflow.devserver.filters import Filters
from django_hookflow.devserver.messages import Message, readable

__all__ = ["Answer", "DeadLetter", "DeadLetters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the destination said last; ``status`` is 0 and ``error`` says why if nothing."""

    status: int
    headers: Mapping[str, Sequence[str]]
    body: bytes
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One message that was given up at ``milliseconds`` (Unix).

    ``number`` tells those of the same millisecond apart; the two are the id and the order.
    """

    milliseconds: int
    number: int
    message: Message
    answer: Answer

    @property
    def id(self) -> str:
        """The ``dlqId``."""
        return f"{self.milliseconds}-{self.number}"

    @property
    def order(self) -> tuple[int, int]:
        """Older letters compare as less."""
        return self.milliseconds, self.number

    @property
    def size(self) -> int:
        """The bytes that it keeps alive."""
        return self.message.spec.size + len(self.answer.body)

    def as_json(self) -> dict[str, Any]:
        """An item of ``GET /v2/dlq``: the message object and what its destination answered."""
        # The status is always there: the Python SDK breaks without it, also where none came.
        answer = {
            **self.message.as_json(),
            "dlqId": self.id,
            "responseStatus": self.answer.status,
            "responseHeader": self.answer.headers,
            **readable("responseBody", self.answer.body),
        }
        return answer if self.answer.error is None else {**answer, "error": self.answer.error}

    def facts(self) -> dict[str, Any]:
        """What filters look at; a ``source`` has only what came of a workflow run."""
        facts = self.message.facts()
        facts |= {"dlqId": self.id, "responseStatus": str(self.answer.status)}
        return facts | ({"source": "workflow"} if "workflowRunId" in facts else {})


class DeadLetters:
    """The letters, oldest first; any thread may read, the server's own changes them."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._letters: OrderedDict[str, DeadLetter] = OrderedDict()
        self._newest = (0, 0)
        self._size = 0
        self._lock = threading.Lock()

    def add(self, message: Message, answer: Answer, at: float) -> DeadLetter:
        """Give ``message`` up at Unix time ``at`` (seconds)."""
        milliseconds, number = int(at * 1000), 0
        # Ids grow, also if the clock does not: a cursor is one of them.
        if milliseconds <= self._newest[0]:
            milliseconds, number = self._newest[0], self._newest[1] + 1
        letter = DeadLetter(
            milliseconds=milliseconds,
            number=number,
            message=_as_given_up(message),
            answer=answer,
        )
        self.restore(letter)
        return letter

    def restore(self, letter: DeadLetter) -> None:
        """Take in a letter that was added before; older ones first."""
        with self._lock:
            self._letters[letter.id] = letter
        self._newest = letter.order
        self._size += letter.size

    def put_back(self, letter: DeadLetter) -> None:
        """Take in a letter that was removed, at its place among the others."""
        with self._lock:
            self._letters[letter.id] = letter
            for later in [one for one in self._letters.values() if one.order > letter.order]:
                self._letters.move_to_end(later.id)
        self._size += letter.size

    def get(self, dlq_id: str) -> DeadLetter | None:
        """The letter, if it is still there."""
        with self._lock:
            return self._letters.get(dlq_id)

    def remove(self, dlq_id: str) -> bool:
        """Take a letter away; whether it was there."""
        with self._lock:
            letter = self._letters.pop(dlq_id, None)
        self._size -= 0 if letter is None else letter.size
        return letter is not None

    def overdue(self, now: float) -> DeadLetter | None:
        """The oldest letter if it is too old or one too many."""
        with self._lock:
            oldest = next(iter(self._letters.values()), None)
        if oldest is None:
            return None
        config = self._config
        too_old = oldest.milliseconds <= (now - config.keep_dead_seconds) * 1000
        # The last one stays however large it is: it is what somebody looks for.
        too_many = len(self._letters) > 1 and (
            len(self._letters) > config.keep_dead or self._size > config.keep_dead_bytes
        )
        return oldest if too_old or too_many else None

    def snapshot(self) -> list[DeadLetter]:
        """All letters, oldest first."""
        with self._lock:
            return list(self._letters.values())

    def page(
        self, filters: Filters, *, count: int, cursor: str, newest_first: bool
    ) -> tuple[list[DeadLetter], str | None]:
        """Up to ``count`` letters after ``cursor``, and the next cursor unless that was all.

        Raises ``Refused`` for a cursor that is none.
        """
        after = _read_cursor(cursor)
        found: list[DeadLetter] = []
        letters = self.snapshot()
        for letter in reversed(letters) if newest_first else letters:
            passed = after and (letter.order >= after if newest_first else letter.order <= after)
            if not passed and filters.match(letter.facts(), letter.milliseconds):
                if len(found) == count:
                    return found, found[-1].id
                found.append(letter)
        return found, None


def _as_given_up(message: Message) -> Message:
    """The message by itself: nothing that happens to it later shows in the letter."""
    return Message(message.id, message.spec)


def _read_cursor(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    first, _, second = text.partition("-")
    if not all(part.isascii() and part.isdigit() and len(part) <= 15 for part in (first, second)):
        raise Refused(400, f"invalid cursor {text[:40]!r}")
    return int(first), int(second)
