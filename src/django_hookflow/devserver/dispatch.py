"""When which message is delivered: due times, attempts, back-off, cancelling.

Longer than other modules: the life of a message is told in one place.

All methods run on the server's event loop; the only concurrency is between awaits.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Coroutine, Iterable
from datetime import datetime, timezone
from typing import Any, Protocol

from django_hookflow.core.durations import default_backoff, retry_after
from django_hookflow.devserver.attempts import Delivery, answer_details, last_answer, report
from django_hookflow.devserver.attempts import planned as planned_outcome
from django_hookflow.devserver.clock import Clock, VirtualClock
from django_hookflow.devserver.config import Config
from django_hookflow.devserver.dead_letters import DeadLetter
from django_hookflow.devserver.delivery import Courier, Outcome, Parcel
from django_hookflow.devserver.events import State
from django_hookflow.devserver.faults import Faults
from django_hookflow.devserver.gates import Gates
from django_hookflow.devserver.messages import Message, Phase
from django_hookflow.devserver.recent import Recent
from django_hookflow.devserver.runs import Runs
from django_hookflow.devserver.store import Store, StoreError

__all__ = ["Dispatcher", "Followers"]

logger = logging.getLogger("django_hookflow.devserver")


class Followers(Protocol):
    """What else happens after an attempt."""

    def attempted(
        self, message: Message, outcome: Outcome, letter: DeadLetter | None
    ) -> Iterable[Message]:
        """An attempt ended, perhaps with the message as a dead letter; messages that tell of it."""

    def over(self, message: Message, state: State) -> None:
        """The message came into its last state."""

    def due(self, now: float) -> Iterable[Message]:
        """Messages that come into being because of the time."""

    @property
    def next_instant(self) -> float | None:
        """When ``due`` may have something to say."""


class Dispatcher:
    """Delivers what is due and may start, a bounded number at a time."""

    def __init__(self, config: Config, store: Store, clock: Clock, *, gates: Gates, runs: Runs,
                 faults: Faults, followers: Followers) -> None:  # fmt: skip
        self._config = config
        self._store = store
        self._clock = clock
        self._gates = gates
        self._runs = runs
        self._faults = faults
        self._followers = followers
        self._told = ""
        self._courier: Courier | None = None
        self._due: list[tuple[float, int, Message]] = []
        self._numbers = itertools.count()
        self._changed = asyncio.Event()
        # What the clock was asked to wake us at. Periods, schedules and messages come to be while
        # it waits, so every turn compares.
        self._awaited: float | None = None
        self._idle = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.in_flight = 0
        self.deliveries: Recent[Delivery] = Recent(items=20_000, size=0)

    async def start(self, courier: Courier) -> None:
        """Begin to deliver through ``courier``, first what the store has from before."""
        self._courier = courier
        for message in self._store.unfinished():
            self._gates.restore(message)
            self.schedule(message, message.due)
        self._spawn(self._run())

    async def stop(self) -> None:
        """Cut off all deliveries in flight; their messages are not touched any more."""
        # Without a courier nothing new begins while the deliveries end.
        self._courier = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def schedule(self, message: Message, due: float) -> None:
        """Deliver ``message`` at Unix time ``due`` or as soon after as possible.

        A ``turn`` must follow, or nobody wakes up for it.
        """
        message.due = due
        heapq.heappush(self._due, (due, next(self._numbers), message))

    def cancel(self, message: Message) -> None:
        """Deliver no more; an attempt in flight is not cut off, and may still succeed."""
        message.cancel_requested = True
        self._store.save(message)
        self._store.log(message, State.CANCEL_REQUESTED, self._clock.now())
        if self._gates.withdraw(message):
            self._finish(message, State.CANCELED)

    def turn(self) -> None:
        """Begin all that can begin now; what was published before is on its way afterwards."""
        if self._courier is None:
            return
        now = self._clock.now()
        made = list(self._followers.due(now))
        for message in made:
            self.schedule(message, message.due)
        while self._due and self._due[0][0] <= now:
            self._arrive(heapq.heappop(self._due)[2], now)
        self._gates.begin_periods(now)
        while self._gates.ready and self.in_flight < self._config.concurrency:
            self.in_flight += 1
            self._spawn(self._deliver(self._gates.ready.popleft()))
        if made:
            self._commit()
        instant = self.next_instant
        if instant is not None and (self._awaited is None or instant < self._awaited):
            self._changed.set()

    @property
    def next_instant(self) -> float | None:
        """When something may have to be begun that cannot be begun now."""
        due = self._due[0][0] if self._due else None
        instants = (due, self._gates.next_instant, self._followers.next_instant)
        return min((one for one in instants if one is not None), default=None)

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        self.turn()
        while self.in_flight or self._gates.ready:
            self._idle.clear()
            await self._idle.wait()

    async def advance(self, clock: VirtualClock, seconds: float) -> None:
        """Let time pass: whatever is due on the way happens at its time, and is waited for."""
        target = clock.now() + seconds
        await self.settle()
        while (instant := self.next_instant) is not None and instant <= target:
            clock.set(instant)
            await self.settle()
        clock.set(target)
        await self.settle()

    async def _run(self) -> None:
        while True:
            self.turn()
            self._changed.clear()
            self._awaited = self.next_instant
            await self._clock.until(self._awaited, self._changed)

    def _arrive(self, message: Message, now: float) -> None:
        if message.phase is Phase.FINISHED:
            return
        if message.cancel_requested:
            self._finish(message, State.CANCELED)
            self._commit()
            return
        self._gates.arrive(message, now)

    async def _deliver(self, message: Message) -> None:
        try:
            await self._deliver_once(message)
        finally:
            self.in_flight -= 1
            self._gates.attempted(message, self._clock.now())
            self.turn()
            if not self.in_flight:
                self._idle.set()

    async def _deliver_once(self, message: Message) -> None:
        # It may have been cancelled while it waited for one of the deliveries to end.
        if message.cancel_requested or self._runs.is_over(message):
            self._finish(message, State.CANCELED)
            self._commit()
            return
        message.phase = Phase.ACTIVE
        self._runs.take_step(message)
        self._store.log(message, State.ACTIVE, self._clock.now())
        self._commit()
        if message.duplicate:
            message.duplicate = False
            self.in_flight += 1
            self._spawn(self._deliver_again(message))
        self._settle(message, await self._attempt(message))
        self._commit()

    async def _deliver_again(self, message: Message) -> None:
        # Its answer decides nothing, as with QStash's own duplicates.
        try:
            await self._attempt(message, is_duplicate=True)
        finally:
            self.in_flight -= 1
            self._idle.set()

    async def _attempt(self, message: Message, *, is_duplicate: bool = False) -> Outcome:
        assert self._courier is not None
        started, retried, spec = self._clock.now(), message.retried, message.spec
        body, headers = self._runs.payload(message)
        planned = self._faults.take_answer()
        outcome = (
            await self._courier.attempt(message, Parcel(body=body, headers=headers))
            if planned is None
            else planned_outcome(planned)
        )
        delivery = Delivery(
            message_id=message.id,
            url=spec.url,
            method=spec.method,
            retried=retried,
            started_at=started,
            finished_at=self._clock.now(),
            body_size=len(body),
            status=outcome.status,
            error=outcome.error,
            is_duplicate=is_duplicate,
        )
        self.deliveries.append(delivery)
        report(delivery)
        return outcome

    def _settle(self, message: Message, outcome: Outcome) -> None:
        """What follows from an attempt's outcome: done, failed, or another attempt."""
        details = answer_details(outcome)
        if outcome.is_delivered:
            self._follow(message, outcome, None)
            self._finish(message, State.DELIVERED, **details)
            return
        self._store.log(message, State.ERROR, self._clock.now(), **details)
        if outcome.is_final or message.retried >= message.spec.retries:
            self._follow(message, outcome, self._bury(message, outcome))
            self._runs.fail(message)
            self._finish(message, State.FAILED, **details)
            return
        self._follow(message, outcome, None)
        now = self._clock.now()
        due = now + self._pause(message, outcome)
        message.phase = Phase.WAITING
        message.retried += 1
        if not message.cancel_requested:
            self._store.log(message, State.RETRY, now, nextDeliveryTime=int(due * 1000))
        self.schedule(message, due)
        self._store.save(message)

    def _follow(self, message: Message, outcome: Outcome, letter: DeadLetter | None) -> None:
        for callback in self._followers.attempted(message, outcome, letter):
            self._gates.expect(callback)
            self.schedule(callback, callback.due)

    def _bury(self, message: Message, outcome: Outcome) -> DeadLetter:
        letter = self._store.bury(message, last_answer(outcome), self._clock.now())
        told = "%s is a dead letter now, after attempt %d: GET /v2/dlq/%s shows it"
        logger.warning(told, message.id, message.retried + 1, letter.id)
        return letter

    def _pause(self, message: Message, outcome: Outcome) -> float:
        """Seconds until the next attempt: what the answer asks for, the message, or the default."""
        asked = retry_after(
            outcome.headers, datetime.fromtimestamp(self._clock.now(), timezone.utc)
        )
        if asked is not None:
            # As it is: a destination that says when it can be asked again means its own clock.
            return asked
        if message.spec.retry_delay is not None:
            return message.spec.retry_delay.seconds(message.retried) / self._config.time_scale
        return default_backoff(message.retried + 1) / self._config.time_scale

    def _finish(self, message: Message, state: State, **details: Any) -> None:
        now = self._clock.now()
        self._store.log(message, state, now, **details)
        self._store.finish(message, now)
        self._followers.over(message, state)
        self._gates.over(message, now)

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
