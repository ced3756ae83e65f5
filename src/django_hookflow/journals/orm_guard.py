"""What user code leaves open on a thread's connections.

The journal's transactions would join a block that a step left open, or run without a commit
where it left autocommit off: the step would be taken for recorded, and nothing would be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.db import connections

from django_hookflow.exceptions import WorkflowDefinitionError

T = TypeVar("T")


def open_blocks() -> set[int]:
    """``atomic`` blocks open on this thread, on every alias; a TestCase's own do not count."""
    return {
        id(block)
        for connection in connections.all(initialized_only=True)
        for block in _users(connection)
    }


def _users(connection: Any) -> list[Any]:
    """The blocks that user code opened; Django marks those of its own TestCase."""
    return [block for block in connection.atomic_blocks if not block._from_testcase]


def guarded(work: Callable[[], T]) -> T:
    """Call ``work``; raise and roll back if it leaves a transaction of its own open."""
    before = open_blocks()
    try:
        return work()
    finally:
        left = [connection for connection in _left_open(before) if _reset(connection)]
        if left:
            names = ", ".join(repr(connection.alias) for connection in left)
            raise WorkflowDefinitionError(
                f"the step left a transaction open on {names} (an atomic() block that was not "
                "left, or set_autocommit(False)); it was rolled back. Use `with atomic():`"
            )


def _left_open(before: set[int]) -> list[Any]:
    found = []
    for connection in connections.all(initialized_only=True):
        entered = any(id(block) not in before for block in _users(connection))
        if entered or not (connection.autocommit or connection.in_atomic_block):
            found.append(connection)
    return [connection for connection in found if connection.connection is not None]


def _reset(connection: Any) -> bool:
    """Roll back by closing; the next use opens a connection as the settings say."""
    if len(_users(connection)) < len(connection.atomic_blocks):
        return False  # not ours to close: the test sees what it left
    connection.in_atomic_block = False
    connection.atomic_blocks.clear()
    connection.savepoint_ids.clear()
    connection.needs_rollback = False
    connection.close()
    return True
