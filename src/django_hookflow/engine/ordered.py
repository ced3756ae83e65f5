"""Step calls as coroutines whose place in a set is their number, not their address.

``asyncio.as_completed`` puts the coroutines that it is given into a set before it makes tasks
of them: by address, the requests of a replay would come in another order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])


class StepCall(Coroutine[Any, Any, Any]):
    """A coroutine with a number."""

    __slots__ = ("__weakref__", "_coro", "_number")

    def __init__(self, coro: Coroutine[Any, Any, Any], number: int) -> None:
        self._coro = coro
        self._number = number

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coro.__await__()

    def send(self, value: Any) -> Any:
        return self._coro.send(value)

    def throw(self, *args: Any) -> Any:
        return self._coro.throw(*args)

    def close(self) -> None:
        self._coro.close()


def ordered(method: F) -> F:
    """Make an ``async def`` method give :class:`StepCall` objects.

    The scheduler numbers them from 1 in every delivery: an order that depends on a number is
    the same on every replay only if the number is.
    """

    @functools.wraps(method)
    def numbered(self: Any, *args: Any, **kwargs: Any) -> StepCall:
        return StepCall(method(self, *args, **kwargs), self._scheduler.next_number())

    return cast("F", numbered)
