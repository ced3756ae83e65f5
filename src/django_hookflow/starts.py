"""Starting a run: what is checked before anything is written, and the row itself."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, Union
from uuid import UUID

from django.apps import apps
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections

from django_hookflow.conf import options
from django_hookflow.core.codec import same_value
from django_hookflow.core.identifiers import check_run_id, uuid7
from django_hookflow.core.moments import check_moment
from django_hookflow.core.ports import ValueCodec
from django_hookflow.core.showing import show
from django_hookflow.core.tags import Given, check_tags
from django_hookflow.core.transitions import Conflict, JournalUnavailable, Trigger, Triggered
from django_hookflow.engine.place import refuse_in_body
from django_hookflow.exceptions import ConfigurationError, RunConflict, SerializationError
from django_hookflow.journals.base import Journal

#: Longer ones would leave the databases' calendar.
MAX_DELAY = timedelta(days=365 * 1000)


@dataclass(frozen=True, slots=True)
class Start:
    """One run to start: what ``trigger`` takes, as an item of ``trigger_many``.

    ``delay`` is seconds or a ``timedelta``; ``tags`` are words by which the run is found.
    """

    data: Any = None
    run_id: str | None = field(default=None, kw_only=True)
    delay: float | timedelta | None = field(default=None, kw_only=True)
    not_before: datetime | None = field(default=None, kw_only=True)
    tags: Given = field(default=None, kw_only=True)


class Startable(Protocol):
    """What starting a run needs of a workflow."""

    workflow_id: str
    version: str
    timeout: timedelta | None


def prepare(workflow: Startable, start: Start, codec: ValueCodec, *, sent: bool = True) -> Trigger:
    """The transition that starts the run; raises before anything is written.

    ``sent`` tells that its wake-up leaves for QStash, which has to be configured then.
    """
    refuse_in_body("starting a run", 'ctx.step.run("...", workflow.trigger, ...)')
    _check_ready(sent)
    return _transition(workflow, start, codec)


def prepare_many(
    workflow: Startable, items: Any, codec: ValueCodec, *, sent: bool = True
) -> list[Trigger]:
    """The transitions of many runs, one for each item; an error names the item by its place."""
    refuse_in_body("starting runs", 'ctx.step.run("...", workflow.trigger_many, ...)')
    _check_ready(sent)
    if isinstance(items, (str, bytes, Mapping, Start)) or not isinstance(items, Iterable):
        raise TypeError(
            f"trigger_many takes a list of data, or of Start(...), not {type(items).__name__}; "
            "for one run write trigger(data)"
        )
    transitions = []
    for place, item in enumerate(items):
        start = item if isinstance(item, Start) else Start(item)
        try:
            transitions.append(_transition(workflow, start, codec))
        except (TypeError, ValueError, SerializationError) as error:
            raise type(error)(f"items[{place}]: {error}") from error
    return transitions


def _transition(workflow: Startable, start: Start, codec: ValueCodec) -> Trigger:
    delay = _checked_delay(start.delay)
    if start.delay is not None and start.not_before is not None:
        raise ValueError("give delay or not_before, not both")
    not_before = _checked_moment(start.not_before)
    _check_arguments(start.run_id, delay)
    id = uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10))
    return Trigger(
        id=id,
        run_id=str(id) if start.run_id is None else start.run_id,
        workflow_id=workflow.workflow_id,
        version=workflow.version,
        seed=secrets.randbits(62),
        data=codec.encode({} if start.data is None else start.data, limit=options.max_value_bytes),
        delay=delay,
        not_before=not_before,
        tags=check_tags(start.tags),
        timeout=workflow.timeout,
    )


def store(journal: Journal, transition: Trigger) -> UUID | None:
    """Write the row; its id if it has to be woken, ``None`` if the run was there already."""
    with _telling():
        stored = journal.trigger(transition)
    return _created(transition, stored)


def store_many(journal: Journal, transitions: Sequence[Trigger]) -> list[UUID]:
    """Write all rows or none; the ids of those that have to be woken."""
    first: dict[str, Trigger] = {}
    for transition in transitions:
        known = first.setdefault(transition.run_id, transition)
        if not same_value(known.data, transition.data):
            raise RunConflict(
                f"run {transition.run_id!r} is asked for twice, with different data; "
                "give each of them a run_id of its own"
            )
    with _telling():
        stored = journal.trigger_many(list(first.values()))
    ids = [_created(t, answer) for t, answer in zip(first.values(), stored, strict=True)]
    return [id for id in ids if id is not None]


@contextmanager
def _telling() -> Iterator[None]:
    """Say what to do when called from async code, or without the tables."""
    try:
        yield
    except SynchronousOnlyOperation as error:
        raise SynchronousOnlyOperation(
            "trigger() was called from async code; write: await workflow.atrigger(...), "
            "or atrigger_many(...) for trigger_many()"
        ) from error
    except Exception as error:
        if _tables_missing(error):
            raise ConfigurationError(
                "django_hookflow's tables are missing: run python manage.py migrate"
            ) from error
        raise


def _created(transition: Trigger, stored: Union[Triggered, Conflict]) -> UUID | None:
    if isinstance(stored, Conflict):
        raise RunConflict(
            f"run {transition.run_id!r} exists already, of workflow "
            f"{stored.workflow_id!r} or with other data; choose another run_id"
        )
    return stored.id if stored.created else None


def committed_or_defer(journal: Journal, publish: Callable[[], None]) -> bool:
    """Whether what was just written is committed; if not, ``publish`` follows the commit.

    Async code publishes by itself what is committed, which its thread could only do blocking.
    """
    state = {"storing": True, "committed": False}

    def committed() -> None:
        if state["storing"]:
            state["committed"] = True
        else:
            publish()

    journal.on_commit(committed)
    state["storing"] = False
    return state["committed"]


def _check_ready(sent: bool) -> None:
    """Settings first: nothing is written when the wake-up could not be sent anywhere."""
    if not apps.is_installed("django_hookflow"):
        raise ConfigurationError(
            'django_hookflow is not installed: add "django_hookflow" to INSTALLED_APPS'
        )
    if sent:
        _ = options.token, options.webhook_url, options.qstash_url, options.qstash_retries
    _ = options.max_delay, options.publish_timeout


def _checked_delay(delay: Any) -> timedelta:
    if delay is None or isinstance(delay, timedelta):
        return delay or timedelta(0)
    if isinstance(delay, bool) or not isinstance(delay, (int, float)):
        raise TypeError(f"delay is seconds or a timedelta, not {show(delay)}")
    if not 0 <= delay <= MAX_DELAY.total_seconds():
        raise ValueError(f"delay is 0 s to 1000 years; got {show(delay)}, negative or longer")
    return timedelta(seconds=delay)


def _checked_moment(not_before: Any) -> datetime | None:
    return None if not_before is None else check_moment("not_before", not_before)


def _check_arguments(run_id: Any, delay: timedelta) -> None:
    if run_id is not None:
        check_run_id(run_id)
    if not timedelta(0) <= delay <= MAX_DELAY:
        raise ValueError(f"delay is 0 s to 1000 years; got {show(delay)}, negative or longer")


def _tables_missing(error: BaseException) -> bool:
    """Whether a database error means that the migrations were not run.

    PostgreSQL and MySQL say so by a code. SQLite has none, but can be asked again.
    """
    database = error.__cause__ if isinstance(error, JournalUnavailable) else error
    cause = getattr(database, "__cause__", None)
    if getattr(cause, "sqlstate", None) == "42P01" or getattr(cause, "args", (0,))[:1] == (1146,):
        return True
    connection = connections[options.database]
    if connection.vendor != "sqlite":
        return False
    table = apps.get_model("django_hookflow", "WorkflowRun")._meta.db_table
    return table not in connection.introspection.table_names()
