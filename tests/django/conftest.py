import math
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_hookflow import wakes


@pytest.fixture(autouse=True)
def no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after no other runs: those looks come by the clock, and cost queries."""
    monkeypatch.setattr(wakes._turn, "_last", math.inf)


@pytest.fixture(params=["plain", "awaited"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """``call(run, "cancel")``: the method, or its awaitable twin, of a run or a queryset."""

    def do(on: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        if request.param == "plain":
            return getattr(on, name)(*args, **kwargs)
        return async_to_sync(getattr(on, "a" + name))(*args, **kwargs)

    return do
