"""The composition root: settings -> journal + transport + driver, made on first use.

Everything that starts, delivers, controls or sweeps runs goes through :data:`runtime`. It
sits below ``workflow`` and loads the ORM journal and the QStash transport by their dotted
paths, so that importing the package touches no models.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any, Protocol, cast
from uuid import UUID

from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import connections
from django.utils.module_loading import import_string

from django_hookflow.conf import options
from django_hookflow.core.identifiers import uuid7
from django_hookflow.core.ports import ValueCodec
from django_hookflow.core.transitions import Conflict, JournalUnavailable, Trigger
from django_hookflow.engine.calls import CallClients
from django_hookflow.engine.driver import Driver, Limits
from django_hookflow.engine.hops import Hops
from django_hookflow.engine.leases import LeaseKeeper
from django_hookflow.engine.place import refuse_in_body
from django_hookflow.engine.publishing import (
    apublish_owed,
    find_work,
    publish_owed,
)
from django_hookflow.engine.time import SystemClock
from django_hookflow.exceptions import ConfigurationError, RunConflict, TransportError
from django_hookflow.journals.base import Journal
from django_hookflow.registry import registry
from django_hookflow.signals import log_event
from django_hookflow.transports.base import Transport
from django_hookflow.transports.keys import KeyConfig, SigningKeys
from django_hookflow.transports.qstash import PublishConfig

logger = logging.getLogger("django_hookflow.runtime")

JOURNAL = "django_hookflow.journals.orm.OrmJournal"
#: How often a process looks for other runs' owed and overdue wake-ups, in seconds.
SWEEP_EVERY = 15.0
#: What one opportunistic look sends at most.
SWEEP_SHARE = 20
#: The mark that the ``sweep`` command leaves.
SWEEP_MARK = "sweep"

RUN_ID = re.compile(r"[A-Za-z0-9._:@/-]{1,128}", re.ASCII)


class Startable(Protocol):
    """What starting a run needs of a workflow."""

    workflow_id: str
    version: str


class Runtime:
    """What this process runs workflows with."""

    @cached_property
    def journal(self) -> Journal:
        """The journal in the project's database."""
        return cast("Journal", import_string(JOURNAL)(lambda: options.database))

    @property
    def transport(self) -> Transport:
        """The transport that the settings name."""
        return _transport(options.transport)

    @property
    def codec(self) -> ValueCodec:
        """The codec that the settings name."""
        return _codec(options.codec)

    @cached_property
    def keys(self) -> SigningKeys:
        """What deliveries are verified with."""
        return SigningKeys(_key_config)

    @cached_property
    def keeper(self) -> LeaseKeeper:
        """Renews this process's leases."""
        return LeaseKeeper(self.journal, _lease)

    @property
    def driver(self) -> Driver:
        """Delivers wake-ups."""
        return Driver(
            journal=self.journal,
            transport=self.transport,
            find=registry.find,
            codec=lambda: self.codec,
            limits=_limits,
            pool=_pool,
            keeper=self.keeper,
            clock=SystemClock(),
            observe=log_event,
            clients=self._clients,
        )

    @cached_property
    def _clients(self) -> CallClients:
        return CallClients()

    # --- starting runs

    def trigger(
        self,
        workflow: Startable,
        data: Any,
        *,
        run_id: str | None,
        delay: timedelta | None,
        not_before: datetime | None,
    ) -> str:
        """See :meth:`django_hookflow.workflow.Workflow.trigger`."""
        transition = self._transition(workflow, data, run_id, delay, not_before)
        stored = self._store(transition)
        if stored is not None:
            self.journal.on_commit(lambda: self.publish(stored))
        return transition.run_id

    async def atrigger(
        self,
        workflow: Startable,
        data: Any,
        *,
        run_id: str | None,
        delay: timedelta | None,
        not_before: datetime | None,
    ) -> str:
        """See :meth:`django_hookflow.workflow.Workflow.atrigger`."""
        transition = self._transition(workflow, data, run_id, delay, not_before)
        committed = await sync_to_async(self._store_or_defer)(transition)
        if committed is not None:
            await self.apublish(committed)
        return transition.run_id

    def _transition(
        self,
        workflow: Startable,
        data: Any,
        run_id: str | None,
        delay: timedelta | None,
        not_before: datetime | None,
    ) -> Trigger:
        refuse_in_body("starting a run", 'ctx.step.run("...", workflow.trigger, ...)')
        _check_ready()
        _check_start(run_id, delay, not_before)
        id = uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10))
        return Trigger(
            id=id,
            run_id=str(id) if run_id is None else run_id,
            workflow_id=workflow.workflow_id,
            version=workflow.version,
            seed=secrets.randbits(62),
            data=self.codec.encode({} if data is None else data, limit=options.max_value_bytes),
            delay=delay or timedelta(0),
            not_before=not_before,
        )

    def _store(self, transition: Trigger) -> UUID | None:
        """The run's id if it has to be woken; ``None`` if it was there already."""
        try:
            stored = self.journal.trigger(transition)
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

    def _store_or_defer(self, transition: Trigger) -> UUID | None:
        """Store; the id if it is committed now, else it is published on commit."""
        stored = self._store(transition)
        if stored is None:
            return None
        state = {"storing": True, "committed": False}

        def committed() -> None:
            if state["storing"]:
                state["committed"] = True
            else:
                self.publish(stored)

        self.journal.on_commit(committed)
        state["storing"] = False
        return stored if state["committed"] else None

    # --- publishing and sweeping

    def publish(self, run: UUID) -> None:
        """Publish what ``run`` owes, then look after others; failures are logged and owed."""
        until = time.monotonic() + options.publish_timeout
        if self._publish_one(run):
            self._sweep_share(until)

    def _publish_one(self, run: UUID) -> bool:
        try:
            publish_owed(self.journal, self.transport, run, max_delay=options.max_delay)
        except (TransportError, JournalUnavailable) as error:
            logger.warning("the wake-up of run %s stays owed: %s", run, error)
            return False
        return True

    async def apublish(self, run: UUID) -> None:
        """:meth:`publish` from async code."""
        if await self._apublish_one(run, lasting_loop=True):
            await self.sweep_share()

    async def _apublish_one(self, run: UUID, *, lasting_loop: bool) -> bool:
        hops = Hops(self.journal, _pool)
        try:
            await apublish_owed(
                hops,
                self.transport,
                run,
                max_delay=options.max_delay,
                lasting_loop=lasting_loop,
            )
        except (TransportError, JournalUnavailable) as error:
            logger.warning("the wake-up of run %s stays owed: %s", run, error)
            return False
        return True

    def _sweep_share(self, until: float) -> None:
        if not _sweeps.due():
            return
        try:
            runs = find_work(self.journal, limit=SWEEP_SHARE)
        except JournalUnavailable as error:
            logger.warning("nothing was swept: %s", error)
            return
        for run in runs:
            if time.monotonic() > until or not self._publish_one(run):
                break

    async def sweep_share(self, *, lasting_loop: bool = True) -> None:
        """Look after other runs, at most every 15 s per process; for async code."""
        if not _sweeps.due():
            return
        until = time.monotonic() + options.publish_timeout
        try:
            runs = await sync_to_async(find_work)(self.journal, limit=SWEEP_SHARE)
        except JournalUnavailable as error:
            logger.warning("nothing was swept: %s", error)
            return
        for run in runs:
            if time.monotonic() > until:
                break
            if not await self._apublish_one(run, lasting_loop=lasting_loop):
                break

    def sweep(self) -> tuple[int, int]:
        """One whole pass: how many wake-ups were sent, and how many stay owed."""
        runs = find_work(self.journal)
        sent = sum(self._publish_one(run) for run in runs)
        self.journal.mark(SWEEP_MARK)
        return sent, len(runs) - sent

    async def asweep(self, *, lasting_loop: bool) -> tuple[int, int]:
        """:meth:`sweep` from a delivery."""
        runs = await sync_to_async(find_work)(self.journal)
        sent = 0
        for run in runs:
            sent += await self._apublish_one(run, lasting_loop=lasting_loop)
        await sync_to_async(self.journal.mark)(SWEEP_MARK)
        return sent, len(runs) - sent


class _Sweeps:
    """When this process last looked after other runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = float("-inf")

    def due(self) -> bool:
        """Whether it is time; the caller that is told so does it."""
        now = time.monotonic()
        with self._lock:
            if now - self._last < SWEEP_EVERY:
                return False
            self._last = now
            return True

    def reset(self) -> None:
        """The next look is due."""
        with self._lock:
            self._last = float("-inf")


_sweeps = _Sweeps()


@lru_cache(maxsize=8)
def _transport(path: str) -> Transport:
    build: Callable[..., Transport] = import_string(path)
    return build(_publish_config)


@lru_cache(maxsize=8)
def _codec(path: str) -> ValueCodec:
    build: Callable[[], ValueCodec] = import_string(path)
    return build()


def _publish_config() -> PublishConfig:
    return PublishConfig(
        token=options.token,
        base_url=options.qstash_url,
        destination=options.webhook_url,
        retries=options.qstash_retries,
        timeout=options.publish_timeout,
    )


def _key_config() -> KeyConfig:
    current, following = options.current_signing_key, options.next_signing_key
    return KeyConfig(
        # Only fetching keys needs the token: a process that has keys may go without.
        token="" if current or following else options.token,
        base_url=options.qstash_url,
        current=current,
        next=following,
    )


def _lease() -> timedelta:
    return timedelta(seconds=options.lease_seconds)


def _limits() -> Limits:
    return Limits(
        delivery_seconds=options.delivery_seconds,
        lease=_lease(),
        max_value_bytes=options.max_value_bytes,
        max_delay=options.max_delay,
        retry=options.retry,
    )


def _pool() -> ThreadPoolExecutor:
    return _pool_of(options.threads)


@lru_cache(maxsize=4)
def _pool_of(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=threads, thread_name_prefix="hookflow-step")


def _check_ready() -> None:
    """Settings first: nothing is written when the wake-up could not be sent anywhere."""
    if not apps.is_installed("django_hookflow"):
        raise ConfigurationError(
            'django_hookflow is not installed: add "django_hookflow" to INSTALLED_APPS'
        )
    _ = options.token, options.webhook_url


def _check_start(run_id: Any, delay: timedelta | None, not_before: Any) -> None:
    if run_id is not None and not isinstance(run_id, str):
        raise TypeError(f"run_id is a str, not {run_id!r}")
    if run_id is not None and not RUN_ID.fullmatch(run_id):
        raise ValueError(
            f"run_id has 1 to 128 characters out of letters, digits and ._:@/- ; got {run_id!r}"
        )
    if delay is not None and not_before is not None:
        raise ValueError("give delay or not_before, not both")
    if delay is not None and delay < timedelta(0):
        raise ValueError(f"delay is not negative; got {delay!r}")
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


#: This process's runtime.
runtime = Runtime()
