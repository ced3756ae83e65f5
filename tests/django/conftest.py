from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync


@pytest.fixture(params=["plain", "awaited"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """``call(run, "cancel")``: the method, or its awaitable twin, of a run or a queryset."""

    def do(on: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        if request.param == "plain":
            return getattr(on, name)(*args, **kwargs)
        return async_to_sync(getattr(on, "a" + name))(*args, **kwargs)

    return do
