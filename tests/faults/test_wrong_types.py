"""Wrong types and hostile values to every public function: refused in words, nothing written."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import Client

import django_hookflow
from django_hookflow import HookflowError, RetryAfter, RetryPolicy, Start, current_step, workflow
from django_hookflow.engine.context import BaseContext
from django_hookflow.engine.steps import Steps
from django_hookflow.engine.sync import SyncSteps
from django_hookflow.models import WorkflowEvent, WorkflowRun, WorkflowStep
from django_hookflow.registry import registry
from django_hookflow.workflow import Workflow
from tests.django.harness import drain, hookflow_settings, messages, row

pytestmark = pytest.mark.django_db(transaction=True)

HUGE = 10**5000  # more digits than str() gives
LONG = "x" * 1_000_000


class Mute:
    """An object that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


#: In the place of a string, a number, a flag …: whatever somebody may pass by mistake.
NO_TEXT: tuple[Any, ...] = (None, 5, HUGE, 1.5, math.nan, b"x", ["x"], {"x": 1}, object(), Mute())
NO_NUMBER: tuple[Any, ...] = ("1", b"1", [1], {}, True, object(), Mute(), 1j)
NO_LENGTH = (*NO_NUMBER, -1, math.nan, math.inf, -math.inf, HUGE, -HUGE, 1e300)
NO_FLAG: tuple[Any, ...] = ("no", 0, 1, 2.0, [], object(), Mute())
NO_MOMENT: tuple[Any, ...] = ("2030", 5, HUGE, datetime(2030, 1, 1), timedelta(1), object(), Mute())
NO_POLICY: tuple[Any, ...] = (3, "3", {"max_attempts": 3}, RetryPolicy, object(), Mute())
NO_NAME = (*(value for value in NO_TEXT if value is not None), "", "a\x00", "\ud800", LONG)

Case = tuple[str, Callable[..., Any]]


def cases(name: str, values: tuple[Any, ...], call: Callable[..., Any]) -> list[tuple[str, Any]]:
    return [(f"{name}-{n}", lambda *to, v=value: call(*to, v)) for n, value in enumerate(values)]


def explained(error: BaseException) -> bool:
    """Whether it is one of the allowed kinds and says in short what is allowed."""
    kind = isinstance(error, (TypeError, ValueError, HookflowError))
    text = str(error)
    internal = ("integer string conversion", "not supported between", "unexpected", "no words",
                "too large to convert", "object is not", "has no attribute")  # fmt: skip
    # What cannot be sent is said in the words of what would have to write it.
    ours = " cannot be sent" in text or not any(words in text for words in internal)
    return kind and 10 < len(text) < 1000 and ours


def raised(call: Callable[[], Any]) -> BaseException:
    with pytest.raises(Exception) as caught:  # explained() tells which
        call()
    assert explained(caught.value), repr(caught.value)[:500]
    return caught.value


@workflow(workflow_id="tests.wrong.flow")
def flow(ctx: Any) -> str:
    return "done"


@pytest.fixture(autouse=True)
def project() -> Any:
    with hookflow_settings():
        messages()
        yield
        messages()


def nothing_written() -> bool:
    return not any(m.objects.exists() for m in (WorkflowRun, WorkflowStep, WorkflowEvent))


# --- starting

NO_DATA: tuple[Any, ...] = (
    object(),
    Mute(),
    {1: 2},
    [len],
    {"a": [{"b": Mute()}]},
    flow,
    "x" * 2**21,
)

STARTS: list[tuple[str, Callable[[Any], Any]]] = [
    *cases("data", NO_DATA, lambda start, v: start(v)),
    *cases("run_id", NO_NAME, lambda start, v: start({}, run_id=v)),
    *cases("delay", NO_LENGTH, lambda start, v: start({}, delay=v)),
    *cases("delay-td", (timedelta(-1), timedelta.max), lambda start, v: start({}, delay=v)),
    *cases("not_before", NO_MOMENT, lambda start, v: start({}, not_before=v)),
    (
        "both",
        lambda start: start({}, delay=1, not_before=datetime(2030, 1, 1, tzinfo=timezone.utc)),
    ),
]


def many(data: Any = None, **more: Any) -> Any:
    return flow.trigger_many([{}, Start(data, **more)])


HOW: dict[str, Callable[..., Any]] = {
    "trigger": flow.trigger,
    "atrigger": async_to_sync(flow.atrigger),
    "trigger_many": many,
    "atrigger_many": lambda data, **more: async_to_sync(flow.atrigger_many)(
        [{}, Start(data, **more)]
    ),
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("name", "call"), STARTS, ids=[name for name, _ in STARTS])
def test_starting_with_wrong_arguments_writes_nothing(name: str, call: Any, how: str) -> None:
    error = raised(lambda: call(HOW[how]))
    assert nothing_written()
    assert messages() == []
    if "many" in how:
        assert str(error).startswith("items[1]: ")


NO_ITEMS: tuple[Any, ...] = (
    None,
    5,
    HUGE,
    "abc",
    b"abc",
    {"a": 1},
    Start({}),
    object(),
    Mute(),
    flow,
)


@pytest.mark.parametrize("items", NO_ITEMS, ids=range(len(NO_ITEMS)))
@pytest.mark.parametrize("how", ["trigger_many", "atrigger_many"])
def test_what_is_no_list_of_items_is_refused(items: Any, how: str) -> None:
    start = getattr(flow, how)
    raised(lambda: (async_to_sync(start) if how.startswith("a") else start)(items))
    assert nothing_written()


# --- controlling

CONTROLS: list[tuple[str, Any]] = [
    *cases("cancel", NO_FLAG, lambda run, v: run("cancel", v)),
    *cases("get_result", NO_LENGTH, lambda run, v: run("get_result", v)),
]


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(("name", "call"), CONTROLS, ids=[name for name, _ in CONTROLS])
def test_a_control_with_wrong_arguments_changes_nothing(name: str, call: Any, colour: str) -> None:
    run = row(flow.trigger())
    before = WorkflowRun.objects.values().get()

    def control(method: str, argument: Any) -> Any:
        if colour == "sync":
            return getattr(run, method)(argument)
        return async_to_sync(getattr(run, f"a{method}"))(argument)

    raised(lambda: call(control))
    assert WorkflowRun.objects.values().get() == before


# --- defining

DEFINITIONS: list[tuple[str, Any]] = [
    *cases("fn", (5, "id", HUGE, object(), Mute(), len, int, [flow]), workflow),
    *cases("workflow_id", NO_NAME, lambda v: workflow(workflow_id=v)(lambda ctx: None)),
    *cases("retry", NO_POLICY, lambda v: workflow(retry=v)(lambda ctx: None)),
    *cases(
        "max_attempts",
        (*NO_NUMBER, None, 0, -1, 1.0, math.nan, -HUGE),
        lambda v: RetryPolicy(max_attempts=v),
    ),
    *cases("initial_delay", (None, *NO_LENGTH), lambda v: RetryPolicy(initial_delay=v)),
    *cases("max_delay", (None, *NO_LENGTH), lambda v: RetryPolicy(max_delay=v)),
    *cases("backoff", (None, 0.5, *NO_LENGTH), lambda v: RetryPolicy(backoff=v)),
    *cases("jitter", (None, *NO_FLAG), lambda v: RetryPolicy(jitter=v)),
    *cases(
        "retry_on",
        (None, ValueError, [ValueError], ("ValueError",), (5,), HUGE, Mute(), (Mute(),)),
        lambda v: RetryPolicy(retry_on=v),
    ),
    *cases("give_up_on", (None, ValueError, (int,), Mute()), lambda v: RetryPolicy(give_up_on=v)),
    *cases("RetryAfter", (None, *NO_LENGTH), RetryAfter),
]


@pytest.mark.parametrize(("name", "call"), DEFINITIONS, ids=[name for name, _ in DEFINITIONS])
def test_a_wrong_definition_is_refused(name: str, call: Any) -> None:
    known = list(registry)
    raised(call)
    assert list(registry) == known


def test_outside_of_a_step_there_is_no_current_one() -> None:
    with pytest.raises(LookupError, match="step"):
        current_step()


# --- steps

URL = "http://127.0.0.1:9/"
NO_WORD = (
    *(v for v in NO_TEXT if v is not None),
    "",
    "GE T",
    "GET\r\n",
    "É",
    "a\x00",
    "\ud800",
    LONG,
)
NO_URL = (*NO_TEXT, "", "/path", "ftp://a/", "http://", "http://[", "http://a:99999/", "http://\x00/",
          "http://a/\ud800", "http://a/" + LONG, "file:///etc/passwd")  # fmt: skip
NO_BODY: tuple[Any, ...] = (5, HUGE, 1.5, True, {1, 2}, object(), Mute(), "\ud800", {"a": math.nan},
                            {"a": object()}, {"a": "\ud800"}, [HUGE], {"a": {b"": 1}})  # fmt: skip
NO_HEADERS: tuple[Any, ...] = (
    5, "a: b", [("a", "b")], [HUGE], Mute(), {1: "a"}, {"a": 1}, {"a": None}, {"a": b"x"},
    {"": "a"}, {"a b": "c"}, {"a\r\nb": "c"}, {"é": "c"}, {"a": "b\r\nc"}, {"a": "é"},
    {"a": "b\x00"}, {"a": " b"}, {"a": "\x7f"}, {"a": "\ud800"}, {LONG: "a"}, {"a": Mute()},
)  # fmt: skip
NO_PARAMS: tuple[Any, ...] = (
    5, "a=b", [("a", "b")], Mute(), {1: "a"}, {"a": object()}, {"a": {"b": 1}}, {"a": Mute()},
    {"a": "\ud800"}, {"\ud800": 1}, {"a": HUGE}, {"a": [HUGE]}, {"a": b"x"},
)  # fmt: skip
NO_KEY: tuple[Any, ...] = (
    5,
    1.5,
    HUGE,
    b"x",
    [],
    object(),
    Mute(),
    "",
    "a\r\nb",
    "é",
    " a",
    "\ud800",
)

STEPS: list[tuple[str, Any]] = [
    *cases("run-id", (None, *NO_NAME), lambda step, v: step.run(v, len, "a")),
    *cases("run-fn", NO_TEXT, lambda step, v: step.run("a", v)),
    *cases("atomic-id", (None, *NO_NAME), lambda step, v: step.atomic(v, len, "a")),
    *cases("atomic-fn", NO_TEXT, lambda step, v: step.atomic("a", v)),
    *cases("sleep-id", (None, *NO_NAME), lambda step, v: step.sleep(v, 1)),
    *cases("sleep", (None, *NO_LENGTH), lambda step, v: step.sleep("a", v)),
    *cases("sleep-td", (timedelta(-1), timedelta.max), lambda step, v: step.sleep("a", v)),
    *cases(
        "until-id",
        (None, *NO_NAME),
        lambda step, v: step.sleep_until(v, datetime(2030, 1, 1, tzinfo=timezone.utc)),
    ),
    *cases("until", (None, *NO_MOMENT), lambda step, v: step.sleep_until("a", v)),
    *cases("call-id", (None, *NO_NAME), lambda step, v: step.call(v, URL)),
    *cases("call-url", NO_URL, lambda step, v: step.call("a", v)),
    *cases("call-method", NO_WORD, lambda step, v: step.call("a", URL, v)),
    *cases("call-body", NO_BODY, lambda step, v: step.call("a", URL, "POST", v)),
    *cases("call-headers", NO_HEADERS, lambda step, v: step.call("a", URL, headers=v)),
    *cases("call-params", NO_PARAMS, lambda step, v: step.call("a", URL, params=v)),
    *cases("call-timeout", (None, *NO_LENGTH), lambda step, v: step.call("a", URL, timeout=v)),
    *cases("call-key", NO_KEY, lambda step, v: step.call("a", URL, idempotency_key=v)),
    *cases("call-raise", (None, *NO_FLAG), lambda step, v: step.call("a", URL, raise_for_status=v)),
    *cases("options-retry", NO_POLICY, lambda step, v: step.options(retry=v).run("a", len, "a")),
    *cases("options-timeout", NO_LENGTH, lambda step, v: step.options(timeout=v).run("a", len, "")),
]
BY_NAME = dict(STEPS)
ASKED: dict[str, BaseException] = {}


@contextmanager
def noted(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        ASKED[name] = error


@workflow(workflow_id="tests.wrong.sync")
def sync_flow(ctx: Any) -> None:
    for name, call in STEPS:
        with noted(name):
            call(ctx.step)


@workflow(workflow_id="tests.wrong.async")
async def async_flow(ctx: Any) -> None:
    for name, call in STEPS:
        with noted(name):
            await call(ctx.step)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_step_with_wrong_arguments_is_refused_where_it_is_asked_for(colour: str) -> None:
    ASKED.clear()
    run_id = (sync_flow if colour == "sync" else async_flow).trigger()
    drain(Client())
    assert row(run_id).status == "completed", row(run_id).error
    assert [name for name in BY_NAME if name not in ASKED] == []
    badly = {name: repr(error)[:200] for name, error in ASKED.items() if not explained(error)}
    assert badly == {}
    assert WorkflowStep.objects.count() == 0


def test_both_colours_refuse_in_the_same_words() -> None:
    told: list[dict[str, str]] = []
    for each in (sync_flow, async_flow):
        ASKED.clear()
        each.trigger()
        drain(Client())
        # An object's address is another one, not another word.
        told.append(
            {name: str(error) for name, error in ASKED.items() if " at 0x" not in str(error)}
        )
    assert told[0] == told[1]
    assert len(told[0]) > len(STEPS) * 0.9


# --- every one of them


def public(cls: type) -> set[str]:
    return {
        name
        for name, value in inspect.getmembers(cls)
        if not name.startswith("_") and callable(value)
    }


def test_no_public_function_is_left_out() -> None:
    """A new one fails here until it has its rows above."""
    assert public(Steps) == public(SyncSteps) - {"gather"}
    here = {"run", "atomic", "sleep", "sleep_until", "call", "options"}
    # Their misuse is in tests/engine: test_events, test_callbacks, test_children.
    there = {"wait_for_event", "callback", "wait_for_callback", "invoke", "map"}
    assert public(Steps) == here | there
    assert public(Workflow) == {"trigger", "atrigger", "trigger_many", "atrigger_many"}
    # Two that take nothing; the misuse of the third is in tests/engine.
    assert public(BaseContext) == {"now", "uuid4", "set"}
    own = {name for name in vars(WorkflowRun) if not name.startswith("_")}
    methods = {name for name in own if inspect.isfunction(vars(WorkflowRun)[name])}
    ours = {
        name for name in methods if vars(WorkflowRun)[name].__module__ == WorkflowRun.__module__
    }
    here = {"cancel", "get_result", "retry"}
    # Of these in tests/django and tests/engine: test_vocabulary, test_pause, test_fork.
    there = {"send_event", "pause", "resume", "fork"}
    assert ours == {f"{a}{name}" for name in here | there for a in ("", "a")}
    functions = {
        name
        for name in django_hookflow.__all__
        if inspect.isfunction(getattr(django_hookflow, name))
    }
    assert functions == {"workflow", "current_step"}
