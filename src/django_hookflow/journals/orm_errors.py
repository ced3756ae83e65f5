"""Which errors of a database mean "the same once more": one table of codes."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Union

from django.db import InterfaceError, OperationalError


class Trouble(Enum):
    """What an error of the database asks for."""

    AGAIN = "again"  # rolled back: the same once more
    LOST = "lost"  # no connection: what became of a COMMIT is unknown
    BUSY = "busy"  # the pool had none in its time: nothing was sent, and waiting was done
    NEITHER = "neither"


#: SQLSTATE on PostgreSQL, error number on MySQL and MariaDB, primary code on SQLite.
CODES: dict[Union[str, int], Trouble] = {
    "40001": Trouble.AGAIN,  # serialization failure
    "40P01": Trouble.AGAIN,  # deadlock
    "55P03": Trouble.AGAIN,  # lock timeout
    "57P01": Trouble.LOST,  # the server is being shut down
    "57P02": Trouble.LOST,
    "57P03": Trouble.LOST,  # it is starting
    "57P05": Trouble.LOST,  # idle for longer than the server allows
    "25P03": Trouble.LOST,  # the same, in a transaction
    "53300": Trouble.LOST,  # too many connections
    1213: Trouble.AGAIN,  # deadlock
    1205: Trouble.AGAIN,  # lock timeout
    1020: Trouble.AGAIN,  # record has changed since last read
    1053: Trouble.LOST,  # the server is being shut down
    1927: Trouble.LOST,  # the connection was killed
    1040: Trouble.LOST,  # too many connections
    2002: Trouble.LOST,
    2003: Trouble.LOST,
    2006: Trouble.LOST,
    2013: Trouble.LOST,
    2055: Trouble.LOST,
    4031: Trouble.LOST,  # the server closed a connection that was idle
    5: Trouble.AGAIN,  # SQLITE_BUSY
    6: Trouble.AGAIN,  # SQLITE_LOCKED
}

#: Also for connections that turn out to be dead: a pool may have several of them.
REPEATS = 8
#: Connecting may take long each time, and somebody waits for the answer.
REPEATS_WITHOUT_CONNECTION = 2


def trouble(error: BaseException, vendor: str) -> Trouble:
    """What ``error`` asks for; by its code, never by its text where there is a code."""
    if isinstance(error, InterfaceError):
        return Trouble.LOST
    if not isinstance(error, OperationalError):
        return Trouble.NEITHER
    cause = error.__cause__ or error
    if vendor == "sqlite":
        return _sqlite_trouble(cause)
    if vendor == "mysql":
        return CODES.get(cause.args[0] if cause.args else 0, Trouble.NEITHER)
    if isinstance(cause, _pools_errors()):
        return Trouble.BUSY
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if state is None or state.startswith("08"):
        return Trouble.LOST  # psycopg has no code for a connection that went away
    return CODES.get(state, Trouble.NEITHER)


def _pools_errors() -> tuple[type[BaseException], ...]:
    # Whoever uses a pool has imported its module; it is an extra of psycopg.
    module = sys.modules.get("psycopg_pool")
    return () if module is None else (module.PoolTimeout, module.TooManyRequests)


def _sqlite_trouble(cause: BaseException) -> Trouble:
    if sys.version_info >= (3, 11):
        return CODES.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF, Trouble.NEITHER)
    # Python 3.10 does not give the code away.
    return Trouble.AGAIN if "locked" in str(cause) else Trouble.NEITHER
