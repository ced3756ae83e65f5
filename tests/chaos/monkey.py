"""Does what the timeline says, and tells the ledger of each fault before and after it."""

from __future__ import annotations

import heapq
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

from django.db import connections

from tests.chaos.ledger import send
from tests.chaos.scene import Scene, gone
from tests.chaos.timeline import Event

#: A cut goes on until so many connections are broken, or so many seconds are over.
BACKENDS, CUT_SECONDS = 4, 3.0

VICTIMS = """
SELECT pid, application_name FROM pg_stat_activity WHERE datname = current_database()
AND application_name LIKE 'chaos-%%' AND application_name <> %s AND pid <> pg_backend_pid()
"""


class Monkey:
    """One event after the other, in the calling thread; ``counts`` is what was really done."""

    def __init__(
        self, scene: Scene, rng: Random, events: Sequence[Event], start: Callable[[int], None]
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._scene = scene
        self._rng = rng
        self._events = list(events)
        heapq.heapify(self._events)
        self._start = start
        self._began = time.monotonic()
        self._fault = 0

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    @property
    def over(self) -> bool:
        return not self._events

    def act(self, patience: float) -> None:
        """Do what is due within ``patience`` seconds, or sleep that long."""
        until = self.elapsed + patience
        while self._events and self._events[0].at <= until:
            event = heapq.heappop(self._events)
            time.sleep(max(0.0, event.at - self.elapsed))
            self._do(event)
        time.sleep(max(0.0, until - self.elapsed))
        self._scene.server.tend()

    def calm(self) -> None:
        """Let go of what is stopped; nothing else is to come."""
        for event in self._events:
            if event.what == "go on":
                self._do(event)
        self._events = []

    def _do(self, event: Event) -> None:
        faults: dict[str, Callable[[Event], Any]] = {
            "start": lambda event: self._start(event.count),
            "kill": self._kill, "stop": self._stop, "go on": self._go_on, "cut": self._cut,
            "host": self._host, "restart": self._restart,
        }  # fmt: skip
        if event.what in faults:
            faults[event.what](event)
        else:
            self._scene.fault(event.what, event.count)
            self.counts[event.what] += event.count

    # --- faults of processes

    def _kill(self, event: Event) -> None:
        if victim := self._victim(event):
            number = self._tell("fault", "kill", victim)
            _signal(victim, signal.SIGKILL)
            gone(victim)
            self._tell("done", "kill", victim, number)
            self._scene.server.tend()

    def _stop(self, event: Event) -> None:
        if victim := self._victim(event):
            number = self._tell("fault", "stop", victim)
            _signal(victim, signal.SIGSTOP)
            # By a thread: what is stopped may hold a row that this one is waiting for.
            timer = threading.Timer(event.seconds, _signal, (victim, signal.SIGCONT))
            timer.daemon = True
            timer.start()
            back = Event(self.elapsed + event.seconds, "go on", number, pid=victim)
            heapq.heappush(self._events, back)

    def _go_on(self, event: Event) -> None:
        _signal(event.pid, signal.SIGCONT)
        self._tell("done", "stop", event.pid, event.count)

    def _host(self, event: Event) -> None:
        if not self._victim(event):
            return
        # Those too that have just come up, and may be at work, or are stopped.
        victims = {pid: self._tell("fault", "host", pid) for pid in self._scene.server.workers()}
        self._scene.server.kill()
        for pid, number in victims.items():
            gone(pid)
            self._tell("done", "host", pid, number)
        self._scene.server.start()

    def _restart(self, event: Event) -> None:
        self._scene.kill_qstash()
        self.counts["restart"] += 1
        time.sleep(self._rng.uniform(0, 1))
        self._scene.start_qstash()

    def _victim(self, event: Event) -> int:
        """A worker; if there is none just now, 0, and the event comes again a little later."""
        if workers := self._scene.workers():
            return self._rng.choice(workers)
        heapq.heappush(self._events, replace(event, at=self.elapsed + 0.25))
        return 0

    # --- faults of the database

    def _cut(self, event: Event) -> None:
        """Terminate several of the servers' backends, which come and go."""
        if not self._victim(event):
            return
        self.counts["cut"] += 1
        end, left = time.monotonic() + CUT_SECONDS, BACKENDS
        with connections[self._scene.alias].cursor() as cursor:
            while left and time.monotonic() < end:
                cursor.execute(VICTIMS, [f"chaos-{os.getpid()}"])
                found = cursor.fetchall()
                for backend, name in self._rng.sample(found, min(left, len(found))):
                    left -= 1
                    number = self._tell("fault", "backend", pid := int(name.rpartition("-")[2]))
                    cursor.execute("SELECT pg_terminate_backend(%s)", [backend])
                    self._tell("done", "backend", pid, number)
                time.sleep(0.02)

    # --- the ledger

    def _tell(self, kind: str, what: str, pid: int, number: int = 0) -> int:
        if kind == "fault":
            self._fault += 1
            self.counts[what] += 1
            number = self._fault
        send([kind, "", what, 0, "", pid, str(number)])
        return number


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it died meanwhile, or was killed before
        os.kill(pid, number)
