"""One seed: a few runs, a few processes, faults, and the checks at the end."""

import asyncio
import hashlib
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Union
from uuid import UUID

from django_hookflow.core.codec import JSONCodec
from django_hookflow.core.entries import TERMINAL, WINDING_UP, Kind, RunStatus
from django_hookflow.core.messages import Wake
from django_hookflow.core.transitions import (
    Cancel,
    Invoke,
    JournalUnavailable,
    Over,
    Pause,
    Resume,
    Retry,
    SendEvent,
    Trigger,
    Triggered,
)
from tests.faults.sim import ledger
from tests.faults.sim.bridges import SimHops
from tests.faults.sim.broker import Broker
from tests.faults.sim.checks import Watch, check_effects, check_end
from tests.faults.sim.faults import Faults, random_faults
from tests.faults.sim.hosts import Host, http_client
from tests.faults.sim.ledger import Ledger, Violation
from tests.faults.sim.loop import VirtualLoop
from tests.faults.sim.programs import (
    Bodies,
    Fatal,
    Program,
    check_result,
    expected,
    fatal_steps,
    patience,
    random_program,
)
from tests.faults.sim.promises import (
    check_children,
    check_mail,
    check_winding_up,
    is_out_of_time,
)
from tests.faults.sim.stores import MemoryStore, Store
from tests.faults.sim.vocabulary import awaited, enriched

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
#: Virtual seconds after the last fault in which every run must come to its end, but for its sleeps.
SETTLING = 60_000.0
SWEEP_EVERY = 60.0
#: Commits, answers and deaths of one seed; the longest honest ones take a tenth of it.
MOST_EVENTS = 30_000


@dataclass
class SimRun:
    """One run of a seed, and what the world knows about it from outside."""

    id: UUID
    bodies: Bodies
    run_id: str = ""
    parent: Union["SimRun", None] = None
    accepted: bool = False
    cancelled: bool = False
    #: Somebody cancelled it and did not want it undone.
    dropped: bool = False
    retried: bool = False
    #: Its children that were still at work when it was retried.
    at_work: frozenset[UUID] = frozenset()
    #: Its time was what it had failed by when it was retried: a step that had failed before that,
    #: and that it had not come to raise, stays failed.
    was_late: bool = False

    @property
    def name(self) -> str:
        return self.run_id or str(self.id)


@dataclass
class World:
    """Everything of one seed.

    ``make_store`` makes the rows, ``host_count`` is how many processes run. Without ``noise``
    people do only what ``script`` says, at virtual seconds: "event" (one is stored twice),
    "unseen" (one that was left without its signal), "cancel", "drop" (a cancel that undoes
    nothing), "pause", "resume", or "retry" once the run has failed. What people do about what
    the runs of ``others`` ask them for is by a chance of its own.
    """

    seed: int
    rng: random.Random
    faults: Faults
    programs: list[Program]
    make_store: Callable[[Callable[[], datetime]], Store] = MemoryStore
    host_count: int = 2
    lease: timedelta = timedelta(seconds=30)
    delivery_seconds: float = 20.0
    lagging: float = 0.3
    noise: bool = True
    giving_up: float = 0.3
    sweep_every: float = SWEEP_EVERY
    script: tuple[tuple[float, str], ...] = ()
    others: random.Random | None = None
    loop: VirtualLoop = field(default_factory=VirtualLoop)
    ledger: Ledger = field(default_factory=Ledger)
    log: list[tuple[float, str, str]] = field(default_factory=list)
    visits: int = 0
    works: int = 0
    jumped: float = 0.0
    database_away: bool = False

    def __post_init__(self) -> None:
        self.store = self.make_store(self.now)
        self.broker = Broker(self)
        self.watch = Watch(self.store)
        self.http = http_client(self.ledger)
        self.workflows: dict[str, Bodies] = {}
        self.hosts: list[Host] = []
        self.runs: list[SimRun] = []
        self._known: dict[UUID, SimRun] = {}
        self._ids: tuple[UUID, ...] = ()
        self._posted = 0
        self.started = 0
        self.passed: list[str] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._broken: BaseException | None = None

    # --- what everything in it asks

    def now(self) -> datetime:
        """The database's clock."""
        return START + timedelta(seconds=self.loop.time() + self.jumped)

    @property
    def faulty(self) -> bool:
        return self.loop.time() < self.faults.until

    def all_runs(self) -> tuple[UUID, ...]:
        """What a transition that names no run may touch."""
        return self._ids

    def id_of(self, run_id: str) -> UUID:
        """The database's id of a run; of two of one name the one that is there."""
        ids = [run.id for run in self.runs if run.name == run_id]
        return next((id for id in ids if self.store.row(id) is not None), ids[-1])

    def with_child(self, transition: Invoke) -> Invoke:
        """The child under an id that is the same in every process, and known to the checks."""
        start = transition.child
        id = UUID(int=random.Random(f"{start.run_id} {len(self.runs)}").getrandbits(128), version=4)
        parent, bodies = self._known[transition.fence.id], self.workflows[start.workflow_id]
        child = SimRun(id, bodies, run_id=start.run_id, parent=parent, accepted=True)
        self._add(child)
        if self.others is not None:
            self.spawn(self._spoiler(child, self.others))
        return replace(transition, child=replace(start, id=id, seed=id.int >> 70))

    def _add(self, run: SimRun) -> None:
        self.runs.append(run)
        self._known[run.id] = run
        self._ids += (run.id,)

    def lag(self) -> float:
        return float(self.rng.random() ** 6 * self.lagging)

    def tell(self, who: str, what: str) -> None:
        self.log.append((round(self.loop.time(), 6), who, what))
        if len(self.log) > MOST_EVENTS:
            raise Violation("I15: the seed does not come to rest")

    def strikes(self, point: str) -> bool:
        """Whether the process that passes this crash point dies at it."""
        if not self.faulty:
            return False
        self.visits += 1
        self.passed.append(point)
        return self.visits in self.faults.crashes

    def fingerprint(self) -> str:
        """The same for the same seed, on every machine."""
        return hashlib.sha256(repr(self.log).encode()).hexdigest()

    def violated(self, error: BaseException) -> None:
        """The first promise that was broken is what the seed ends with."""
        self._broken = self._broken or error

    def spawn(self, coro: Coroutine[Any, Any, Any]) -> None:
        task = self.loop.create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ledger.Died):
            self.violated(error)

    # --- processes

    def start_host(self) -> Host:
        self.started += 1
        host = Host(self, f"h{self.started}")
        self.hosts.append(host)
        return host

    def any_host(self) -> Host:
        """A living process; one that died is replaced when it is needed."""
        self.hosts = [host for host in self.hosts if not host.dead]
        while len(self.hosts) < self.host_count:
            self.start_host()
        return self.rng.choice(self.hosts)

    async def deliver(self, wake: Wake, patience: float) -> tuple[int, float | None]:
        host = self.any_host()
        if self.faulty and self.rng.random() < self.faults.cut:
            self.faults.note("cut")
            patience = self.rng.random() * 10
        answer = await host.deliver(wake, patience)
        if answer is None:
            return 504, None
        self.tell(host.name, f"answers {answer.status} {answer.note}")
        if answer.status not in {200, 503, 489}:
            raise Violation(f"answered {answer}")
        if answer.note == "delivery broke":
            raise Violation("a delivery broke")
        return answer.status, answer.retry_after

    # --- people

    async def _trigger(self, run: SimRun) -> None:
        """A client that tries again with the same run_id, or gives up."""
        await self.loop.pause(self.rng.random() * 20)
        trigger = Trigger(
            id=run.id,
            run_id=run.name,
            workflow_id=run.name,
            version="",
            seed=self.rng.getrandbits(60),
            data=JSONCodec().encode({}),
            timeout=run.bodies.timeout,
        )
        for _ in range(200):
            host = self.any_host()
            ledger.host.set(host)
            try:
                answer = await SimHops(host, host.journal).own(host.journal.trigger, trigger)
                assert isinstance(answer, Triggered)
                run.accepted = True
                await host.publish([run.id])
                return
            except ledger.Died:
                run.accepted = self.store.row(run.id) is not None
                if self.rng.random() < self.giving_up:
                    return
            except JournalUnavailable:
                await self.loop.pause(5)

    async def _person(self, run: SimRun) -> None:
        """Somebody who sends events nobody waits for, cancels, and retries what failed."""
        rng = self.rng
        while self.noise and self.faulty:
            await self.loop.pause(rng.uniform(1, 60))
            row = self.store.row(run.id)
            if row is None or row.status in TERMINAL:
                break
            if rng.random() < self.faults.cancels:
                run.cancelled = await self._apply("cancel", Cancel(id=run.id)) or run.cancelled
            elif rng.random() < 0.3:
                await self._apply("send_event", SendEvent(id=run.id, name="x", payload="1"))
        while self.noise:
            row = self.store.row(run.id)
            if row is not None and row.status in TERMINAL:
                if row.status is RunStatus.FAILED and rng.random() < 0.7:
                    await self._retry(run)
                return
            await self.loop.pause(600)
            if row is None and not run.accepted:
                return

    async def _scripted(self, run: SimRun) -> None:
        for at, what in self.script:
            await self.loop.pause(max(0.0, at - self.loop.time()))
            if what == "event":
                await self._send(run, "x", f"{at}")
            elif what == "unseen":
                assert self.store.slip(run.id, "x", f"{at}")
            elif what in {"cancel", "drop"}:
                await self._cancel(run, compensate=what == "cancel")
            elif what == "pause":
                await self._insist("pause", Pause(id=run.id))
            elif what == "resume":
                await self._insist("resume", Resume(id=run.id))
            else:
                while (row := self.store.row(run.id)) is None or row.status not in TERMINAL:
                    await self.loop.pause(60)
                await self._retry(run)

    # --- and those who are asked for something

    async def _send(self, run: SimRun, name: str, payload: str) -> None:
        """Until it is known to be there; the sender tells that it is the same one."""
        event = SendEvent(id=run.id, name=name, payload=payload, dedup_id=payload)
        while not self._is_over(run) and not await self._apply("send_event", event):
            await self.loop.pause(5)

    async def _cancel(self, run: SimRun, *, compensate: bool) -> None:
        run.cancelled = True
        run.dropped = run.dropped or not compensate
        await self._insist("cancel", Cancel(id=run.id, compensate=compensate))

    def _is_over(self, run: SimRun) -> bool:
        row = self.store.row(run.id)
        return row is not None and row.status in TERMINAL

    def _ask_for_mail(self, run: SimRun, rng: random.Random) -> None:
        for name, count in awaited(run.bodies.program.ops).items():
            self.spawn(self._mailing(run, name, count, rng))

    async def _mailing(self, run: SimRun, name: str, at_least: int, rng: random.Random) -> None:
        """Send so many events and some more, at any time, some of them twice."""
        for _ in range(at_least + rng.randint(0, 2)):
            await self.loop.pause(rng.choice((0, 0.1, 3, 20, 300)) * rng.random())
            while self.store.row(run.id) is None:
                await self.loop.pause(5)
                if not run.accepted and not self.faulty:
                    return
            self._posted += 1
            payload = str(self._posted)
            if rng.random() < 0.15:
                self.store.slip(run.id, name, payload)
                continue
            for _ in range(rng.choice((1, 1, 2))):
                await self._send(run, name, payload)

    async def _spoiler(self, run: SimRun, rng: random.Random) -> None:
        """Somebody who may cancel it at any time."""
        if rng.random() < (0.35 if run.parent is None else 0.15):
            await self.loop.pause(rng.choice((2, 20, 60, 600)) * rng.random())
            if self.store.row(run.id) is not None and not self._is_over(run):
                await self._cancel(run, compensate=rng.random() < 0.75)

    async def _retry(self, run: SimRun) -> None:
        if any(step.entry.kind is Kind.UNDO for step in self.store.steps(run.id)):
            await self._insist("retry", Retry(id=run.id))  # in vain
            return
        run.bodies.is_healed = run.retried = True
        children = (each for each in self.runs if each.parent is run and not self._is_over(each))
        run.at_work = frozenset(child.id for child in children)
        run.was_late = run.was_late or is_out_of_time(self.store.row(run.id))
        self.faults.note("retry")
        await self._insist("retry", Retry(id=run.id, timeout=run.bodies.timeout))
        if self.others is not None:
            self._ask_for_mail(run, self.others)  # what came when it was over is lost

    async def _insist(self, name: str, transition: Any) -> None:
        while not await self._apply(name, transition):
            await self.loop.pause(30)

    async def _apply(self, name: str, transition: Any) -> bool:
        """Whether it is known to have been applied."""
        host = self.any_host()
        ledger.host.set(host)
        try:
            method = getattr(host.journal, name)
            answer = await SimHops(host, host.journal).own(method, transition)
            await host.publish([transition.id])
            if name == "send_event" and isinstance(answer, Over):
                return answer.status is not None
            if self._known[transition.id].parent is not None and name == "cancel":
                parent = self._known[transition.id].parent
                assert parent is not None
                await host.publish([parent.id])
        except ledger.Died:
            row = self.store.row(transition.id)
            if row is None:
                return False
            if name == "cancel":
                return row.status in {RunStatus.CANCELLED, RunStatus.CANCELLING}
            if name in {"pause", "resume"}:
                return (row.status is RunStatus.PAUSED) is (name == "pause")
            return name == "retry" and row.status is not RunStatus.FAILED
        except JournalUnavailable:
            return False
        return True

    async def _sweeper(self) -> None:
        while True:
            # Long sleeps would be mostly sweeps.
            every = self.sweep_every * (1 if self.faulty else 15)
            await self.loop.pause(every * self.rng.uniform(0.8, 1.2))
            host = self.any_host()
            ledger.host.set(host)
            try:
                await host.sweep()
            except ledger.Died:
                continue

    # --- what goes wrong by the clock

    async def _misfortune(self, at: float, what: Callable[[], Any]) -> None:
        await self.loop.pause(at)
        pause = what()
        if pause is not None:
            await pause

    async def _outage(self, seconds: float) -> None:
        self.faults.note("outage")
        self.database_away = True
        await self.loop.pause(seconds)
        self.database_away = False

    def _jump(self, seconds: float) -> None:
        self.faults.note("jump")
        self.jumped += seconds

    def _stop(self) -> None:
        """A process is asked to end: what it serves stops at the next step."""
        self.faults.note("stop")
        for sign in list(self.any_host().stops):
            sign.stop()

    def _plan(self) -> None:
        faults = self.faults
        for at in faults.kills:
            self.spawn(self._misfortune(at, lambda: self.any_host().die()))
        for at, seconds in faults.freezes:
            freeze = lambda seconds=seconds: self.any_host().freeze(seconds)  # noqa: E731
            self.spawn(self._misfortune(at, freeze))
        for at in faults.stops:
            self.spawn(self._misfortune(at, self._stop))
        for at, seconds in faults.outages:
            self.spawn(self._misfortune(at, lambda seconds=seconds: self._outage(seconds)))
        for at, seconds in faults.jumps:
            self.spawn(self._misfortune(at, lambda seconds=seconds: self._jump(seconds)))

    # --- from beginning to end

    def simulate(self) -> None:
        """Run the seed; raises :class:`Violation`."""
        asyncio.set_event_loop(None)
        self.loop.set_exception_handler(lambda loop, context: None)
        try:
            self.loop.run_until_complete(self._whole())
        finally:
            self._close()

    def _close(self) -> None:
        left = asyncio.all_tasks(self.loop)
        for host in self.hosts:
            host.dead = True
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self.loop.close()

    async def _whole(self) -> None:
        self.store.enter()
        try:
            await self._live()
        finally:
            self.store.leave()

    async def _live(self) -> None:
        for program in self.programs:
            id = UUID(int=self.rng.getrandbits(128), version=4)
            run = SimRun(id, Bodies(program, self.ledger, self.store, str(id)))
            self.workflows.update((each.workflow_id, each) for each in run.bodies.everything())
            self._add(run)
            self.spawn(self._trigger(run))
            self.spawn(self._person(run))
            self.spawn(self._scripted(run))
            if self.others is not None:
                self.spawn(self._spoiler(run, self.others))
                self._ask_for_mail(run, self.others)
        self._plan()
        self.spawn(self._sweeper())
        sleeps = 2 * sum(patience(program.ops) for program in self.programs)
        until = self.faults.until + SETTLING + sleeps
        pause = 10.0
        while self._broken is None and not self._settled() and self.loop.time() < until:
            await self.loop.pause(pause)
            pause = min(pause * 1.2, 3600)
        if self._broken is not None:
            raise self._broken
        for task in self._tasks:
            task.cancel()
        self.faults.until = 0.0
        self.database_away = False
        for host in self.hosts:
            # A late copy of a message may still be at work in one, and would take a run that is
            # opened again to be replayed.
            host.dead = True
            host.died.set()
        for run in self.runs:
            await self._check(run)

    def _settled(self) -> bool:
        # The people come back later than the runs end.
        return not self._people() and all(
            (row := self.store.row(run.id)) is None or row.status in TERMINAL for run in self.runs
        )

    def _people(self) -> bool:
        names = {"World._person", "World._scripted", "World._trigger"}
        names |= {"World._mailing", "World._spoiler"}
        return any(getattr(t.get_coro(), "__qualname__", "") in names for t in self._tasks)

    async def _check(self, run: SimRun) -> None:
        if run.parent is not None and self.store.row(run.id) is None:
            return  # its Invoke never committed
        if not run.accepted:
            if self.store.row(run.id) is not None or self.ledger.of(run.name):
                raise Violation(f"I2: run {run.name} was not accepted, and is there")
            return
        row = check_end(self.store.row(run.id), run.name)
        check_effects(self, row, run.id)
        check_mail(self, row)
        check_children(self, row)
        check_winding_up(self, run, row)
        if row.status is RunStatus.CANCELLED:
            if not run.cancelled and not self._was_left(run):
                raise Violation(f"run {run.name} was cancelled by nobody")
            return
        if is_out_of_time(row):
            if run.bodies.timeout is None:
                raise Violation(f"run {run.name} has no timeout: {row.error}")
            return  # where it stood is a matter of time
        if not self._was_cut(run):
            self._check_result(run, row)
        await self._check_replay(run, row)

    def _was_left(self, run: SimRun) -> bool:
        """Whether its parent went away: it ended or was being cancelled, or was once."""
        parent = None if run.parent is None else self.store.row(run.parent.id)
        return parent is not None and parent.status in TERMINAL

    def _was_cut(self, run: SimRun) -> bool:
        """Whether a run below it was cancelled, which is a failure as any other."""
        below = [self.store.row(each.id) for each in self.runs if each.parent is run]
        return any(row is not None and row.status is RunStatus.CANCELLED for row in below) or any(
            self._was_cut(each) for each in self.runs if each.parent is run
        )

    def _check_result(self, run: SimRun, row: Any) -> None:
        top = run
        while top.parent is not None:
            top = top.parent
        try:
            self._compare(run, row, healed=top.retried)
        except Violation:
            kept = run.was_late or self._was_failed_by(run.at_work)
            if not top.retried or (top is run and not kept):
                raise
            # It ended before the world was healed, or by what had failed by then.
            self._compare(run, row, healed=False)

    def _was_failed_by(self, children: frozenset[UUID]) -> bool:
        rows = map(self.store.row, children)
        return any(row is not None and row.status is RunStatus.FAILED for row in rows)

    def _compare(self, run: SimRun, row: Any, *, healed: bool) -> None:
        try:
            want = expected(run.bodies.program, healed=healed)
        except Fatal as fatal:
            step = row.error and row.error.step
            if row.status is not RunStatus.FAILED or step not in fatal_steps(
                run.bodies.program.ops
            ):
                raise Violation(
                    f"run {run.name} should have failed at {fatal}, it is {row.status}: {row.error}"
                ) from None
            return
        if row.status is not RunStatus.COMPLETED:
            raise Violation(
                f"run {run.name} should have completed, it is {row.status}: {row.error}"
            )
        check_result(want, JSONCodec().decode(row.result))

    async def _check_replay(self, run: SimRun, row: Any) -> None:
        """I12: a replay of the whole journal comes to the same end and executes nothing."""
        host = self.start_host()
        ledger.host.set(host)
        self.ledger.sealed = True
        due = {"due_at": self.now(), "lease_until": None, "result": None, "error": None}
        due["deadline"] = None  # it may be over by now
        if any(step.entry.kind in WINDING_UP for step in self.store.steps(run.id)):
            del due["error"]  # what follows a failure is replayed without the body
        self.store.alter(run.id, status=RunStatus.SUSPENDED, finished_at=None, **due)
        self.watch.forget(run.id)
        await host.driver.deliver(run.id, row.wake_n)
        again = self.store.row(run.id)
        self.ledger.sealed = False
        assert again is not None
        if (again.status, again.result, again.error) != (row.status, row.result, row.error):
            raise Violation(f"I12: replayed, {row} became {again}")


def world_of(seed: int, make_store: Callable[..., Store] = MemoryStore) -> World:
    """The world of a seed: programs, processes, faults, all by chance.

    In every other one runs wait for people and for other runs, and are undone: that is drawn
    from a chance of its own, so that what a seed was before there was such a thing, it still is.
    """
    rng = random.Random(seed)
    world = World(
        seed=seed,
        rng=rng,
        faults=random_faults(rng),
        programs=[random_program(rng) for _ in range(rng.choice((1, 1, 2)))],
        make_store=make_store,
        host_count=rng.randint(1, 3),
        lease=timedelta(seconds=rng.choice((10, 30, 60))),
        delivery_seconds=rng.choice((0.0, 5.0, 20.0, 20.0)),
        lagging=rng.choice((0.01, 0.3, 3.0)),
    )
    others = random.Random(f"vocabulary {seed}")
    if others.random() >= 0.5:
        world.programs = [enriched(program, others) for program in world.programs]
        world.others = others
    return world
