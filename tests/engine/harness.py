"""A world for engine tests: the real driver over the in-memory journal and transport.

Time is real time plus what was skipped: a wait for nothing but time is skipped at once, a
wait beside executing steps is real.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from asgiref.sync import ThreadSensitiveContext

from django_hookflow.core.callbacks import Ticket
from django_hookflow.core.codec import JSONCodec
from django_hookflow.core.entries import TERMINAL, RunStatus
from django_hookflow.core.hints import hint_of
from django_hookflow.core.messages import Wake, parse_message
from django_hookflow.core.retry import RetryPolicy
from django_hookflow.core.transitions import (
    Cancel,
    Pause,
    Resume,
    Resumed,
    Retry,
    SendEvent,
    Signalled,
    Trigger,
)
from django_hookflow.engine.calls import CallClients
from django_hookflow.engine.driver import Answer, Driver, Limits
from django_hookflow.engine.leases import LeaseKeeper
from django_hookflow.engine.publishing import cancel_orphans, publish_owed
from django_hookflow.engine.suspending import StopSign
from django_hookflow.journals.base import no_crash
from django_hookflow.journals.memory import MemoryJournal
from django_hookflow.transports.memory import MemoryTransport

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


class SkippingClock:
    """Real time plus what was skipped."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.skipped = 0.0

    def monotonic(self) -> float:
        return time.monotonic() - self._began + self.skipped

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def skip(self, seconds: float) -> None:
        self.skipped += max(0.0, seconds)

    async def wait(self, event: asyncio.Event, seconds: float | None, *, busy: bool) -> None:
        if not busy and seconds is not None:
            self.skip(seconds)
            return
        waiter = asyncio.ensure_future(event.wait())
        await asyncio.wait({waiter}, timeout=seconds)
        waiter.cancel()


def url_of(ticket: Ticket) -> str:
    """The URL of a callback as far as the engine knows it: all of the ticket, unsigned."""
    facts = (ticket.run.hex, ticket.generation, ticket.key, ticket.expires_at.isoformat())
    return "/".join(map(str, (*facts, ticket.confirm)))


class Function:
    """A workflow as the driver sees it."""

    version = ""

    def __init__(
        self,
        fn: Any,
        retry: RetryPolicy | None = None,
        *,
        on_failure: Any = None,
        timeout: timedelta | None = None,
    ) -> None:
        self.fn = fn
        self.workflow_id = fn.__qualname__
        self.retry = retry
        self.on_failure = on_failure
        self.timeout = timeout
        self.is_async = asyncio.iscoroutinefunction(fn)
        self.result_hint = hint_of(fn)

    def __call__(self, ctx: Any) -> Any:
        return self.fn(ctx)


class World:
    """One process's engine; ``restart`` makes another over the same journal."""

    #: Whether what things cost is what the contract says: not where messages double and fail.
    usual = True
    transport_class = MemoryTransport
    journal_class = MemoryJournal

    def __init__(self, crash: Any = no_crash, **limits: Any) -> None:
        self.clock = SkippingClock()
        self.journal = self.journal_class(self.clock.now, crash=crash)
        self.transport = self.transport_class()
        self.workflows: dict[str, Function] = {}
        self.events: list[Any] = []
        self.answers: list[Answer] = []
        self.messages = 0
        self.limits = Limits(
            **{
                "delivery_seconds": 20.0,
                "lease": timedelta(seconds=60),
                "max_value_bytes": 1 << 20,
                "max_delay": timedelta(days=7),
                "threads": 8,
                "retry": RetryPolicy(jitter=False),
                **limits,
            }
        )
        self._executor = ThreadPoolExecutor(max_workers=8)
        self.driver = self._driver()

    def _driver(self) -> Driver:
        return Driver(
            journal=self.journal,
            transport=self.transport,
            find=lambda workflow_id, version: self.workflows.get(workflow_id),
            codec=JSONCodec,
            limits=lambda: self.limits,
            pool=lambda: self._executor,
            keeper=self.make_keeper(),
            clock=self.clock,
            observe=self.events.append,
            clients=CallClients(),
            callback_url=url_of,
        )

    def make_keeper(self) -> Any:
        return LeaseKeeper(self.journal, lambda: self.limits.lease)

    def workflow(self, fn: Any, **more: Any) -> Function:
        """Register a workflow, to be triggered or invoked."""
        made = self.workflows[fn.__qualname__] = Function(fn, **more)
        return made

    def cancel(self, id: Any, *, compensate: bool = True) -> Any:
        """What ``run.cancel`` does."""
        answer = self.journal.cancel(Cancel(id=id, compensate=compensate))
        orphaned = cancel_orphans(
            self.journal, self.journal.orphans(limit=100, of=[id]), compensate=compensate
        )
        parent = self.journal.look(id).parent
        for each in (id, *([] if parent is None else [parent]), *orphaned):
            self.publish(each)
        return answer

    #: A policy that tries once.
    once = RetryPolicy(max_attempts=1)

    def retry(self, id: Any) -> Any:
        """What ``run.retry`` does."""
        workflow = self.workflows[self.row(id).workflow_id]
        answer = self.journal.retry(Retry(id=id, timeout=workflow.timeout))
        self.publish(id)
        return answer

    def trigger(
        self,
        fn: Any,
        data: Any = None,
        *,
        run_id: str | None = None,
        delay: timedelta = timedelta(0),
        **more: Any,
    ) -> Any:
        workflow = self.workflow(fn, **more)
        id = uuid.uuid4()
        self.journal.trigger(
            Trigger(
                id=id,
                run_id=run_id or str(id),
                workflow_id=workflow.workflow_id,
                version="",
                seed=secrets.randbits(60),
                data=JSONCodec().encode({} if data is None else data),
                timeout=workflow.timeout,
                delay=delay,
            )
        )
        self.publish(id)
        return id

    def publish(self, id: Any) -> None:
        """What somebody does who has just made the run owe a wake-up."""
        publish_owed(self.journal, self.transport, [id], max_delay=self.limits.max_delay)

    def send_event(self, id: Any, name: str, data: Any = None, **more: Any) -> Any:
        """What ``run.send_event`` does."""
        payload = JSONCodec().encode(data)
        answer = self.journal.send_event(SendEvent(id=id, name=name, payload=payload, **more))
        if isinstance(answer, Signalled) and answer.owed:
            self.publish(id)
        return answer

    def pause(self, id: Any) -> Any:
        """What ``run.pause`` does."""
        return self.journal.pause(Pause(id=id))

    def resume(self, id: Any) -> Any:
        """What ``run.resume`` does."""
        answer = self.journal.resume(Resume(id=id))
        if isinstance(answer, Resumed):
            self.publish(id)
        return answer

    async def deliver(
        self, run: Any, wake: int, stop: StopSign | None = None, **options: Any
    ) -> Answer:
        async with ThreadSensitiveContext():  # as the view does
            answer = await self.driver.deliver(run, wake, stop=stop or StopSign(), **options)
        self.answers.append(answer)
        return answer

    async def deliver_next(self) -> Answer:
        """Deliver the oldest message, skipping its delay; redeliver it on a 503."""
        message = self.transport.messages.pop(0)
        self.messages += 1
        self.clock.skip(message.delay)
        wake = _wake(message)
        while True:
            answer = await self.deliver(wake.run, wake.number)
            if answer.status != 503:
                return answer
            self.clock.skip(answer.retry_after or 12)

    async def drain(self, limit: int = 50) -> None:
        """Deliver until no message is left."""
        for _ in range(limit):
            if not self.transport.messages:
                return
            await self.deliver_next()
        raise AssertionError(f"still messages after {limit} deliveries")

    async def rest(self, skip: float = 0, limit: int = 400) -> None:
        """Let so many seconds pass, then deliver until every run has ended or waits."""
        self.clock.skip(skip)
        for _ in range(limit):
            busy = {run.id for run in self.journal.runs() if not self._waits(run)}
            if not busy:
                return
            messages = self.transport.messages
            message = next((m for m in messages if _wake(m).run in busy), None)
            if message is None:
                self.sweep()
                continue
            messages.remove(message)
            messages.insert(0, replace(message, delay=0))
            await self.deliver_next()
        raise AssertionError(f"not at rest after {limit} deliveries")

    def _waits(self, run: Any) -> bool:
        if run.status in TERMINAL or run.status is RunStatus.PAUSED:
            return True
        due = run.due_at is not None and run.due_at <= self.clock.now() + timedelta(seconds=2)
        unseen = any(not event.seen for event in self.journal.events(run.id))
        return run.lease_until is None and run.owed_at is None and not due and not unseen

    def sweep(self) -> None:
        """Nothing is ever lost in this world."""
        raise AssertionError("a run is not at rest, and there is no message for it")

    def run(self, fn: Any, data: Any = None, **more: Any) -> Any:
        """Trigger and drive to the end; returns the run's row."""

        async def whole() -> Any:
            id = self.trigger(fn, data, **more)
            await self.drain()
            return id

        return self.row(asyncio.run(whole()))

    def row(self, id: Any) -> Any:
        """The run's row, its result decoded."""
        [found] = [run for run in self.journal.runs() if run.id == id]
        return Row(found)

    def steps(self) -> list[Any]:
        """The journal of the only run, in the order of outcomes."""
        [run] = self.journal.runs()
        return sorted(self.journal.steps(run.id), key=lambda step: step.seq or 1 << 60)


def _wake(message: Any) -> Wake:
    wake = parse_message(message.body.encode())
    assert isinstance(wake, Wake)
    return wake


class Row:
    """A run's row with its result decoded."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)

    @property
    def result(self) -> Any:
        text = self._run.result
        return None if text is None else JSONCodec().decode(text)
