"""QStash as its documentation has it, with all that it does not promise.

At least once: a message may be lost to the dead letters, doubled, late, early or overtaken. A
deduplication id is swallowed for ten minutes. What is not answered with 2xx comes again after
12 s, 148 s and 1,808 s (or ``Retry-After``), then it is a dead letter; 489 is one at once.
"""

from typing import Any

from django_hookflow.core.messages import Wake, parse_message
from django_hookflow.exceptions import TransportError
from django_hookflow.transports.base import Message

WINDOW = 600.0
BACK_OFF = (12.0, 148.0, 1808.0)
#: Seconds after which an unanswered delivery counts as failed, while the process goes on.
PATIENCE = 70.0


class Broker:
    """One for the whole simulated world."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._seen: dict[str, float] = {}
        self.accepted = 0
        self.dead_letters = 0

    async def take(self, messages: tuple[Message, ...]) -> None:
        """A publish of several messages, all or none; raises :class:`TransportError`."""
        rng, faults, world = self._world.rng, self._world.faults, self._world
        await self._world.loop.pause(rng.random() * 0.05)
        if world.faulty and rng.random() < faults.refused:
            faults.note("refused")
            raise TransportError("429", retry_after=rng.choice((None, 1, 20, 5000)))
        for message in messages:
            self._accept(message)
        if world.faulty and rng.random() < faults.answer_lost:
            faults.note("answer lost")
            raise TransportError("the answer was lost")

    def _accept(self, message: Message) -> None:
        now = self._world.loop.time()
        if now - self._seen.get(message.deduplication_id, -WINDOW) < WINDOW:
            return
        self._seen[message.deduplication_id] = now
        self.accepted += 1
        wake = parse_message(message.body.encode())
        assert isinstance(wake, Wake)
        rng, faults = self._world.rng, self._world.faults
        chance = faults if self._world.faulty else None
        if self.accepted in faults.lost_messages or (chance and rng.random() < chance.lost):
            faults.note("lost")
            return
        copies = 2 if chance and rng.random() < chance.doubled else 1
        for _ in range(copies):
            delay = message.delay + rng.random() * 0.2
            if chance and rng.random() < chance.delayed:
                delay += rng.choice((1, 30, 700))
            if chance and rng.random() < chance.early:
                delay *= rng.random()
            self._world.spawn(self._carry(wake, delay))

    async def _carry(self, wake: Wake, delay: float) -> None:
        await self._world.loop.pause(delay)
        for back_off in (*BACK_OFF, None):
            status, retry_after = await self._world.deliver(wake, PATIENCE)
            if 200 <= status < 300:
                return
            if status == 489 or back_off is None:
                break
            await self._world.loop.pause(back_off if retry_after is None else retry_after)
        self.dead_letters += 1


class HostTransport:
    """One process's way to the broker."""

    def __init__(self, host: Any, broker: Broker) -> None:
        self._host = host
        self._broker = broker

    async def apublish(self, *messages: Message) -> None:
        await self._host.turn()
        self._host.at("publish:before")
        await self._broker.take(messages)
        self._host.at("publish:after")
        await self._host.turn()

    def publish(self, *messages: Message) -> None:
        raise AssertionError("everything here is async")
