"""Many steps side by side, so many at a time, with ordered results."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any, Union

from django_hookflow.core.showing import show
from django_hookflow.exceptions import SerializationError, StepFailed

#: What one item may do without ending the whole map.
ITEM_FAILURES = (StepFailed, SerializationError)


async def side_by_side(
    one: Callable[[int], Awaitable[Any]], count: int, *, concurrency: int, tolerate: int
) -> list[Any]:
    """``one(0)`` to ``one(count - 1)``; the first failure beyond ``tolerate`` ends it.

    What has not begun by then never does; what executes is recorded, and nobody waits for it.
    """
    places = iter(range(count))
    results: list[Any] = [None] * count
    failures = 0

    async def work() -> None:
        nonlocal failures
        for place in places:  # shared: whoever is free takes the next
            try:
                results[place] = await one(place)
            except ITEM_FAILURES as error:  # noqa: PERF203  # each item fails for itself
                failures += 1
                if failures > tolerate:
                    raise
                results[place] = error

    workers = [asyncio.ensure_future(work()) for _ in range(min(concurrency, count))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
    return results


def check_items(items: Any) -> list[Any]:
    """A list of them, whatever they came in."""
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
        raise TypeError(f"items is a list, not {show(items)}")
    return list(items)


def check_concurrency(concurrency: Any) -> int:
    """How many at a time."""
    if isinstance(concurrency, bool) or not isinstance(concurrency, int):
        raise TypeError(f"concurrency is a whole number, not {show(concurrency)}")
    if concurrency < 1:
        raise ValueError(f"concurrency is at least 1, not {concurrency}")
    return concurrency


def check_tolerance(tolerate: Union[int, float], count: int) -> int:
    """How many items may fail: a number, or a fraction of ``count``."""
    if isinstance(tolerate, bool) or not isinstance(tolerate, (int, float)):
        raise TypeError(
            "tolerate is a whole number of items, or a float from 0.0 to 1.0 as a share of them "
            f"(0.5 for half), not {show(tolerate)}"
        )
    if isinstance(tolerate, float):
        if not 0 <= tolerate <= 1:
            raise ValueError(f"a fraction to tolerate is 0.0 to 1.0, not {show(tolerate)}")
        return math.floor(Fraction(repr(tolerate)) * count)  # 0.29 of 100 is 29
    if tolerate < 0:
        raise ValueError(f"tolerate is at least 0, not {tolerate}")
    return tolerate
