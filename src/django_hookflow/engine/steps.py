"""``ctx.step`` of an ``async def`` workflow: every step's one implementation.

A method checks its arguments, makes a :class:`~django_hookflow.engine.plans.Plan` and awaits
its outcome. Nothing here executes anything. ``sync.py`` is the facade for ``def`` workflows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar, Union, overload

from django_hookflow.core.codec import digest
from django_hookflow.core.entries import Kind
from django_hookflow.core.hints import hint_of
from django_hookflow.core.moments import check_moment
from django_hookflow.core.requests import Request, check_event_name, check_step_id
from django_hookflow.core.retry import RetryPolicy
from django_hookflow.core.showing import show
from django_hookflow.core.transitions import CALLBACK, EVENT
from django_hookflow.engine.callables import callable_of, is_async, qualified_name, unwrap
from django_hookflow.engine.callbacks import Callback, Callbacks, check_callback, check_confirm
from django_hookflow.engine.calls import CallResponse, HttpCall, origin
from django_hookflow.engine.children import Invocable, child_of, is_invocable
from django_hookflow.engine.mapping import (
    check_concurrency,
    check_items,
    check_tolerance,
    side_by_side,
)
from django_hookflow.engine.ordered import ordered
from django_hookflow.engine.place import refuse_inside_step
from django_hookflow.engine.plans import (
    AtomicFunction,
    Function,
    Mailbox,
    Plan,
    StepOptions,
    Timer,
    Undo,
    Work,
)
from django_hookflow.engine.requesting import (
    check_body,
    check_headers,
    check_key,
    check_method,
    check_params,
    check_url,
)
from django_hookflow.engine.scheduler import Scheduler
from django_hookflow.engine.suiting import check_suits
from django_hookflow.engine.undoing import Compensation, check_undoable, undo_of
from django_hookflow.exceptions import WorkflowDefinitionError

P = ParamSpec("P")
R = TypeVar("R")

NO_OPTIONS = StepOptions()

#: A body that goes on asking after so many refusals at its suspension would never end.
MAX_REFUSALS = 100

#: Longer waits would leave the range of ``datetime``.
MAX_SLEEP = timedelta(days=365 * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The durable steps of one run; see the methods.

    Every method awaits the step's outcome, which is recorded once and is what every replay
    sees. ``step_id`` has 1 to 200 characters and may repeat: the n-th request of one id is
    ``step_id#n``.
    """

    _scheduler: Scheduler
    _default_retry: RetryPolicy
    _callbacks: Callbacks
    _options: StepOptions = NO_OPTIONS

    def options(
        self,
        *,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        compensate: Compensation | None = None,
    ) -> Steps:
        """The same steps with these options; ``timeout`` is seconds per attempt.

        ``compensate`` is an importable function, or ``(fn, *args)``: when the run later fails
        or is cancelled, it is called as ``fn(result, *args)`` in a durable step of its own,
        newest step first, with ``None`` for a step whose outcome is unknown. What would have no
        meaning for a step is refused: a ``timeout`` for one that waits, and a ``timeout`` or
        ``retry`` for a child, whose workflow says that itself.

        A timeout cancels an ``async def`` step; a ``def`` step runs on a bounded thread and
        its late result is discarded (its effect may still happen).
        """
        if retry is not None and not isinstance(retry, RetryPolicy):
            raise TypeError(f"retry is a RetryPolicy, not {show(retry)}")
        if timeout is not None:
            _check_seconds("timeout", timeout)
        merged = StepOptions(
            retry=retry or self._options.retry,
            timeout=self._options.timeout if timeout is None else float(timeout),
            undo=self._options.undo if compensate is None else self._undo(compensate),
        )
        return replace(self, _options=merged)

    def _undo(self, compensate: Compensation) -> Undo:
        executor = self._scheduler.executor
        return undo_of(compensate, executor.codec, executor.max_value_bytes)

    @overload
    async def run(
        self, step_id: str, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def run(
        self, step_id: str, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @ordered
    async def run(self, step_id: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run ``fn`` once and record its outcome.

        ``fn`` is a ``def`` or ``async def`` function or a django-qstash task. Its effect may
        repeat, under the same idempotency key, if the process dies before the record. Raises
        :class:`~django_hookflow.exceptions.StepFailed` when its attempts are used up.
        """
        return await self._run(step_id, fn, args, kwargs)

    async def _run(
        self, step_id: str, fn: Any, args: Any, kwargs: Any, *, exact: bool = False
    ) -> Any:
        work = Function(
            fn=callable_of(_check_callable(fn)),
            args=args,
            kwargs=kwargs,
            is_async=is_async(fn),
            hint=self._undoable(step_id, hint_of(unwrap(fn))),
        )
        return await self._ask(
            step_id, Kind.RUN, qualified_name(fn), (args, kwargs), work, exact=exact
        )

    @ordered
    async def atomic(
        self, step_id: str, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run ``fn`` and record its outcome in one database transaction: exactly once.

        ``fn`` is a ``def`` function that writes through the ORM on the journal's alias. It
        may be called again after a deadlock, but commits once. Takes no timeout.
        """
        if is_async(_check_callable(fn)):
            raise WorkflowDefinitionError(
                f"atomic({show(step_id)}): {qualified_name(fn)} is async def, and Django's "
                "transactions are sync: make it def, or use ctx.step.run"
            )
        work = AtomicFunction(
            fn=callable_of(fn),
            args=args,
            kwargs=kwargs,
            hint=self._undoable(step_id, hint_of(unwrap(fn))),
        )
        return await self._ask(  # type: ignore[no-any-return]  # decoded by fn's annotation
            step_id, Kind.ATOMIC, qualified_name(fn), (args, kwargs), work
        )

    @ordered
    async def sleep(self, step_id: str, seconds: Union[float, timedelta]) -> None:
        """Wait for so many seconds (or a ``timedelta``), of any length, holding nothing.

        Never ends early by the database's clock.
        """
        if not isinstance(seconds, timedelta):
            _check_seconds("seconds", seconds)
            seconds = timedelta(seconds=seconds)
        if not timedelta(0) <= seconds <= MAX_SLEEP:
            raise ValueError(f"seconds is 0 s to 1000 years, not {show(seconds)}")
        await self._ask(step_id, Kind.SLEEP, "", seconds, Timer(until=seconds))

    @ordered
    async def sleep_until(self, step_id: str, when: datetime) -> None:
        """Wait until ``when``, an aware ``datetime``; a naive one is a :class:`ValueError`."""
        until = check_moment("when", when)
        await self._ask(step_id, Kind.SLEEP, "", when, Timer(until=until))

    @ordered
    async def wait_for_event(
        self, step_id: str, event: str, timeout: Union[float, timedelta, None] = None
    ) -> Any:
        """The payload of the next event of that name that is sent to this run.

        One that was sent before the wait counts, first in, first out; each is received once.
        ``timeout`` is seconds or a ``timedelta``; when none has come by then,
        :class:`~django_hookflow.exceptions.EventTimeout`. Without one it waits for ever.
        """
        work = Mailbox(source=EVENT, name=check_event_name(event), timeout=_check_patience(timeout))
        return await self._ask(step_id, Kind.EVENT, event, timeout, work)

    @ordered
    async def callback(
        self,
        step_id: str,
        expires: Union[float, timedelta] = timedelta(days=7),
        *,
        confirm: str | None = None,
    ) -> Callback:
        """A URL under which somebody can answer this run, once: ``url``, ``expires_at``.

        Nothing is recorded: every replay makes the same one. ``expires`` is seconds or a
        ``timedelta`` from ``ctx.now()``. With ``confirm``, a question of 1 to 200 characters, the
        URL opened in a browser shows a page with that question and a button, which answers
        ``{"confirmed": true}``; what is in the URL can be read by whoever has it.
        """
        await self._admit(step_id)
        step_id, question = check_step_id(step_id), check_confirm(confirm)
        lifetime = _check_duration("expires", expires)
        return self._callbacks.make(step_id, self._scheduler.handed_at + lifetime, question)

    @ordered
    async def wait_for_callback(
        self, cb: Callback, timeout: Union[float, timedelta, None] = None
    ) -> Any:
        """The JSON that was first posted to ``cb.url``, also if that was before this wait.

        ``timeout`` is seconds or a ``timedelta``. When nothing has come by then, or when the URL
        has expired, :class:`~django_hookflow.exceptions.EventTimeout`, and later answers are
        refused. Each callback is waited for once.
        """
        work = Mailbox(
            source=CALLBACK,
            name=check_callback(cb).mailbox,
            timeout=_check_patience(timeout),
            until=cb.expires_at,
        )
        with self._callbacks.waiting(cb):
            return await self._ask(cb.step_id, Kind.CALLBACK, cb.key, timeout, work)

    @ordered
    async def call(
        self,
        step_id: str,
        url: str,
        method: str = "GET",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        timeout: float = 15,
        idempotency_key: Union[str, bool, None] = None,
        raise_for_status: bool = True,
    ) -> CallResponse:
        """One HTTP request; returns ``status_code``, ``headers`` and ``data``.

        ``body``: a dict or list is sent as JSON, str and bytes as they are. Sends an
        ``Idempotency-Key`` (its own, or the one given; ``False``: none). ``timeout`` is
        seconds for the whole attempt. Transport errors, 408, 425, 429 and 5xx are retried,
        honouring ``Retry-After``; another 4xx raises
        :class:`~django_hookflow.exceptions.CallFailed` at once, unless ``raise_for_status``
        is False. Redirects are not followed.
        """
        _check_seconds("timeout", timeout)
        if not isinstance(raise_for_status, bool):
            raise TypeError(f"raise_for_status is True or False, not {show(raise_for_status)}")
        work = HttpCall(
            method=check_method(method),
            url=check_url(url),
            body=check_body(body),
            headers=check_headers(headers),
            params=check_params(params),
            timeout=float(timeout),
            idempotency_key=check_key(idempotency_key),
            raise_for_status=raise_for_status,
        )
        seen = (work.method, work.url, body, headers, params)
        plain = await self._ask(step_id, Kind.CALL, f"{work.method} {origin(url)}", seen, work)
        assert isinstance(plain, CallResponse), "the scheduler decodes calls"
        return plain

    @ordered
    async def invoke(
        self,
        step_id: str,
        workflow: Invocable,
        data: Any = None,
        run_id: str | None = None,
    ) -> Any:
        """Start a run of ``workflow`` and wait for what it returns.

        It is a run like any other, with this one as its parent: cancelling the parent cancels
        it. Without a ``run_id`` it has one of its own, the same whatever is repeated. Raises
        :class:`~django_hookflow.exceptions.ChildFailed` when the child fails or is cancelled.
        """
        return await self._invoke(step_id, workflow, data, run_id, exact=False)

    async def _invoke(
        self, step_id: str, workflow: Any, data: Any, run_id: str | None, *, exact: bool
    ) -> Any:
        executor = self._scheduler.executor
        work = child_of(
            workflow, data, run_id, parent=executor.run, codec=executor.codec,
            limit=executor.max_value_bytes,
        )  # fmt: skip
        self._undoable(step_id, work.hint)
        seen = (work.start.data, run_id)
        return await self._ask(step_id, Kind.CHILD, work.start.workflow_id, seen, work, exact=exact)

    @ordered
    async def map(
        self,
        step_id: str,
        fn_or_workflow: Any,
        items: Iterable[Any],
        *,
        concurrency: int = 10,
        tolerate: Union[int, float] = 0,
    ) -> list[Any]:
        """A function: one step for each item; a workflow: one child run for each item.

        At most ``concurrency`` side by side; results in the order of ``items``. The n-th item's
        step is ``step_id[n]``, from 0, and compares its item on replay. More failures than
        ``tolerate`` (a number, or a fraction below 1 of all items) raise the first of them,
        and nothing more is started; within it, the result of a failed item is its exception.
        """
        given = check_items(items)
        check_step_id(step_id)
        if given:
            check_step_id(f"{step_id}[{len(given) - 1}]")  # before the first has begun
        most = check_tolerance(tolerate, len(given))
        is_workflow = is_invocable(fn_or_workflow)
        if not is_workflow:
            _check_callable(fn_or_workflow)

        async def one(place: int) -> Any:
            name, item = f"{step_id}[{place}]", given[place]
            if is_workflow:
                return await self._invoke(name, fn_or_workflow, item, None, exact=True)
            return await self._run(name, fn_or_workflow, (item,), {}, exact=True)

        return await side_by_side(
            one, len(given), concurrency=check_concurrency(concurrency), tolerate=most
        )

    async def _together(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What ``gather`` of a ``def`` workflow does; an ``async def`` one has asyncio's."""

        async def one(place: int) -> Any:
            name, fn, *args = calls[place]
            return await self._run(name, fn, tuple(args), {})

        return await side_by_side(one, len(calls), concurrency=len(calls) or 1, tolerate=0)

    def _undoable(self, step_id: str, hint: Any) -> Any:
        """The annotation of what a step returns, if its compensation can be given that."""
        check_undoable(self._options.undo, hint, step_id)
        return hint

    async def _admit(self, step_id: str) -> None:
        """Refuse what is asked for at the wrong place or at the wrong time."""
        scheduler = self._scheduler
        if scheduler.closing:
            scheduler.refusals += 1
            if scheduler.refusals > MAX_REFUSALS:
                await scheduler.loop.create_future()  # a bare except in a loop: nobody resumes it
            raise asyncio.CancelledError("the run is suspended; nothing durable starts now")
        refuse_inside_step(f"step {show(step_id)}")
        if asyncio.get_running_loop() is not scheduler.loop:
            raise WorkflowDefinitionError(
                f"step {show(step_id)} was asked for outside the workflow's own body"
            )

    async def _ask(
        self,
        step_id: str,
        kind: Kind,
        call: str,
        args: Any,
        work: Work,
        *,
        exact: bool = False,
    ) -> Any:
        await self._admit(step_id)
        request = Request(
            step_id=check_step_id(step_id),
            kind=kind,
            call=call,
            args_sha=digest((args,), {}),
            exact=exact,
        )
        check_suits(self._options, step_id, work)
        undo = self._options.undo
        plan = Plan(
            request=request,
            work=work,
            retry=self._options.retry or self._default_retry,
            timeout=self._options.timeout,
            undo="" if undo is None else undo.to_text(),
        )
        return await self._scheduler.request(plan)


def _check_callable(fn: Any) -> Callable[..., Any]:
    if is_invocable(unwrap(fn)):
        raise TypeError(
            f"a step takes a function, and {show(fn)} is a workflow, which would run without a "
            'journal of its own: use ctx.step.invoke("id", workflow, data), or ctx.step.map for '
            "several side by side"
        )
    if not callable(fn):
        raise TypeError(
            f"a step takes a function and its arguments, not {show(fn)}: "
            'write ctx.step.run("id", fn, arg), without calling fn'
        )
    return fn  # type: ignore[no-any-return]


def _check_patience(timeout: Union[float, timedelta, None]) -> Union[timedelta, None]:
    return None if timeout is None else _check_duration("timeout", timeout)


def _check_duration(name: str, duration: Union[float, timedelta]) -> timedelta:
    if not isinstance(duration, timedelta):
        _check_seconds(name, duration)
        duration = timedelta(seconds=duration)
    if not timedelta(0) <= duration <= MAX_SLEEP:
        raise ValueError(f"{name} is 0 s to 1000 years, not {show(duration)}")
    return duration


def _check_seconds(name: str, seconds: Any) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name} is a number of seconds, not {show(seconds)}")
    if not 0 <= seconds <= MAX_SLEEP.total_seconds():
        raise ValueError(
            f"{name} is a number of seconds >= 0, at most 1000 years, not {show(seconds)}"
        )
