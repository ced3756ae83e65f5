"""Keeps an ``atomic`` step to the journal's alias: a write elsewhere would commit by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections

from django_hookflow.exceptions import WorkflowDefinitionError

#: The first words of statements that change something.
WRITES = frozenset(
    {"INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "TRUNCATE", "CREATE", "ALTER", "DROP"}
)


@contextmanager
def writes_only_to(alias: str) -> Iterator[None]:
    """Refuse writes of this thread to any other alias; reads are nobody's business."""
    with ExitStack() as stack:
        for connection in connections.all():
            if connection.alias != alias:
                stack.enter_context(connection.execute_wrapper(_refusing(connection.alias, alias)))
        yield


def _refusing(other: str, alias: str) -> Callable[..., Any]:
    def execute(run: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.lstrip(" \n(").split(None, 1)[0].upper() in WRITES:
            raise WorkflowDefinitionError(
                f"an atomic step writes to the database {other!r}, but it commits with the "
                f"journal on {alias!r}: write there in a step of its own, by ctx.step.run"
            )
        return run(sql, params, many, context)

    return execute
