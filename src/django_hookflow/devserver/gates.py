"""What stands between a message that is due and its delivery: its queue, then its flow-control key.

Nothing here waits: a message that may not start yet stays in a line, and comes out of it when
something else ends, a limit changes or a new period begins.
"""

from __future__ import annotations

import heapq
from collections import deque

from django_hookflow.devserver.flow import FlowKey, Flows
from django_hookflow.devserver.messages import Message
from django_hookflow.devserver.queues import Queue, Queues

__all__ = ["Gates"]


class Gates:
    """Leads messages to ``ready``, in the order in which they may be delivered."""

    def __init__(self, queues: Queues, flows: Flows) -> None:
        self._queues = queues
        self._flows = flows
        self.ready: deque[Message] = deque()
        # When which key begins a new period that somebody waits for. Entries may be out of date.
        self._periods: list[tuple[float, str]] = []

    def restore(self, message: Message) -> None:
        """The message was under way when the process before this one ended."""
        queue = self._queue_of(message)
        if queue is not None and message.retried:
            queue.hold(message.id)
            message.has_place = True
        self.expect(message)

    def expect(self, message: Message) -> None:
        """A queue must wait for this message, which is a callback of one of its own."""
        if message.spec.holds is not None:
            name, held = message.spec.holds
            queue = self._queues.find(name)
            if queue is not None:
                queue.hold(held)

    def arrive(self, message: Message, now: float) -> None:
        """The message is due."""
        queue = self._queue_of(message)
        if queue is None:
            self._to_flow(message, now)
        else:
            queue.arrive(message)
            self.pump_queue(queue, now)

    def attempted(self, message: Message, now: float) -> None:
        """An attempt has ended."""
        limits = message.spec.flow
        key = None if limits is None else self._flows.get(limits.key)
        if key is not None:
            key.in_flight = max(0, key.in_flight - 1)
            self.pump_key(key, now)

    def over(self, message: Message, now: float) -> None:
        """There will be no further attempt."""
        places = [] if message.spec.holds is None else [message.spec.holds]
        if message.spec.queue is not None and message.has_place:
            places.append((message.spec.queue, message.id))
        for name, held in places:
            queue = self._queues.find(name)
            if queue is not None:
                queue.release(held)
                self.pump_queue(queue, now)

    def withdraw(self, message: Message) -> bool:
        """Take the message out of the line it waits in; whether it did."""
        queue, limits = self._queue_of(message), message.spec.flow
        key = None if limits is None else self._flows.get(limits.key)
        if queue is not None and queue.forget(message):
            return True
        return key is not None and key.waiting.pop(message.id, None) is not None

    def holder(self, message: Message) -> str:
        """What the message waits for in a line, in words; nothing if it is in none."""
        queue, limits = self._queue_of(message), message.spec.flow
        key = None if limits is None else self._flows.get(limits.key)
        if queue is not None and (message.id in queue.waiting or message.id in queue.resuming):
            return f"its turn in the queue {queue.name}"
        if key is not None and message.id in key.waiting:
            return f"the limits of {key.name}"
        return ""

    def pump_queue(self, queue: Queue, now: float) -> None:
        """Let those start that the queue admits now."""
        for message in queue.startable():
            self._to_flow(message, now)

    def pump_key(self, key: FlowKey, now: float) -> None:
        """Let those start that the key admits now."""
        while key.waiting and key.admits(now):
            _, message = key.waiting.popitem(last=False)
            key.in_flight += 1
            key.rate_count += 1
            self._flows.save(key)
            self.ready.append(message)
        instant = key.next_instant
        if instant is not None and instant != key.awaited:
            key.awaited = instant
            heapq.heappush(self._periods, (instant, key.name))
            if len(self._periods) > 2 * len(self._flows) + 1_000:
                # Mostly of periods that a reset has moved since.
                known = [(one.awaited, one.name) for one in self._flows.all()]
                self._periods = [(at, name) for at, name in known if at is not None]
                heapq.heapify(self._periods)

    def begin_periods(self, now: float) -> None:
        """Look at the keys whose new period was waited for."""
        while self._periods and self._periods[0][0] <= now:
            key = self._flows.get(heapq.heappop(self._periods)[1])
            if key is not None:
                key.awaited = None
                self.pump_key(key, now)

    @property
    def next_instant(self) -> float | None:
        """When ``begin_periods`` may have something to do."""
        return self._periods[0][0] if self._periods else None

    def _to_flow(self, message: Message, now: float) -> None:
        key = self._flows.of(message, now)
        if key is None:
            self.ready.append(message)
        else:
            key.waiting[message.id] = message
            self.pump_key(key, now)

    def _queue_of(self, message: Message) -> Queue | None:
        name = message.spec.queue
        return None if name is None else self._queues.find(name)
