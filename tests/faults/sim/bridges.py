"""The engine's bridges without asgiref: everything runs in the order that the seed gives.

Journal and ``def`` steps are called on the loop's own thread, with virtual time before and
after, where other hosts get their turn. A ``def`` body has a thread of its own, but never runs
beside the loop: one of the two always waits for the other, so nothing depends on the machine.
"""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from django_hookflow.engine.hops import Hops


class Host(Protocol):
    """What a bridge asks of the process that it is in."""

    async def turn(self) -> None:
        """Let time pass; raises if the process has died meanwhile."""


@dataclass(frozen=True)
class Ask:
    """The body's thread wants this awaited on the loop."""

    fn: Callable[..., Coroutine[Any, Any, Any]]
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Ended:
    """The body's thread is over."""

    value: Any = None
    error: BaseException | None = None


class SimHops(Hops):
    """The bridges of one simulated delivery."""

    def __init__(self, host: Host, journal: Any) -> None:
        super().__init__(journal, _no_pool)
        self._host = host
        self._asked: queue.SimpleQueue[Ask | Ended] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Ended] = queue.SimpleQueue()

    async def prepare(self) -> None:
        """Nothing is pinned, and no connection is anybody's to give back."""

    async def own(self, fn: Callable[..., Any], *args: Any) -> Any:
        await self._host.turn()
        value = fn(*args)
        await self._host.turn()
        return value

    async def slowly(self, fn: Callable[..., Any], *args: Any) -> Any:
        return await self.own(fn, *args)

    async def side(self, fn: Callable[..., Any], *args: Any) -> Any:
        return await self.own(fn, *args)

    async def meanwhile(self, waiting: Coroutine[Any, Any, Any]) -> Any:
        return await waiting

    async def body(self, fn: Callable[[], Any]) -> Any:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self._whole, fn), daemon=True)
        thread.start()
        try:
            return await self._serve()
        finally:
            thread.join()

    def back(self, fn: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        self._asked.put(Ask(fn, args))
        answer = self._answers.get()
        if answer.error is not None:
            raise answer.error
        return answer.value

    def _whole(self, fn: Callable[[], Any]) -> None:
        try:
            ended = Ended(value=fn())
        except BaseException as error:
            ended = Ended(error=error)
        self._asked.put(ended)

    async def _serve(self) -> Any:
        cut: BaseException | None = None
        while isinstance(asked := self._asked.get(), Ask):
            if cut is not None:  # the delivery is gone; a body that asks on is told so again
                self._answers.put(Ended(error=cut))
                continue
            try:
                answer = Ended(value=await asked.fn(*asked.args))
            except BaseException as error:
                answer = Ended(error=error)
                cut = error if isinstance(error, asyncio.CancelledError) else None
            self._answers.put(answer)
        if cut is not None or asked.error is not None:
            raise cut or asked.error
        return asked.value


def _no_pool() -> Any:
    raise AssertionError("a simulated delivery has no pool")
