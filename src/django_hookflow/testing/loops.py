"""From a sync test to the kit's coroutines and back, leaving no thread behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from asgiref.sync import AsyncSingleThreadContext, AsyncToSync, async_to_sync

from django_hookflow.testing.errors import HookflowTestError

T = TypeVar("T")


def refuse_in_loop(name: str) -> None:
    """Raise where the test has to await the twin of ``name``."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise HookflowTestError(
        f"{name}() was called from async code; write: await hookflow.a{name}(...)"
    )


def on_own_loop(start: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end on a loop whose thread ends with it.

    asgiref ends the thread of a loop when nothing refers to it any more, and an exception that
    a test looks at later refers to everything below it: hence the context, which ends it now.
    """
    here = AsyncToSync.async_single_thread_context

    async def whole() -> T:
        # For this call only: another loop that a step starts would wait for this one's thread.
        token = here.set(None)  # type: ignore[arg-type]  # as outside of any context
        try:
            return await start()
        finally:
            here.reset(token)

    with AsyncSingleThreadContext():  # type: ignore[no-untyped-call]  # asgiref gives it no types
        return async_to_sync(whole)()
