"""Which connections of a thread are idle: those that no code but the journal's has used.

A delivery gives its connection back while a step waits for something else. A step that reads
through a server-side cursor would lose it in the middle, so a connection that the step itself
has used since it began is kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

_journal = threading.local()


@contextmanager
def journal_queries() -> Iterator[None]:
    """What this thread executes in here is the journal's own."""
    depth = getattr(_journal, "depth", 0)
    _journal.depth = depth + 1
    try:
        yield
    finally:
        _journal.depth = depth


class _Watch:
    """An execute wrapper that notes when other code used the connection."""

    def __init__(self) -> None:
        self.used_at = float("-inf")

    def __call__(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        if not getattr(_journal, "depth", 0):
            self.used_at = time.monotonic()
        return execute(sql, params, many, context)


def watch_thread() -> None:
    """Note from now on who uses this thread's connections, on every alias."""
    for connection in connections.all():
        if not any(isinstance(wrapper, _Watch) for wrapper in connection.execute_wrappers):
            connection.execute_wrappers.append(_Watch())


def close_unused(since: float) -> None:
    """Close what nobody else has used since then (``time.monotonic()``), but no transaction."""
    for connection in connections.all(initialized_only=True):
        used = any(
            isinstance(wrapper, _Watch) and wrapper.used_at >= since
            for wrapper in connection.execute_wrappers
        )
        if not used and not connection.in_atomic_block:
            connection.close()
