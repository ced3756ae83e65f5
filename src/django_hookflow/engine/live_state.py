"""What a body tells of its run while it goes on: ``ctx.set``.

It is no part of what a replay is built on: nothing reads it but people and pages. The run row
holds it together with the number of the call that it is of. While outcomes are replayed, a call
with that number or a smaller one was made by an earlier delivery and changes nothing; a greater
one was made by a delivery that died before it wrote. The number tells, the replay alone cannot:
the claim that follows a death may have recorded a timer that was not recorded when it was made.
"""

from __future__ import annotations

from typing import Any, Union

from django_hookflow.core.ports import ValueCodec
from django_hookflow.core.transitions import State


class LiveState:
    """One delivery's view of a run's state; ``change`` may be asked from any thread."""

    def __init__(self, stored: Union[str, None], calls: int, codec: ValueCodec, limit: int) -> None:
        self._stored = stored
        self._known = calls
        self._codec = codec
        self._limit = limit
        self._calls = 0
        self._values: dict[str, Any] = {}
        self._change: Union[State, None] = None

    def read(self) -> None:
        """Decode what is stored; raises ``SerializationError`` if it cannot be read."""
        if self._stored is not None:
            self._values = dict(self._codec.decode(self._stored))

    def set(self, key: str, value: Any, *, replaying: bool) -> None:
        """Take ``value`` as it is now; raises ``SerializationError``, on every replay alike."""
        self._calls += 1
        # The size of one value only: that of all may be another one on a replay.
        text = self._codec.encode({key: value}, limit=self._limit)
        if replaying and self._calls <= self._known:
            return
        self._values.update(self._codec.decode(text))
        self._change = State(text=self._codec.encode(self._values), calls=self._calls)

    def change(self) -> Union[State, None]:
        """What the holder's next transaction writes."""
        return self._change

    def forget(self) -> None:
        """Write nothing more: the code does not fit its journal, so what it tells is not so."""
        self._change = None
