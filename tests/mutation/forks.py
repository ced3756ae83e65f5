"""One forked process for each trial: whatever a mutant does to it, the next one is not touched."""

import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

#: A mutant may ask for memory without end.
MOST_MEMORY = 4 * 1024**3


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Seconds of processor time, so that a busy machine changes no verdict; and by the clock,
    for what waits for ever.
    """

    cpu: float
    wall: float


@dataclass(frozen=True, kw_only=True)
class Ended:
    """``answer`` is what the work returned, ``None`` if it did not come to that."""

    answer: Any
    timed_out: bool
    seconds: float


def fork_each(
    trials: Sequence[T], work: Callable[[T], Any], limit: Callable[[T], Limit], jobs: int
) -> Iterator[tuple[T, Ended]]:
    """Call ``work`` on each in a process of its own; in the order in which they end."""
    running: dict[int, tuple[T, int, float]] = {}
    waiting = list(reversed(trials))
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                trial = waiting.pop()
                pid, answers = _fork(trial, work, limit(trial))
                running[pid] = trial, answers, time.monotonic()
            pid, status = os.wait()
            trial, answers, began = running.pop(pid)
            yield trial, _ended(status, answers, time.monotonic() - began)
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _ended(status: int, answers: int, seconds: float) -> Ended:
    with os.fdopen(answers, "rb") as pipe:
        written = pipe.read()
    by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return Ended(
        answer=json.loads(written) if written and not by else None,
        timed_out=by in (signal.SIGALRM, signal.SIGPROF),
        seconds=seconds,
    )


def _fork(trial: T, work: Callable[[T], Any], limit: Limit) -> tuple[int, int]:
    answers, mine = os.pipe()
    pid = os.fork()
    if pid:
        os.close(mine)
        return pid, answers
    code = 1
    try:
        os.close(answers)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, limit.cpu)
        signal.setitimer(signal.ITIMER_REAL, limit.wall)
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        os.write(mine, json.dumps(work(trial)).encode())
        code = 0
    finally:
        os._exit(code)  # no clean-up: it is the parent's
