"""Reads runs for a subcommand; what goes wrong becomes a ``CommandError``: what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError
from django.db import Error, connections

from django_hookflow.conf import options
from django_hookflow.core.transitions import JournalUnavailable
from django_hookflow.exceptions import ConfigurationError
from django_hookflow.models import WorkflowRun
from django_hookflow.runtime import runtime

__all__ = ["MIGRATE", "find_run", "journaled", "telling", "to_json"]

MIGRATE = "python manage.py migrate"


@contextmanager
def telling() -> Iterator[None]:
    """Turn a missing setting, a missing table and an unreachable database into ``CommandError``."""
    try:
        yield
    except ConfigurationError as error:
        raise CommandError(str(error)) from error
    except (Error, JournalUnavailable) as error:
        raise CommandError(_trouble(error)) from error


def _trouble(error: Exception) -> str:
    alias = options.database
    told = " ".join(str(error).split())
    try:
        with connections[alias].cursor() as cursor:
            tables = connections[alias].introspection.table_names(cursor)
    except Error:
        return f"The database {alias!r} cannot be reached: {told}"
    if WorkflowRun._meta.db_table not in tables:
        flag = "" if alias == "default" else f" --database {alias}"
        return f"django_hookflow's tables are missing: run {MIGRATE}{flag}"
    return f"The database {alias!r} refused: {told}"


def find_run(name: str) -> WorkflowRun:
    """The run with this ``run_id``; log lines may name it by its key, which is taken too."""
    runs = WorkflowRun.objects.using(options.database)
    run: WorkflowRun | None = runs.filter(run_id=name).first() if _storable(name) else None
    if run is None and (key := _uuid(name)) is not None:
        run = runs.filter(pk=key).first()
    if run is None:
        raise CommandError(
            f"There is no run {name!r} in the database {options.database!r}. "
            "python manage.py hookflow runs lists the newest ones; "
            "--workflow and --status choose among all."
        )
    return run


def _storable(text: str) -> bool:
    # A shell hands over any bytes, which no database takes for text; PostgreSQL takes no NUL.
    return text.encode("utf-8", "replace").decode() == text and "\x00" not in text


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def journaled(value: Any) -> Any:
    """A stored value in JSON types, as the journal has it: what JSON has no word for is tagged."""
    text = value if _is_encoded(value) else runtime.codec.encode(value)
    try:
        return json.loads(text)
    except ValueError:
        return str(text)  # of a codec whose text is not JSON


def _is_encoded(value: Any) -> bool:
    # models.Encoded: a str subclass, which no decoded value is.
    return isinstance(value, str) and type(value) is not str


def to_json(moment: datetime | None) -> str | None:
    """ISO 8601 with microseconds, in UTC."""
    return None if moment is None else moment.isoformat()
