"""Flow control: how many messages of a key are under way at a time, and start in a period.

A message that may not start waits in its key's line. Periods follow one another without gap
from the moment at which the key came to be, or was reset; every attempt takes a slot of its
period, retries too.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.messages import FlowLimits, Message
from django_hookflow.devserver.store import Store

__all__ = ["FlowKey", "Flows"]

_KIND = "flow"
# Keys that nobody waits for are forgotten, the one longest unused first.
_MOST_KEYS = 10_000
_MOST_BUSY_KEYS = 250_000


class FlowKey:
    """One key: its limits, its counts, its line."""

    __slots__ = (
        "awaited",
        "in_flight",
        "is_paused",
        "name",
        "parallelism",
        "period",
        "period_start",
        "pinned_parallelism",
        "pinned_rate",
        "rate",
        "rate_count",
        "waiting",
    )

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.parallelism: int | None = None
        self.rate: int | None = None
        self.period = 1
        self.period_start = now
        self.rate_count = 0
        self.pinned_parallelism = self.pinned_rate = self.is_paused = False
        self.in_flight = 0
        #: The beginning of a period that is being waited for.
        self.awaited: float | None = None
        self.waiting: OrderedDict[str, Message] = OrderedDict()

    def update(self, limits: FlowLimits) -> None:
        """The newest message's values count, except where others are pinned."""
        if not self.pinned_parallelism:
            self.parallelism = limits.parallelism
        if not self.pinned_rate:
            self.rate, self.period = limits.rate, limits.period

    def admits(self, now: float) -> bool:
        """Whether one more may start."""
        self.roll(now)
        if self.is_paused or (self.parallelism is not None and self.in_flight >= self.parallelism):
            return False
        return self.rate is None or self.rate_count < self.rate

    def roll(self, now: float) -> None:
        """Begin a new period if the last one is over; they are all of the same length."""
        passed = math.floor((now - self.period_start) / self.period)
        if passed > 0:
            self.period_start += passed * self.period
            self.rate_count = 0

    def reset(self, now: float) -> None:
        """Begin a new period now."""
        self.period_start, self.rate_count = now, 0

    @property
    def next_instant(self) -> float | None:
        """When somebody in the line may start because a new period begins."""
        if not self.waiting or self.is_paused or self.rate is None or self.rate_count < self.rate:
            return None
        return self.period_start + self.period

    @property
    def is_idle(self) -> bool:
        """Whether nothing is lost if it is forgotten."""
        pinned = self.pinned_parallelism or self.pinned_rate
        return not (self.waiting or self.in_flight or self.is_paused or pinned)

    def as_json(self) -> dict[str, Any]:
        """The object of ``GET /v2/flowControl/{key}``; limits that are not set are not there."""
        shown = {
            "flowControlKey": self.name,
            "waitListSize": len(self.waiting),
            "parallelismMax": self.parallelism,
            "parallelismCount": self.in_flight,
            "rateMax": self.rate,
            "rateCount": self.rate_count,
            "ratePeriod": self.period,
            "ratePeriodStart": int(self.period_start),
            "isPaused": self.is_paused,
            "isPinnedParallelism": self.pinned_parallelism,
            "isPinnedRate": self.pinned_rate,
        }
        return {name: value for name, value in shown.items() if value is not None}

    def as_record(self) -> dict[str, Any]:
        """What outlives the process."""
        return {name: getattr(self, name) for name in _RECORDED}

    def restore(self, record: Mapping[str, Any]) -> None:
        """Be what was recorded."""
        for name in _RECORDED:
            setattr(self, name, record[name])


_RECORDED = ("parallelism", "rate", "period", "period_start", "rate_count", "is_paused",
             "pinned_parallelism", "pinned_rate")  # fmt: skip


class Flows:
    """All keys that were named so far."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys: OrderedDict[str, FlowKey] = OrderedDict()

    def load(self, now: float) -> None:
        """Take up what was recorded."""
        for name, record in self._store.records(_KIND).items():
            self._keys[name] = FlowKey(name, now)
            self._keys[name].restore(record)

    def get(self, name: str) -> FlowKey | None:
        """The key, if a message or a pin has named it."""
        return self._keys.get(name)

    def all(self) -> list[FlowKey]:
        """Every key."""
        return list(self._keys.values())

    def make(self, name: str, now: float) -> FlowKey:
        """The key, new if need be. Raises ``Refused`` (429) if too many are in use."""
        key = self._keys.get(name)
        if key is None:
            if len(self._keys) >= _MOST_BUSY_KEYS:
                raise Refused(429, f"{_MOST_BUSY_KEYS} flow control keys are in use")
            key = self._keys[name] = FlowKey(name, now)
            self._forget_idle()
        self._keys.move_to_end(name)
        return key

    def of(self, message: Message, now: float) -> FlowKey | None:
        """The key of a message, with its limits if the key had been forgotten meanwhile."""
        limits = message.spec.flow
        if limits is None:
            return None
        was_forgotten = limits.key not in self._keys
        key = self.make(limits.key, now)
        if was_forgotten:
            key.update(limits)
        return key

    def __len__(self) -> int:
        return len(self._keys)

    def save(self, key: FlowKey) -> None:
        """The key was changed."""
        self._store.record(_KIND, key.name, key.as_record())

    def _forget_idle(self) -> None:
        if len(self._keys) > _MOST_KEYS:
            # Half of them at once, so that not every message looks through all.
            for key in self.all()[: _MOST_KEYS // 2]:
                if key.is_idle:
                    del self._keys[key.name]
                    self._store.record(_KIND, key.name, None)
