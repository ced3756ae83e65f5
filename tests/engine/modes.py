"""The same tests under other circumstances: what a workflow does may not depend on them.

A mode changes how a world delivers, publishes or dies, never what a test asks of it. Tests of
what a thing costs, or of one circumstance of their own, are marked ``usual_mode``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django_hookflow.core.entries import ACTIVE
from django_hookflow.core.messages import Wake, parse_message
from django_hookflow.engine.leases import Lease
from django_hookflow.engine.publishing import find_work, publish_owed
from django_hookflow.exceptions import TransportError
from django_hookflow.transports.base import Message
from django_hookflow.transports.memory import MemoryTransport

from .harness import World

#: Transactions that are not a run's own.
FROM_OUTSIDE = frozenset(
    {"published", "nudge", "retry", "cancel", "event", "pause", "resume", "fork"}
)


class Died(BaseException):
    """The process ends here."""


class FailingTransport(MemoryTransport):
    """Refuses every message once."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()

    def publish(self, *messages: Message) -> None:
        fresh = {message.deduplication_id for message in messages} - self.refused
        if fresh:
            self.refused |= fresh
            raise TransportError("refused once")
        super().publish(*messages)


class RestlessWorld(World):
    """Goes on until every run has ended, whatever was lost on the way."""

    usual = False

    def __init__(self, **limits: Any) -> None:
        self._visited: set[Any] = set()
        self.leases: list[Lease] = []
        self.lost = 0
        super().__init__(crash=self.pass_point, **limits)

    def strikes(self) -> int:
        """How often the mode has struck."""
        return self.lost

    def pass_point(self, point: str) -> None:
        """A crash point of the journal."""

    async def deliver_next(self) -> Any:
        message = self.transport.messages.pop(0)
        self.messages += 1
        self.clock.skip(message.delay)
        wake = parse_message(message.body.encode())
        assert isinstance(wake, Wake)
        for _ in range(40):
            try:
                answer = await self.deliver(wake.run, wake.number)
            except Died:
                self.lost += 1
                self.clock.skip(12)
                continue
            if answer.status != 503:
                return answer
            self.clock.skip(answer.retry_after or 12)
        raise AssertionError("a message that is never answered")

    async def drain(self, limit: int = 400) -> None:
        for _ in range(limit):
            if self.transport.messages:
                await self.deliver_next()
            elif any(self.is_to_go_on(run) for run in self.journal.runs()):
                self.sweep()
            else:
                return
        raise AssertionError(f"not at rest after {limit} deliveries and sweeps")

    def is_to_go_on(self, run: Any) -> bool:
        """Whether time alone will move it; else it waits for something without a timeout."""
        unseen = any(not event.seen for event in self.journal.events(run.id))
        due = run.due_at is not None or run.owed_at is not None
        return run.status in ACTIVE and (due or unseen)

    def sweep(self) -> None:
        """As the sweeper does, once it is time to."""
        self.clock.skip(61)
        try:
            runs = find_work(self.journal)
            publish_owed(self.journal, self.transport, runs, max_delay=self.limits.max_delay)
        except TransportError:
            self.lost += 1

    def trigger(self, fn: Any, data: Any = None, **more: Any) -> Any:
        try:
            return super().trigger(fn, data, **more)
        except Died:
            self.lost += 1
            return self.journal.runs()[-1].id  # stored; the message stays owed

    def publish(self, id: Any) -> None:
        try:
            super().publish(id)
        except TransportError:
            self.lost += 1


class EachStepItsOwnDelivery(RestlessWorld):
    """No delivery has time for a second step."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(**{"delivery_seconds": 0.0, **limits})

    async def deliver_next(self) -> Any:
        self.lost += 1
        return await super().deliver_next()


class EveryMessageTwice(RestlessWorld):
    """Side by side: both copies look at the row at once."""

    async def deliver(self, run: Any, wake: int, *args: Any, **options: Any) -> Any:
        deliver = super().deliver
        first, second = await asyncio.gather(
            deliver(run, wake, *args, **options), deliver(run, wake, *args, **options)
        )
        self.lost += 1
        # The copy that found the other at work comes again; it must find nothing left to do.
        if first.status == 503 and second.status != 503:
            first, second = second, first
        return first


class EveryPublishFailsOnce(RestlessWorld):
    """What is owed is sent by whoever comes next."""

    transport_class = FailingTransport

    def strikes(self) -> int:
        return len(self.transport.refused)


class ACrashAfterEveryCommit(RestlessWorld):
    """Each transaction of a run is the last one of its process; a claim only the first time."""

    def pass_point(self, point: str) -> None:
        name, _, place = point.partition(":")
        if place != "after" or name in FROM_OUTSIDE:
            return
        facts = tuple((run.seq, run.wake_n) for run in self.journal.runs())
        commit = (name,) if name == "claim" else (name, facts)
        if commit not in self._visited:
            self._visited.add(commit)
            raise Died(point)


class EveryLeaseLostOnce(RestlessWorld):
    """After each recorded outcome somebody else takes the run; the keeper hears of it at once."""

    def make_keeper(self) -> Any:
        return ToldKeeper(self.leases)

    def pass_point(self, point: str) -> None:
        if point not in {"record:after", "atomic:after", "fire:after"}:
            return
        for lease in self.leases:
            run = next(run for run in self.journal.runs() if run.id == lease.run)
            past = self.clock.now() - timedelta(seconds=1)
            self.journal.alter(run.id, epoch=run.epoch + 1, lease_until=past, due_at=past)
            lease.lost = True
            self.lost += 1


class ToldKeeper:
    """Renews nothing; its leases are lost when a test says so."""

    def __init__(self, leases: list[Lease]) -> None:
        self._leases = leases

    def hold(self, lease: Lease) -> None:
        self._leases.append(lease)

    def drop(self, lease: Lease) -> None:
        self._leases.remove(lease)


MODES: dict[str, Callable[[], World]] = {
    "usual": World,
    "each-step-its-own-delivery": EachStepItsOwnDelivery,
    "every-message-twice": EveryMessageTwice,
    "every-publish-fails-once": EveryPublishFailsOnce,
    "a-crash-after-every-commit": ACrashAfterEveryCommit,
    "every-lease-lost-once": EveryLeaseLostOnce,
}
