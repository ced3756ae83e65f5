"""A memory of the last things that happened, bounded in number and in bytes.

The event loop appends, any thread may read: this is the one place where the server's thread
and a test's thread meet.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Recent"]

T = TypeVar("T")


class Recent(Generic[T]):
    """The newest items, oldest first; old ones go when there are too many or too large ones."""

    def __init__(self, *, items: int, size: int) -> None:
        self._items: deque[tuple[T, int]] = deque()
        self._most = items
        self._budget = size
        self._size = 0
        self._lock = threading.Lock()

    def append(self, item: T, *, size: int = 0) -> None:
        """Remember ``item``, which keeps about ``size`` bytes alive."""
        with self._lock:
            self._items.append((item, size))
            self._size += size
            while len(self._items) > 1 and (
                len(self._items) > self._most or self._size > self._budget
            ):
                self._size -= self._items.popleft()[1]

    @property
    def oldest(self) -> T | None:
        """The item that goes next, if there is one."""
        with self._lock:
            return self._items[0][0] if self._items else None

    def snapshot(self) -> list[T]:
        """The items as they are now, oldest first."""
        with self._lock:
            return [item for item, _ in self._items]
