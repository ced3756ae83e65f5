"""Blocking calls that end on time for their caller, whatever they wait for.

httpx bounds each read and each connect, not their sum, and a name server that does not
answer not at all. So a blocking call runs on a thread that can be left behind.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

#: How many calls may hang at once in one process; the next ones wait for a place, on time.
PLACES = 32

_places = threading.BoundedSemaphore(PLACES)


def start(call: Callable[[], T]) -> Future[T]:
    """Run ``call`` on a thread of its own; never waits for the thread at exit."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # from here on nobody who waits can cancel it

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            # Raised again by whoever asks for the result.
            future.set_exception(error)

    # In the caller's context, so that traces of the request belong to it.
    inside = contextvars.copy_context()
    # A daemon: at exit nobody waits for a name server. A pool would also not survive a fork.
    thread = threading.Thread(target=inside.run, args=(run,), name="hookflow-call", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # no more threads, or the interpreter is ending
        future.set_exception(error)
    return future


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of ``call``; raises ``TimeoutError`` when it takes longer than ``seconds``."""
    if not _places.acquire(timeout=seconds):
        raise TimeoutError(f"{PLACES} earlier calls are still hanging")
    future = start(call)
    future.add_done_callback(lambda _: _places.release())
    return _result(future, seconds)


def _result(future: Future[T], seconds: float) -> T:
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    # Not future.result(timeout=...): its TimeoutError could be the call's own.
    if not done.wait(seconds):
        raise TimeoutError(f"no answer within {seconds:g} s")
    return future.result()
