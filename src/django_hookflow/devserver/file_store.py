"""Everything in memory and, with every commit, in an SQLite file: see ``database`` for the file.

Reading never touches the file; it is read once, when it is opened.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from django_hookflow.devserver import rows
from django_hookflow.devserver.config import Config
from django_hookflow.devserver.database import open_database
from django_hookflow.devserver.memory_store import Changes, MemoryStore
from django_hookflow.devserver.messages import Phase
from django_hookflow.devserver.store import StoreError

__all__ = ["FileStore"]


class FileStore(MemoryStore):
    """A ``Store`` whose commits survive the process."""

    def __init__(self, config: Config, path: Path) -> None:
        super().__init__(config)
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._oldest_event = 0

    def open(self, now: float) -> None:
        """Take the file and all that is in it; what is over by now is forgotten."""
        self._connection = open_database(self._path)
        try:
            self._load(self._connection)
        except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
            # Rows that no version of us has written.
            self.close()
            raise StoreError(
                f"{self._path} is damaged ({type(error).__name__}: {error}). "
                "Move it away to start with an empty one"
            ) from error
        self._forget_old(now)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def commit(self) -> None:
        connection = self._connection
        if connection is None:
            raise StoreError(f"{self._path} is closed: the server is ending")
        if self._changes == Changes():
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._write(connection)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise StoreError(f"cannot write {self._path}: {error}") from error
        self._oldest_event = self.events.oldest
        super().commit()

    def _write(self, connection: sqlite3.Connection) -> None:
        for message_id in self._changes.messages:
            finished = self._finished.get(message_id)
            rows.write_message(connection, message_id, self.get(message_id), finished)
        for name in self._changes.deduplication_ids:
            rows.write_deduplication_id(connection, name, self._seen.get(name))
        for event in self._changes.events:
            rows.write_event(connection, event)
        for dlq_id in self._changes.dead_letters:
            rows.write_dead_letter(connection, dlq_id, self.dead_letters.get(dlq_id))
        for (kind, name), value in self.unwritten_records().items():
            rows.write_record(connection, kind, name, value)
        # As the log in memory forgets, so does the one in the file.
        if self.events.oldest != self._oldest_event:
            rows.delete_events_before(connection, self.events.oldest)

    def _load(self, connection: sqlite3.Connection) -> None:
        finished: list[tuple[float, str]] = []
        for message, at in rows.read_messages(connection):
            self._take(message)
            if message.phase is Phase.FINISHED:
                finished.append((at or 0.0, message.id))
        self._finished.update((message_id, at) for at, message_id in sorted(finished))
        for name, message_id, expires_at in rows.read_deduplication_ids(connection):
            self._seen[name] = (message_id, expires_at)
        for event in rows.read_events(connection):
            self.events.restore(event)
        for letter in rows.read_dead_letters(connection):
            self.dead_letters.restore(letter)
        for kind, name, value in rows.read_records(connection):
            self._records.setdefault(kind, {})[name] = value
