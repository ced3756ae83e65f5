"""Taking messages in: duplicates, runs, queues and keys that come to be, faults of tests."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.clock import Clock
from django_hookflow.devserver.events import State
from django_hookflow.devserver.faults import Faults
from django_hookflow.devserver.flow import Flows
from django_hookflow.devserver.messages import Message, Phase, Spec
from django_hookflow.devserver.queues import Queues
from django_hookflow.devserver.recent import Recent
from django_hookflow.devserver.runs import Runs
from django_hookflow.devserver.store import Store

__all__ = ["Accepted", "Intake", "Published"]

_KEPT_OF_BODY = 65_536

#: A new message with its id, or ``None`` with the id of the one that it is a duplicate of.
Accepted = tuple[Message | None, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One accepted message; instants in Unix seconds, ``body`` cut after 64 KiB.

    For a duplicate ``message_id`` is the id of the first one. ``is_dropped`` says that a test
    wanted it lost.
    """

    message_id: str
    url: str
    method: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    body_size: int
    published_at: float
    due: float
    deduplication_id: str | None
    labels: tuple[str, ...]
    is_duplicate: bool
    is_dropped: bool


class Intake:
    """Accepts messages into the store; the dispatcher gets them from whoever asked."""

    def __init__(self, store: Store, clock: Clock, *, runs: Runs, queues: Queues, flows: Flows,
                 faults: Faults) -> None:  # fmt: skip
        self._store = store
        self._clock = clock
        self._runs = runs
        self._queues = queues
        self._flows = flows
        self._faults = faults
        self.published: Recent[Published] = Recent(items=20_000, size=67_108_864)

    def accept(self, spec: Spec, instead_of: str = "") -> Accepted:
        """Take a message: the new one, or ``None`` for a duplicate, with the id to answer.

        It is no duplicate of the message whose id is ``instead_of``. One that a test wants lost
        is new, and finished. Raises ``Refused``.
        """
        accepted = self._take(spec, instead_of)
        self._announce(spec, *accepted)
        return accepted

    def accept_all(self, specs: Iterable[Spec]) -> list[Accepted]:
        """Take these messages, or none of them if one is refused."""
        taken: list[tuple[Spec, Accepted]] = []
        with ExitStack() as undo:
            for spec in specs:
                message, message_id = self._take(spec)
                if message is not None:
                    undo.callback(self.discard, message)
                taken.append((spec, (message, message_id)))
            undo.pop_all()
        for spec, accepted in taken:
            self._announce(spec, *accepted)
        return [accepted for _, accepted in taken]

    def discard(self, message: Message) -> None:
        """Undo ``accept``, except for the log and for what only has a name."""
        self._runs.discard(message)
        self._store.discard(message)
        message.phase = Phase.FINISHED

    def _take(self, spec: Spec, instead_of: str = "") -> Accepted:
        first = self._runs.known_first(spec, instead_of)
        message, message_id = (None, first) if first else self._store.add(spec, instead_of)
        if message is not None:
            try:
                self._open(message)
            except Refused:
                self.discard(message)
                raise
        return message, message_id

    def _announce(self, spec: Spec, message: Message | None, message_id: str) -> None:
        if message is None:
            self._record(message_id, spec, is_duplicate=True)
            return
        self._store.log(message, State.CREATED, spec.created_at,
                        nextDeliveryTime=int(spec.due * 1000))  # fmt: skip
        dropped = self._faults.take_drop()
        self._record(message_id, spec, is_dropped=dropped)
        if dropped:
            self._store.finish(message, spec.created_at)
        else:
            message.duplicate = self._faults.take_duplicate()

    def _open(self, message: Message) -> None:
        spec, now = message.spec, self._clock.now()
        if spec.queue is not None:
            self._queues.make(spec.queue, now)
        if spec.flow is not None:
            key = self._flows.make(spec.flow.key, now)
            key.update(spec.flow)
            self._flows.save(key)
        self._runs.begin(message)

    def _record(
        self, message_id: str, spec: Spec, *, is_duplicate: bool = False, is_dropped: bool = False
    ) -> None:
        body = spec.body[:_KEPT_OF_BODY]
        record = Published(
            message_id=message_id,
            url=spec.url,
            method=spec.method,
            headers=spec.headers,
            body=body,
            body_size=len(spec.body),
            published_at=spec.created_at,
            due=spec.due,
            deduplication_id=spec.deduplication_id,
            labels=spec.labels,
            is_duplicate=is_duplicate,
            is_dropped=is_dropped,
        )
        self.published.append(record, size=len(body))
