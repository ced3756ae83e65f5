"""One short transaction: begun, repeated while the database says "again", or given up.

Repeating happens after the ``atomic`` block was left, because a statement that MySQL rolled
back is not yet a transaction that it rolled back. A transaction inside the caller's own is
never repeated: what was done before it would be lost, so its error is the caller's.

Longer than other modules because when to repeat is one decision over all that can go wrong.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, Union

from django.db import InterfaceError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Now
from django.utils import timezone

from django_hookflow.core.transitions import Fenced, JournalUnavailable
from django_hookflow.exceptions import ConfigurationError
from django_hookflow.journals.base import CrashPoint
from django_hookflow.journals.orm_errors import (
    REPEATS,
    REPEATS_WITHOUT_CONNECTION,
    Trouble,
    trouble,
)
from django_hookflow.journals.orm_idle import journal_queries
from django_hookflow.journals.orm_settings import exact_only

logger = logging.getLogger("django_hookflow.journals")

R = TypeVar("R")

#: The journal's now: a ``datetime``, or an expression that the database evaluates.
Moment = Any


class RolledBack(Exception):
    """Leaves a transaction without a write; ``answer`` is what it found instead."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer


class DatabaseNow(Now):
    """The database's own clock, in UTC whatever its server's zone is."""

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)


def _never(error: BaseException) -> bool:
    return False


class Transactions:
    """Transactions on one alias, by one clock, with named crash points."""

    def __init__(
        self,
        alias: Union[str, Callable[[], str]],
        clock: Union[Callable[[], Any], None],
        crash: CrashPoint,
    ) -> None:
        self._alias = alias
        self._clock = clock
        self._crash = crash

    @property
    def alias(self) -> str:
        return self._alias() if callable(self._alias) else self._alias

    @property
    def connection(self) -> BaseDatabaseWrapper:
        return connections[self.alias]

    def now(self) -> Moment:
        """A virtual clock's time, or the database's.

        SQLite has no clock but this machine's, and reads it in milliseconds; what it would
        compare is text in microseconds.
        """
        exact_only(self.connection)
        if self._clock is not None:
            return self._clock()
        return timezone.now() if self.connection.vendor == "sqlite" else DatabaseNow()

    def in_transaction(self) -> bool:
        """Whether the caller opened ``atomic``; the blocks of Django's TestCase do not count."""
        blocks: list[Any] = self.connection.atomic_blocks
        return any(not block._from_testcase for block in blocks)

    def run(
        self,
        name: str,
        body: Callable[[], R],
        *,
        durable: bool = True,
        landed: Union[Callable[[], Union[R, None]], None] = None,
        foreign: Callable[[BaseException], bool] = _never,
        patience: timedelta = timedelta(0),
    ) -> R:
        """Call ``body`` in a transaction; repeat it when the database asks for that.

        ``landed`` is called after a COMMIT of unknown outcome: it looks whether it took
        effect, and returns the answer or ``None``. Not ``durable`` ones join a transaction of
        the caller. ``foreign`` tells which errors user code raised: these are raised on as
        they are, unless they ask for a repeat. ``patience`` is how long a database that is away
        is waited for before that is said: what a step did need not be given up while nobody
        else can take its lease. An empty ``name`` passes no crash points.
        Raises ``JournalUnavailable`` when repeating did not help.
        """
        self._point(name, "before")
        if not durable and self.in_transaction():
            answer = body()
            self._point(name, "inside")
        else:
            once = partial(self._once, name, body, durable)
            answer = self._repeated(once, landed, foreign, patience)
        self._point(name, "after")
        return answer

    def _point(self, name: str, place: str) -> None:
        if name:
            self._crash(f"{name}:{place}")

    def read(self, query: Callable[[], R]) -> R:
        """One SELECT outside of a transaction."""

        def once(attempt: _Attempt) -> R:
            self._connect(attempt)
            return query()

        return self._repeated(once, None, _never, timedelta(0))

    def _repeated(
        self,
        once: Callable[[_Attempt], R],
        landed: Union[Callable[[], Union[R, None]], None],
        foreign: Callable[[BaseException], bool],
        patience: timedelta,
    ) -> R:
        repeats = _Repeats(patience)
        unknown = False
        while True:
            attempt = _Attempt()
            try:
                with journal_queries():
                    return _attempted(partial(once, attempt), landed if unknown else None)
            except (OperationalError, InterfaceError) as error:
                kind, theirs = trouble(error, self.connection.vendor), foreign(error)
                if theirs and kind in {Trouble.NEITHER, Trouble.BUSY}:
                    raise
                self._give_up_or_go_on(error, kind, repeats, attempt, theirs)
                unknown = unknown or (attempt.committing and kind is Trouble.LOST)
            time.sleep(repeats.pause())

    def _give_up_or_go_on(
        self, error: Exception, kind: Trouble, repeats: _Repeats, attempt: _Attempt, theirs: bool
    ) -> None:
        nested = self.connection.in_atomic_block
        if kind is Trouble.LOST and not nested:
            self.connection.close()
        used_up = repeats.used_up(kind, connected=attempt.connected, patient=not theirs)
        # Inside a test's transaction a savepoint does not undo what the error undid.
        if used_up or nested:
            raise JournalUnavailable(f"the journal's database: {error}") from error

    def _connect(self, attempt: _Attempt) -> None:
        connection = self.connection
        connection.ensure_connection()
        attempt.connected = True
        if not connection.in_atomic_block and not connection.get_autocommit():
            raise ConfigurationError(
                f"the database {connection.alias!r} is not in autocommit mode, so nothing that "
                "is written there is committed: leave AUTOCOMMIT at True in DATABASES and use "
                "transaction.atomic() instead of set_autocommit(False)"
            )

    def _once(self, name: str, body: Callable[[], R], durable: bool, attempt: _Attempt) -> R:
        with self._begin(durable, attempt):
            answer = body()
            self._point(name, "inside")
            attempt.committing = True
        return answer

    @contextmanager
    def _begin(self, durable: bool, attempt: _Attempt) -> Iterator[None]:
        connection = self.connection
        self._connect(attempt)
        block = transaction.atomic(using=connection.alias, durable=durable)
        outermost = not connection.in_atomic_block
        with _immediately(connection):
            block.__enter__()
        try:
            if outermost:
                connection.on_commit(attempt.commit)  # the first hook to be called
            yield
        except BaseException as error:
            block.__exit__(type(error), error, error.__traceback__)
            raise
        try:
            block.__exit__(None, None, None)
        except Exception:
            if not attempt.committed:
                raise
            # The commit stands; it was a hook of user code, registered without robust=True.
            logger.exception("an on_commit hook of a step raised")


def _attempted(once: Callable[[], R], landed: Union[Callable[[], Union[R, None]], None]) -> R:
    """Make one attempt; ``landed`` is given when an earlier one may have committed.

    It is asked again when the attempt found nothing to do, not the moment for it, or its fence
    gone: a COMMIT that was on its way when its connection broke may have come through after the
    first look.
    """
    if landed is not None and (found := landed()) is not None:
        return found
    vain = False
    try:
        answer = once()
    except RolledBack as instead:
        answer, vain = instead.answer, True
    except Fenced:
        if landed is None or (found := landed()) is None:
            raise
        return found
    if (vain or not answer) and landed is not None and (found := landed()) is not None:
        return found
    return answer


class _Repeats:
    """How often one transaction was repeated, and how long it may be yet."""

    def __init__(self, patience: timedelta) -> None:
        self._patient_until = time.monotonic() + patience.total_seconds()
        self._counts = {Trouble.AGAIN: 0, Trouble.LOST: 0, Trouble.BUSY: 0}
        self._refused = 0

    def used_up(self, kind: Trouble, *, connected: bool, patient: bool) -> bool:
        """Whether ``kind`` was one too many; without a connection patience goes further."""
        if kind is Trouble.NEITHER:
            return True
        self._counts[kind] += 1
        self._refused += not connected
        if kind is Trouble.AGAIN:
            return self._counts[kind] > REPEATS
        enough = self._counts[Trouble.LOST] > REPEATS or self._refused > REPEATS_WITHOUT_CONNECTION
        if not (enough or kind is Trouble.BUSY):
            return False
        return not patient or time.monotonic() >= self._patient_until

    def pause(self) -> float:
        """Seconds: doubling from about 10 ms, so that two that met do not meet again."""
        chance = random.uniform(0.2, 1.0)  # noqa: S311  # jitter is no secret
        return float(chance * 0.01 * 2 ** min(sum(self._counts.values()), 8))


class _Attempt:
    """How far one attempt at a transaction came."""

    def __init__(self) -> None:
        self.connected = False
        self.committing = False
        self.committed = False

    def commit(self) -> None:
        self.committed = True


@contextmanager
def _immediately(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Make SQLite's BEGIN take the write lock at once, on every version of Django.

    Deferred, a transaction that reads first fails at its first write when another one wrote
    meanwhile (1,230 errors in a race; 0 with IMMEDIATE).
    """
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    begin = "_start_transaction_under_autocommit"
    setattr(connection, begin, lambda: connection.cursor().execute("BEGIN IMMEDIATE"))
    try:
        yield
    finally:
        delattr(connection, begin)
