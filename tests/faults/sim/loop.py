"""An event loop whose time is virtual: a wait for nothing but time is over at once."""

import asyncio
from typing import Any


class Idle(Exception):
    """Nothing is ready and nothing is scheduled: whoever awaits something would wait for ever."""


class _Selector:
    """Stands where a selector would: there are no sockets, so a wait is time that passes."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Idle("no timer is set and nothing is ready")
        self._loop.passed += timeout
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """asyncio's own loop, on a clock that jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0
        self._selector = _Selector(self)

    def time(self) -> float:
        return self.passed

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody else's thread ever wakes this loop."""
