"""Opening the file of ``--db``: an SQLite database of ours, of this schema, for us alone.

Every way in which that fails ends as a ``StoreError`` that says what to do. SQLite's own texts
are quoted, never read: what went wrong is told by what was being done and by error codes.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from django_hookflow.devserver.store import StoreError

__all__ = ["open_database"]

# In the header of the file: whose it is ("hkfq") and what stands in it. A change of the tables
# below is a new number.
APPLICATION = 0x686B_6671
SCHEMA = 2

# Seconds: a server that was told to end may need a moment for it, and its successor waits.
_PATIENCE = 2.0

# SQLite's codes; Python has names for them since 3.11.
_BUSY, _LOCKED = 5, 6

_ELSEWHERE = "Choose another file, or move this one away to start with an empty one"

# ``spec`` and the like are JSON. Bodies stand apart from what changes with every attempt.
_TABLES = """
CREATE TABLE message (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, spec TEXT NOT NULL,
    retried INTEGER NOT NULL, due REAL NOT NULL, cancel_requested INTEGER NOT NULL,
    finished_at REAL
);
CREATE TABLE body (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE deduplication (
    id TEXT PRIMARY KEY, message_id TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE event (
    number INTEGER PRIMARY KEY, time INTEGER NOT NULL, state TEXT NOT NULL, facts TEXT NOT NULL,
    details TEXT NOT NULL
);
CREATE TABLE dead_letter (
    id TEXT PRIMARY KEY, milliseconds INTEGER NOT NULL, number INTEGER NOT NULL,
    message_id TEXT NOT NULL, spec TEXT NOT NULL, body BLOB NOT NULL, status INTEGER NOT NULL,
    headers TEXT NOT NULL, answer BLOB NOT NULL, error TEXT NOT NULL
);
CREATE TABLE record (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
    UNIQUE (kind, name)
);
"""


def open_database(path: Path) -> sqlite3.Connection:
    """A connection that keeps everybody else out until it is closed. Raises ``StoreError``."""
    _check_path(path)
    try:
        # The server's thread need not be the one that opened it; there is never more than one.
        connection = sqlite3.connect(
            path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise StoreError(f"cannot open {path}: {error}. Choose another file") from error
    try:
        _lock(connection, path)
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_path(path: Path) -> None:
    # Looked at from outside only: to open and close the file here would break the locks that
    # another connection of this process holds on it.
    folder = path.parent
    if not folder.is_dir():
        raise StoreError(f"cannot keep {path}: there is no folder {folder}. Create it first")
    if path.exists() and not path.is_file():
        raise StoreError(f"cannot keep {path}: it is no file. Choose another path")
    # SQLite needs the folder too, for the log beside the file.
    for needed in (folder, path):
        if needed.exists() and not os.access(needed, os.W_OK):
            raise StoreError(
                f"cannot keep {path}: {needed} is not writable. "
                "Choose another file, or give this user the right to write"
            )


def _lock(connection: sqlite3.Connection, path: Path) -> None:
    try:
        # Held from the first access until the end, also of a process that is killed. With it
        # the write-ahead log needs no shared memory.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        # Python 3.10 has no codes; there the path was found good, so the lock is what is left.
        code = getattr(error, "sqlite_errorcode", _BUSY)
        if code & 0xFF in (_BUSY, _LOCKED):
            raise StoreError(
                f"{path} is in use, perhaps by another devserver that still runs. "
                f"End that one, or choose another file ({error})"
            ) from error
        raise StoreError(f"cannot write {path}: {error}. Choose another file") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path} is no SQLite database ({error}). {_ELSEWHERE}") from error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    try:
        application, schema, tables = (
            connection.execute(query).fetchone()[0]
            for query in (
                "PRAGMA application_id",
                "PRAGMA user_version",
                "SELECT COUNT(*) FROM sqlite_master",
            )
        )
        _check_header(path, application, schema, tables)
        connection.execute("PRAGMA journal_mode = WAL")
        # A commit survives the end of the process, however it comes; that the machine loses its
        # power is not worth a disk's delay on every publish here.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        if not tables:
            connection.executescript(
                f"BEGIN; {_TABLES} PRAGMA application_id = {APPLICATION};"
                f" PRAGMA user_version = {SCHEMA}; COMMIT;"
            )
    except sqlite3.Error as error:
        raise StoreError(f"cannot use {path}: {error}. {_ELSEWHERE}") from error


def _check_header(path: Path, application: int, schema: int, tables: int) -> None:
    if application != APPLICATION and (application or tables):
        raise StoreError(f"{path} is a database of something else. {_ELSEWHERE}")
    if tables and schema > SCHEMA:
        raise StoreError(
            f"{path} was written by a newer version of django-hookflow "
            f"(schema {schema}, this one knows {SCHEMA}). Install that one, or choose another file"
        )
    if tables and schema != SCHEMA:
        raise StoreError(
            f"{path} has schema {schema}, which this version of django-hookflow does not know "
            f"(it knows {SCHEMA}). {_ELSEWHERE}"
        )
