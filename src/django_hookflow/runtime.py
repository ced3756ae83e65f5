"""The composition root: settings -> journal + transport + driver, made on first use.

Everything that starts, delivers, controls or sweeps runs goes through :data:`runtime`. It
sits below ``workflow`` and loads the ORM journal and the QStash transport by their dotted
paths, so that importing the package touches no models.

A few lines longer than the habit: it is one class of what a process has one of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any, cast
from uuid import UUID

from asgiref.sync import sync_to_async
from django.utils import timezone
from django.utils.module_loading import import_string

from django_hookflow import tickets
from django_hookflow.conf import Options, options
from django_hookflow.core.callbacks import Ticket
from django_hookflow.core.ports import ValueCodec
from django_hookflow.engine.calls import CallClients
from django_hookflow.engine.driver import Driver, Limits
from django_hookflow.engine.events import Observer
from django_hookflow.engine.leases import LeaseKeeper
from django_hookflow.engine.time import Clock, SystemClock
from django_hookflow.exceptions import ConfigurationError
from django_hookflow.journals.base import Journal
from django_hookflow.registry import registry
from django_hookflow.signals import log_event
from django_hookflow.starts import (
    Start,
    Startable,
    committed_or_defer,
    prepare,
    prepare_many,
    store,
    store_many,
)
from django_hookflow.transports.base import Transport
from django_hookflow.transports.keys import KeyConfig, SigningKeys
from django_hookflow.transports.qstash import PublishConfig
from django_hookflow.wakes import Wakes

JOURNAL = "django_hookflow.journals.orm.OrmJournal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a test puts in the place of this process's own; nothing keeps leases then."""

    journal: Journal
    wakes: Wakes
    clock: Clock
    observe: Observer
    now: Callable[[], datetime] = timezone.now


class Runtime:
    """What this process runs workflows with."""

    def __init__(self) -> None:
        self._parts: Parts | None = None

    @contextmanager
    def replaced(self, parts: Parts) -> Iterator[None]:
        """Run workflows with ``parts``, in the whole process, until the block is left.

        Nothing needs to be set for that: no message leaves for QStash.
        """
        if self._parts is not None:
            raise RuntimeError("the parts are replaced already")
        own = vars(self).pop("journal", None)
        self._parts, self.journal = parts, parts.journal
        try:
            yield
        finally:
            self._parts = None
            del self.journal
            if own is not None:
                self.journal = own

    @property
    def sends(self) -> bool:
        """Whether messages leave for QStash, so that its settings have to be there."""
        return self._parts is None

    @cached_property
    def journal(self) -> Journal:
        """The journal in the project's database."""
        return cast("Journal", import_string(JOURNAL)(lambda: options.database))

    @property
    def transport(self) -> Transport:
        """The transport that the settings name."""
        if self._parts is not None:
            return self._parts.wakes.transport
        return _transport(options.transport)

    @property
    def codec(self) -> ValueCodec:
        """The codec that the settings name."""
        return _codec(options.codec)

    @property
    def wakes(self) -> Wakes:
        """Sends wake-ups."""
        if self._parts is not None:
            return self._parts.wakes
        return Wakes(journal=self.journal, transport=self.transport, pool=_pool)

    @cached_property
    def keys(self) -> SigningKeys:
        """What deliveries are verified with."""
        return SigningKeys(_key_config)

    @cached_property
    def keeper(self) -> LeaseKeeper:
        """Renews this process's leases."""
        return LeaseKeeper(self.journal, _lease)

    def now(self) -> datetime:
        """This process's time, or the virtual one; for what no row is asked about."""
        return timezone.now() if self._parts is None else self._parts.now()

    def callback_url(self, ticket: Ticket) -> str:
        """The public URL of a callback."""
        if self.sends or Options.domain.written()[1] is not None:
            base = options.webhook_url
        else:
            base = f"http://testserver{options.webhook_path}"  # as Django's test client has it
        return f"{base}callback/{tickets.write(ticket)}/"

    @property
    def driver(self) -> Driver:
        """Delivers wake-ups."""
        parts = self._parts
        return Driver(
            journal=self.journal,
            transport=self.transport,
            find=registry.find,
            codec=lambda: self.codec,
            limits=_limits,
            pool=_pool,
            keeper=self.keeper if parts is None else None,
            clock=SystemClock() if parts is None else parts.clock,
            observe=log_event if parts is None else parts.observe,
            clients=self._clients,
            callback_url=self.callback_url,
        )

    @cached_property
    def _clients(self) -> CallClients:
        return CallClients()

    # In all four `wakes` comes first: a wrong transport is told before anything is written.

    def trigger(self, workflow: Startable, start: Start) -> str:
        """See :meth:`django_hookflow.workflow.Workflow.trigger`."""
        wakes = self.wakes
        transition = prepare(workflow, start, self.codec, sent=self.sends)
        stored = store(self.journal, transition)
        if stored is not None:
            self.journal.on_commit(lambda: wakes.publish(stored))
        return transition.run_id

    async def atrigger(self, workflow: Startable, start: Start) -> str:
        """See :meth:`django_hookflow.workflow.Workflow.atrigger`."""
        wakes = self.wakes
        transition = prepare(workflow, start, self.codec, sent=self.sends)

        def write() -> list[UUID]:
            stored = store(self.journal, transition)
            return [] if stored is None else self._committed(wakes, [stored])

        await wakes.apublish(*await sync_to_async(write)())
        return transition.run_id

    def trigger_many(self, workflow: Startable, items: Any) -> list[str]:
        """See :meth:`django_hookflow.workflow.Workflow.trigger_many`."""
        wakes = self.wakes
        transitions = prepare_many(workflow, items, self.codec, sent=self.sends)
        stored = store_many(self.journal, transitions)
        self.journal.on_commit(lambda: wakes.publish(*stored))
        return [transition.run_id for transition in transitions]

    async def atrigger_many(self, workflow: Startable, items: Any) -> list[str]:
        """See :meth:`django_hookflow.workflow.Workflow.atrigger_many`."""
        wakes = self.wakes
        transitions = prepare_many(workflow, items, self.codec, sent=self.sends)

        def write() -> list[UUID]:
            return self._committed(wakes, store_many(self.journal, transitions))

        await wakes.apublish(*await sync_to_async(write)())
        return [transition.run_id for transition in transitions]

    def _committed(self, wakes: Wakes, runs: list[UUID]) -> list[UUID]:
        """``runs`` if they are committed; else nothing, and they are published when they are."""
        return runs if committed_or_defer(self.journal, lambda: wakes.publish(*runs)) else []


@lru_cache(maxsize=8)
def _transport(path: str) -> Transport:
    build: Callable[..., Transport] = _imported("DJANGO_HOOKFLOW_TRANSPORT", path)
    return build(_publish_config)


@lru_cache(maxsize=8)
def _codec(path: str) -> ValueCodec:
    build: Callable[[], ValueCodec] = _imported("DJANGO_HOOKFLOW_CODEC", path)
    return build()


def _imported(setting: str, path: str) -> Any:
    try:
        return import_string(path)
    except ImportError as error:
        raise ConfigurationError(
            f"{setting} = {path!r} cannot be imported ({error}); write the dotted path of a class"
        ) from error


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
        threads=options.threads,
        retry=options.retry,
    )


def _pool() -> ThreadPoolExecutor:
    # A fork has the parent's pool without its threads: what is given to that never runs.
    return _pool_of(options.threads, os.getpid())


@lru_cache(maxsize=4)
def _pool_of(threads: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=threads, thread_name_prefix="hookflow-step")


#: This process's runtime.
runtime = Runtime()
