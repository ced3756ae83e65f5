"""The workflow's own loop, and the private names of asyncio that it stands on."""

import asyncio
import sys

import pytest
from asgiref.sync import sync_to_async

from django_hookflow.engine.loop import FOREIGN_AWAIT, new_loop
from django_hookflow.exceptions import WorkflowDefinitionError


async def drained(coroutine_function):
    """Run on a workflow loop inside a real loop, as a delivery does."""
    loop = new_loop()
    task = loop.create_task(coroutine_function())
    loop.drain()
    return task


def run(coroutine_function):
    return asyncio.run(drained(coroutine_function))


def test_private_names_of_asyncio_exist():
    assert callable(asyncio.tasks._leave_task)
    assert callable(asyncio.tasks._enter_task)
    assert callable(asyncio.events._set_running_loop)
    assert callable(asyncio.events._get_running_loop)


def test_runs_to_quiescence_and_gives_the_outer_loop_back():
    async def outer():
        real = asyncio.get_running_loop()
        current = asyncio.current_task()
        loop = new_loop()
        seen = []
        gate = loop.create_future()

        async def body():
            seen.append(asyncio.get_running_loop() is loop)
            seen.append(await gate)

        task = loop.create_task(body())
        loop.drain()
        assert seen == [True]
        assert not task.done()
        gate.set_result("opened")
        loop.drain()
        assert seen == [True, "opened"]
        assert asyncio.get_running_loop() is real
        assert asyncio.current_task() is current
        await asyncio.sleep(0)

    asyncio.run(outer())


FOREIGN = {
    "asyncio.sleep": lambda: asyncio.sleep(0.1),
    "wait_for": lambda: asyncio.wait_for(new_future(), 5),
    "wait with a timeout": lambda: asyncio.wait([new_future()], timeout=1),
    "to_thread": lambda: asyncio.to_thread(print),
    "sync_to_async": lambda: sync_to_async(print)("x"),
    "open_connection": lambda: asyncio.open_connection("127.0.0.1", 1),
    "create_subprocess_exec": lambda: asyncio.create_subprocess_exec("true"),
}


def new_future():
    return asyncio.get_running_loop().create_future()


async def never():
    await new_future()


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_await_raises_at_once_and_says_what_to_do(name):
    reached = []

    async def body():
        reached.append("before")
        await FOREIGN[name]()
        reached.append("after")

    task = run(body)
    assert task.done()
    with pytest.raises(WorkflowDefinitionError, match=r"ctx\.step\.run") as caught:
        task.result()
    assert str(caught.value) == FOREIGN_AWAIT
    assert reached == ["before"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout came with 3.11")
def test_asyncio_timeout_is_foreign_too():
    async def body():
        async with asyncio.timeout(1):
            await never()

    task = run(body)
    with pytest.raises(WorkflowDefinitionError):
        task.result()


def test_combinators_of_asyncio_work():
    async def body():
        lock, semaphore = asyncio.Lock(), asyncio.Semaphore(1)
        queue: asyncio.Queue[int] = asyncio.Queue()
        ready = asyncio.Event()

        async def one(number):
            async with lock, semaphore:
                await queue.put(number)
                ready.set()
                return number

        results = await asyncio.gather(*(one(n) for n in range(3)))
        await ready.wait()
        done, pending = await asyncio.wait({asyncio.ensure_future(one(9))})
        finished = [await each for each in asyncio.as_completed([one(7)])]
        await asyncio.sleep(0)
        return results, len(done), len(pending), finished, queue.qsize()

    assert run(body).result() == ([0, 1, 2], 1, 0, [7], 5)


def test_a_spinning_body_is_an_error_and_not_a_hang():
    async def body():
        while True:
            await asyncio.sleep(0)

    async def outer():
        loop = new_loop()
        loop.max_turns = 1000  # the default million takes a second
        task = loop.create_task(body())
        with pytest.raises(WorkflowDefinitionError, match="spins"):
            loop.drain()
        loop.close_tasks()
        assert task.cancelled()

    asyncio.run(outer())


def test_closing_unwinds_every_task_and_leaves_no_warning(recwarn):
    unwound = []

    async def body():
        async def branch(name):
            try:
                await never()
            finally:
                unwound.append(name)

        first = asyncio.ensure_future(branch("detached"))
        try:
            await asyncio.gather(branch("a"), branch("b"))
        finally:
            unwound.append("main")
        return first

    async def outer():
        loop = new_loop()
        task = loop.create_task(body())
        loop.drain()
        loop.close_tasks()
        assert task.cancelled()

    asyncio.run(outer())
    assert sorted(unwound) == ["a", "b", "detached", "main"]
    assert not recwarn.list


def test_a_task_that_swallows_its_cancellation_is_left_behind_quietly(recwarn):
    async def body():
        try:
            await never()
        except BaseException:
            await never()

    async def outer():
        loop = new_loop()
        task = loop.create_task(body())
        loop.drain()
        loop.close_tasks()
        assert not task.done()

    asyncio.run(outer())
    assert not [warning for warning in recwarn.list if "destroyed" in str(warning.message)]


def test_eager_tasks_are_started_in_their_turn():
    async def body():
        order = []

        async def child():
            order.append("child")

        extra = {"eager_start": True} if sys.version_info >= (3, 14) else {}
        task = asyncio.get_running_loop().create_task(child(), **extra)
        order.append("parent")
        await task
        return order

    assert run(body).result() == ["parent", "child"]
