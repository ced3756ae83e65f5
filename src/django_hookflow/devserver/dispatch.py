"""When which message is delivered: due times, attempts, back-off, cancelling.

All methods run on the server's event loop; the only concurrency is between awaits.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from django_hookflow.core.durations import default_backoff, retry_after
from django_hookflow.devserver.config import Config
from django_hookflow.devserver.dead_letters import Answer
from django_hookflow.devserver.delivery import Courier, Outcome
from django_hookflow.devserver.events import State
from django_hookflow.devserver.messages import Message, Phase, header_lists
from django_hookflow.devserver.recent import Recent
from django_hookflow.devserver.store import Store, StoreError

__all__ = ["Delivery", "Dispatcher"]

logger = logging.getLogger("django_hookflow.devserver")

# The wall clock may be set while we sleep, so look again at least this often (seconds).
_LONGEST_SLEEP = 30.0


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


class Dispatcher:
    """Delivers what is due, a bounded number at a time."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._store = store
        self._told = ""
        self._courier: Courier | None = None
        self._due: list[tuple[float, int, Message]] = []
        self._numbers = itertools.count()
        self._changed = asyncio.Event()
        self._slots = asyncio.Semaphore(config.concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self.deliveries: Recent[Delivery] = Recent(items=20_000, size=0)

    async def start(self, courier: Courier) -> None:
        """Begin to deliver through ``courier``, first what the store has from before."""
        self._courier = courier
        for message in self._store.unfinished():
            self.schedule(message, message.due)
        self._spawn(self._run())

    async def stop(self) -> None:
        """Cut off all deliveries in flight; their messages are not touched any more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._courier is not None:
            await self._courier.close()

    def schedule(self, message: Message, due: float) -> None:
        """Deliver ``message`` at Unix time ``due`` or as soon after as possible."""
        message.due = due
        heapq.heappush(self._due, (due, next(self._numbers), message))
        self._changed.set()

    def cancel(self, message: Message) -> None:
        """Deliver no more; an attempt in flight is not cut off, and may still succeed."""
        message.cancel_requested = True
        self._store.save(message)
        self._store.log(message, State.CANCEL_REQUESTED, time.time())

    async def _run(self) -> None:
        while True:
            await self._slots.acquire()
            try:
                message = await self._next_due()
            except BaseException:
                self._slots.release()
                raise
            if message.cancel_requested:
                self._slots.release()
                self._finish(message, State.CANCELED)
                self._commit()
            else:
                self._spawn(self._deliver(message))

    async def _next_due(self) -> Message:
        while not self._due or self._due[0][0] > time.time():
            self._changed.clear()
            seconds = _LONGEST_SLEEP
            if self._due:
                seconds = min(seconds, max(0.001, self._due[0][0] - time.time()))
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)
        return heapq.heappop(self._due)[2]

    async def _deliver(self, message: Message) -> None:
        try:
            message.phase = Phase.ACTIVE
            self._store.log(message, State.ACTIVE, time.time())
            self._commit()
            if message.duplicate:
                message.duplicate = False
                self._spawn(self._deliver_again(message))
            self._settle(message, await self._attempt(message))
            self._commit()
        finally:
            self._slots.release()

    async def _deliver_again(self, message: Message) -> None:
        # Its answer decides nothing, as with QStash's own duplicates.
        await self._attempt(message, is_duplicate=True)

    async def _attempt(self, message: Message, *, is_duplicate: bool = False) -> Outcome:
        assert self._courier is not None
        started, retried, spec = time.time(), message.retried, message.spec
        outcome = await self._courier.attempt(message)
        delivery = Delivery(
            message_id=message.id,
            url=spec.url,
            method=spec.method,
            retried=retried,
            started_at=started,
            finished_at=time.time(),
            body_size=len(spec.body),
            status=outcome.status,
            error=outcome.error,
            is_duplicate=is_duplicate,
        )
        self.deliveries.append(delivery)
        _report(delivery)
        return outcome

    def _settle(self, message: Message, outcome: Outcome) -> None:
        """What follows from an attempt's outcome: done, failed, or another attempt."""
        if outcome.is_delivered:
            self._finish(message, State.DELIVERED, **_answer_details(outcome))
            return
        self._store.log(message, State.ERROR, time.time(), **_answer_details(outcome))
        if outcome.is_final or message.retried >= message.spec.retries:
            self._finish(message, State.FAILED, **_answer_details(outcome))
            self._bury(message, outcome)
            return
        due = time.time() + self._pause(message, outcome)
        message.phase = Phase.WAITING
        message.retried += 1
        if not message.cancel_requested:
            self._store.log(message, State.RETRY, time.time(), nextDeliveryTime=int(due * 1000))
        self.schedule(message, due)
        self._store.save(message)

    def _bury(self, message: Message, outcome: Outcome) -> None:
        letter = self._store.bury(message, _answer(outcome), time.time())
        told = "%s is a dead letter now, after attempt %d: GET /v2/dlq/%s shows it"
        logger.warning(told, message.id, message.retried + 1, letter.id)

    def _pause(self, message: Message, outcome: Outcome) -> float:
        """Seconds until the next attempt: what the answer asks for, the message, or the default."""
        asked = retry_after(outcome.headers, datetime.now(timezone.utc))
        if asked is not None:
            # As it is: a destination that says when it can be asked again means its own clock.
            return asked
        if message.spec.retry_delay is not None:
            return message.spec.retry_delay.seconds(message.retried) / self._config.time_scale
        return default_backoff(message.retried + 1) / self._config.time_scale

    def _finish(self, message: Message, state: State, **details: Any) -> None:
        now = time.time()
        self._store.log(message, state, now, **details)
        self._store.finish(message, now)

    def _commit(self) -> None:
        try:
            self._store.commit()
        except StoreError as error:
            # Delivering goes on: what is on disk is older then, so that after a restart messages
            # are delivered again rather than not at all. Said once, not at every attempt.
            if str(error) != self._told:
                logger.error("%s; deliveries go on, but a restart may repeat them", error)
            self._told = str(error)
        else:
            self._told = ""

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("the dispatcher failed", exc_info=task.exception())


def _answer_details(outcome: Outcome) -> dict[str, Any]:
    details: dict[str, Any] = {
        "responseStatus": outcome.status,
        "responseHeader": header_lists(outcome.headers.multi_items()),
        "responseBody": outcome.body.decode("utf-8", "replace"),
    }
    return details if outcome.error is None else {**details, "error": outcome.error}


def _answer(outcome: Outcome) -> Answer:
    return Answer(
        status=outcome.status,
        headers=header_lists(outcome.headers.multi_items()),
        body=outcome.body,
        error=outcome.error,
    )


def _report(delivery: Delivery) -> None:
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
