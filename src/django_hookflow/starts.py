"""Starting a run: what is checked before anything is written, and the row itself."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from django.apps import apps
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections

from django_hookflow.conf import options
from django_hookflow.core.identifiers import uuid7
from django_hookflow.core.ports import ValueCodec
from django_hookflow.core.transitions import Conflict, JournalUnavailable, Trigger
from django_hookflow.engine.place import refuse_in_body
from django_hookflow.exceptions import ConfigurationError, RunConflict
from django_hookflow.journals.base import Journal

#: Longer ones would leave the databases' calendar.
MAX_DELAY = timedelta(days=365 * 1000)
RUN_ID = re.compile(r"[A-Za-z0-9._:@/-]{1,128}", re.ASCII)


class Startable(Protocol):
    """What starting a run needs of a workflow."""

    workflow_id: str
    version: str


def prepare(
    workflow: Startable,
    data: Any,
    codec: ValueCodec,
    *,
    run_id: str | None,
    delay: timedelta | None,
    not_before: datetime | None,
) -> Trigger:
    """The transition that starts the run; raises before anything is written."""
    refuse_in_body("starting a run", 'ctx.step.run("...", workflow.trigger, ...)')
    _check_ready()
    _check_arguments(run_id, delay, not_before)
    id = uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10))
    return Trigger(
        id=id,
        run_id=str(id) if run_id is None else run_id,
        workflow_id=workflow.workflow_id,
        version=workflow.version,
        seed=secrets.randbits(62),
        data=codec.encode({} if data is None else data, limit=options.max_value_bytes),
        delay=delay or timedelta(0),
        not_before=not_before,
    )


def store(journal: Journal, transition: Trigger) -> UUID | None:
    """Write the row; its id if it has to be woken, ``None`` if the run was there already."""
    try:
        stored = journal.trigger(transition)
    except SynchronousOnlyOperation as error:
        raise SynchronousOnlyOperation(
            "trigger() was called from async code; write: await workflow.atrigger(...)"
        ) from error
    except Exception as error:
        if _tables_missing(error):
            raise ConfigurationError(
                "django_hookflow's tables are missing: run python manage.py migrate"
            ) from error
        raise
    if isinstance(stored, Conflict):
        raise RunConflict(
            f"run {transition.run_id!r} exists already, of workflow "
            f"{stored.workflow_id!r} or with other data; choose another run_id"
        )
    return stored.id if stored.created else None


def store_or_defer(
    journal: Journal, transition: Trigger, publish: Callable[[UUID], None]
) -> UUID | None:
    """:func:`store`; the id if it is committed by now, else ``publish`` follows the commit."""
    stored = store(journal, transition)
    if stored is None or not committed_or_defer(journal, lambda: publish(stored)):
        return None
    return stored


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


def _check_ready() -> None:
    """Settings first: nothing is written when the wake-up could not be sent anywhere."""
    if not apps.is_installed("django_hookflow"):
        raise ConfigurationError(
            'django_hookflow is not installed: add "django_hookflow" to INSTALLED_APPS'
        )
    _ = options.token, options.webhook_url, options.qstash_url, options.qstash_retries
    _ = options.max_delay, options.publish_timeout


def _check_arguments(run_id: Any, delay: timedelta | None, not_before: Any) -> None:
    if run_id is not None and not isinstance(run_id, str):
        raise TypeError(f"run_id is a str, not {run_id!r}")
    if run_id is not None and not RUN_ID.fullmatch(run_id):
        raise ValueError(
            f"run_id has 1 to 128 characters out of letters, digits and ._:@/- ; got {run_id!r}"
        )
    if delay is not None and not_before is not None:
        raise ValueError("give delay or not_before, not both")
    if delay is not None and not timedelta(0) <= delay <= MAX_DELAY:
        raise ValueError(f"delay is 0 to 1000 years; got {delay!r}, which is negative or longer")
    if not_before is not None and (
        not isinstance(not_before, datetime) or not_before.utcoffset() is None
    ):
        raise ValueError(f"not_before is an aware datetime; got {not_before!r}")


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
