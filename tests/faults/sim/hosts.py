"""Simulated processes: each with the real engine, its own clock, and its own death."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx

from django_hookflow.core.codec import JSONCodec
from django_hookflow.core.messages import Wake
from django_hookflow.core.retry import RetryPolicy
from django_hookflow.core.transitions import Beat, Cancel, Finish, Invoke, JournalUnavailable
from django_hookflow.engine.driver import Answer, Driver, Limits
from django_hookflow.engine.leases import Lease
from django_hookflow.engine.place import current_step
from django_hookflow.engine.publishing import apublish_owed, find_work
from django_hookflow.engine.suspending import StopSign
from django_hookflow.exceptions import TransportError
from tests.faults.sim import ledger
from tests.faults.sim.bridges import SimHops
from tests.faults.sim.broker import HostTransport

MAX_DELAY = timedelta(days=7)
#: Waits for nearly nothing in a row: a clock that drifts explains a few.
MAX_SPINS = 200


class HostClock:
    """A process's own clock: it starts anywhere and runs a little fast or slow."""

    def __init__(self, loop: Any, offset: float, rate: float) -> None:
        self._loop, self._offset, self._rate = loop, offset, rate
        self._spins = 0

    def monotonic(self) -> float:
        return float(self._offset + self._loop.time() * self._rate)

    async def wait(self, event: asyncio.Event, seconds: float | None, *, busy: bool) -> None:
        waiter = asyncio.ensure_future(event.wait())
        # A real clock moves while it is read; this one would stand still under its resolution.
        timeout = None if seconds is None else max(seconds / self._rate, 1e-4)
        self._spins = 0 if timeout is None or timeout > 1e-3 else self._spins + 1
        if self._spins > MAX_SPINS:
            raise ledger.Violation("a delivery asks again and again without letting time pass")
        await asyncio.wait({waiter}, timeout=timeout)
        waiter.cancel()


class HostJournal:
    """The process's way to the journal: closed when it is dead or the database away."""

    def __init__(self, host: "Host", inner: Any) -> None:
        self._host = host
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def through(*args: Any, **more: Any) -> Any:
            self._host.check_alive()
            if self._host.world.database_away:
                raise JournalUnavailable("away")
            if args and type(args[0]) is Invoke:
                args = (self._host.world.with_child(args[0]), *args[1:])
            self._host.touched = _runs_of(args) or self._host.world.all_runs()
            return found(*args, **more)

        setattr(self, name, through)  # the next time it is found without coming here
        return through


def _runs_of(args: tuple[Any, ...]) -> tuple[UUID, ...]:
    if not args:
        return ()
    first = args[0]
    kind = type(first)
    if kind is UUID:
        return (first,)
    if kind is dict:
        return tuple(first)
    if kind is Beat:
        return tuple(first.held)
    if kind is Cancel:
        return ()  # its parent is told
    if kind is Finish and first.parent is not None:
        return (first.fence.id, first.parent)
    if kind is Invoke:
        return (first.fence.id, first.child.id)
    transition = getattr(first, "fence", first)
    return (transition.id,) if type(getattr(transition, "id", None)) is UUID else ()


class Host:
    """One process from its start to its death."""

    def __init__(self, world: Any, name: str) -> None:
        rng, drift = world.rng, world.faults.drift
        self.world = world
        self.name = name
        self.dead = False
        self.died = asyncio.Event()
        self.frozen_until = 0.0
        self.touched: tuple[UUID, ...] = ()
        self.stops: list[StopSign] = []
        self.journal: Any = HostJournal(self, world.store.journal(self.at))
        clock = HostClock(world.loop, rng.uniform(-1e6, 1e6), 1 + rng.uniform(-drift, drift))
        self.transport = HostTransport(self, world.broker)
        self.driver = Driver(
            journal=self.journal,
            transport=self.transport,
            find=lambda workflow_id, version: world.workflows.get(workflow_id),
            codec=JSONCodec,
            limits=lambda: Limits(
                delivery_seconds=world.delivery_seconds,
                lease=world.lease,
                max_value_bytes=1 << 20,
                max_delay=MAX_DELAY,
                threads=8,
                retry=RetryPolicy(jitter=False),
            ),
            pool=lambda: None,  # type: ignore[arg-type,return-value]  # the bridges need none
            keeper=Keeper(self),  # type: ignore[arg-type]  # a twin without a thread
            clock=clock,
            observe=lambda event: None,
            clients=Clients(self),  # type: ignore[arg-type]  # a twin without a network
            callback_url=lambda ticket: ticket.key,
            hops=lambda journal, pool: SimHops(self, journal),
        )

    # --- life and death

    def check_alive(self) -> None:
        if self.dead:
            raise ledger.Died(self.name)

    def die(self) -> None:
        if not self.dead:
            self.dead = True
            self.died.set()
            self.world.faults.note("death")
            self.world.tell(self.name, "dies")

    def freeze(self, seconds: float) -> None:
        self.frozen_until = self.world.loop.time() + seconds
        self.world.faults.note("freeze")
        self.world.tell(self.name, f"freezes for {seconds:.1f} s")

    def worked(self) -> None:
        """A step's body did its work: the worst moment to lose the lease."""
        self.world.works += 1
        if self.world.faulty and self.world.works in self.world.faults.zombies:
            self.freeze(self.world.lease.total_seconds() * self.world.rng.uniform(1.1, 3))

    async def turn(self) -> None:
        """Let others have a turn; a frozen process goes on when it thaws, a dead one never."""
        self.check_alive()
        await self.world.loop.pause(self.world.lag())
        while (left := self.frozen_until - self.world.loop.time()) > 0:
            await self.world.loop.pause(left)
        self.check_alive()

    def at(self, point: str) -> None:
        """The journal and the transport pass a crash point."""
        self.check_alive()
        if point == "atomic:after":
            self.world.store.committed()
        if point.endswith(":after"):
            try:
                self.world.watch.look(self.touched, point)
            except ledger.Violation as broken:
                self.world.violated(broken)  # the engine takes it for a defect of its own
                raise
        self.world.tell(self.name, point)
        if self.world.strikes(point):
            self.die()
            raise ledger.Died(f"{self.name} at {point}")

    # --- what it does

    async def deliver(self, wake: Wake, patience: float) -> Answer | None:
        """Serve one message; ``None`` when the client gets no answer."""
        ledger.host.set(self)
        stop = StopSign()
        self.stops.append(stop)
        task = asyncio.ensure_future(self.driver.deliver(wake.run, wake.number, stop=stop))
        task.add_done_callback(lambda _: self.stops.remove(stop))
        dying = asyncio.ensure_future(self.died.wait())
        await asyncio.wait({task, dying}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        dying.cancel()
        if self.dead or not task.done():
            if not self.dead:
                stop.stop()  # the client is gone
            task.add_done_callback(_retrieve)
            return None
        return task.result()

    async def publish(self, runs: list[UUID]) -> None:
        hops = SimHops(self, self.journal)
        try:
            await apublish_owed(hops, self.transport, runs, max_delay=MAX_DELAY, lasting_loop=True)
        except (TransportError, JournalUnavailable):
            self.world.faults.note("stayed owed")

    async def sweep(self) -> None:
        try:
            found = await SimHops(self, self.journal).own(find_work, self.journal)
        except JournalUnavailable:
            return
        await self.publish(found)


def _retrieve(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()


class Keeper:
    """The lease keeper as a task of the loop; a dead or frozen process renews nothing."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._beating: dict[int, asyncio.Task[None]] = {}

    def hold(self, lease: Lease) -> None:
        self._beating[id(lease)] = asyncio.ensure_future(self._keep(lease))

    def drop(self, lease: Lease) -> None:
        self._beating.pop(id(lease)).cancel()

    async def _keep(self, lease: Lease) -> None:
        host, duration = self._host, self._host.world.lease
        while not lease.lost:
            await host.world.loop.pause(duration.total_seconds() / 3)
            try:
                await host.turn()
                beat = Beat(held={lease.run: lease.epoch}, lease=duration)
                lease.lost = bool(host.journal.beat(beat))
            except JournalUnavailable:
                continue
            except ledger.Died:
                return


class Clients:
    """Where ``ctx.step.call`` gets its client: one that answers by itself.

    The path is ``/<attempts that fail>/<name>``.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    def current(self) -> httpx.AsyncClient:
        return self._host.world.http

    async def aclose(self) -> None:
        """It is the world's."""


def http_client(book: ledger.Ledger) -> httpx.AsyncClient:
    async def answer(request: httpx.Request) -> httpx.Response:
        # At once: a process that froze in mid-call would rightly count its timeout as an attempt.
        info = current_step()
        assert request.headers["idempotency-key"] == info.idempotency_key
        book.write(info)
        fails, name = request.url.path.strip("/").split("/")
        if info.attempt <= int(fails):
            return httpx.Response(503, json={"error": name})
        return httpx.Response(200, json=[info.step_id, info.occurrence])

    return httpx.AsyncClient(transport=httpx.MockTransport(answer), trust_env=False)
