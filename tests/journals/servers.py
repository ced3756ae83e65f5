"""What happens to connections of a real server: other options, and an end from outside."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper


@contextmanager
def another_connection(alias: str) -> Iterator[BaseDatabaseWrapper]:
    """A second one of this thread, which no code but the test's knows."""
    connection = connections.create_connection(alias)
    try:
        yield connection
    finally:
        connection.close()


def server_side_id(connection: Any) -> int:
    """The number by which the server knows a connection."""
    if connection.vendor == "mysql":
        return int(connection.connection.thread_id())
    return int(connection.connection.info.backend_pid)


ENDS = {
    "mysql": ("KILL CONNECTION %s", "SELECT 1 FROM information_schema.processlist WHERE id = %s"),
    "postgresql": (
        "SELECT pg_terminate_backend(%s)",
        "SELECT 1 FROM pg_stat_activity WHERE pid = %s",
    ),
}


def end_connection(alias: str) -> None:
    """The server ends this thread's connection, as it does when it is shut down."""
    number = server_side_id(connections[alias])
    with another_connection(alias) as other, other.cursor() as cursor:
        kill, alive = ENDS[other.vendor]
        cursor.execute(kill, [number])
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            cursor.execute(alive, [number])
            if cursor.fetchone() is None:
                return
            time.sleep(0.01)
    raise AssertionError("the connection lives on")


@contextmanager
def connected_with(alias: str, **changes: Any) -> Iterator[None]:
    """Every connection of this alias that is opened in here, by any thread, has these options."""
    settings: dict[str, Any] = connections.settings[alias]
    before = settings["OPTIONS"]
    connections[alias].close()
    settings["OPTIONS"] = {**before, **changes}
    try:
        yield
    finally:
        connections[alias].close()
        settings["OPTIONS"] = before


def isolation_levels(alias: str) -> dict[str, dict[str, Any]]:
    """By name, the options that make a server isolate so; the first is Django's default."""
    engine = connections.settings[alias]["ENGINE"].rpartition(".")[2]
    if engine == "postgresql":
        from psycopg import IsolationLevel  # an extra: only there if PostgreSQL is used

        repeatable: dict[str, Any] = {"isolation_level": IsolationLevel.REPEATABLE_READ}
        return {"read committed": {}, "repeatable read": repeatable}
    if engine != "mysql":
        return {"serializable": {}}
    repeatable = {"isolation_level": "repeatable read"}
    # MariaDB's default since 11.6: what moved under the snapshot is an error, as on PostgreSQL.
    snapshot = "SET SESSION innodb_snapshot_isolation = ON"
    levels = {"read committed": {}, "repeatable read": repeatable}
    with another_connection(alias) as connection:
        if connection.mysql_is_mariadb:  # type: ignore[attr-defined]
            levels["snapshot isolation"] = {**repeatable, "init_command": snapshot}
    return levels
