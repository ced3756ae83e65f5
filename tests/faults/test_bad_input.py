"""Bad input, whole: the same outcome and the same words on every database, in both colours."""

from __future__ import annotations

import inspect
import io
import math
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from django_hookflow import CallResponse, RetryPolicy, workflow
from django_hookflow.core.codec import MAX_DEPTH
from django_hookflow.exceptions import SerializationError, WorkflowDefinitionError
from django_hookflow.journals.orm_rows import raw
from django_hookflow.models import WorkflowRun, WorkflowStep
from django_hookflow.registry import registry
from tests.django.harness import drain, hookflow_settings, messages, post, row, wake
from tests.engine.test_calls import JSON, Api

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

LIMIT = 1024 * 1024
ONCE = RetryPolicy(max_attempts=1)


def nested(depth: int, innermost: Any = 1) -> Any:
    value: Any = innermost
    for _ in range(depth):
        value = [value]
    return value


def endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


GOOD: dict[str, Any] = {
    "NUL": "a\x00b",
    "lone surrogate": "a\ud800b",
    "two lone surrogates": "\ud83d\ude00",
    "emoji": "\U0001f600",
    "line separators": "\u2028\u2029\x85\r\n",
    "NaN": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "minus zero": -0.0,
    "smallest float": 5e-324,
    "2**63": 2**63,
    "-2**64": -(2**64),
    "10**5000": 10**5000,
    "decimals": [Decimal("NaN"), Decimal("1E+999999"), Decimal("-0")],
    "bytes": bytes(range(256)),
    "edges of the calendar": [
        datetime.max, datetime.min.replace(tzinfo=timezone(timedelta(hours=23))), timedelta.max,
    ],
    "keys": {"": 1, "\x00": 2, "\ud800": 3, "$": 4, "a.b": 5, "\U0001f600": 6, "'": 7},
    "deepest": nested(MAX_DEPTH - 2),
    "many": list(range(50_000)),
}  # fmt: skip

BAD: dict[str, tuple[Any, str]] = {
    "too deep": (nested(MAX_DEPTH + 1), f"more than {MAX_DEPTH} levels deep; flatten it"),
    "far too deep": (nested(100_000), f"more than {MAX_DEPTH} levels deep; flatten it"),
    "cycle": (endless(), "contains itself; store ids instead of references"),
    "key of another type": ({"a": {1: 2}}, "is a dict with a key of type int"),
    "function": ([len], "is a builtins.builtin_function_or_method"),
    "subclass": ({"n": type("Str", (str,), {})("x")}, "is a Str, a subclass of str"),
    "file": ({"f": io.StringIO()}, "an open file cannot be stored"),
    "long key": ({"k" * LIMIT: object()}, "is a builtins.object"),
}


def alike(one: Any, other: Any) -> bool:
    """Equal, of the same type, a NaN like a NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (float, Decimal)) and one != one:
        return bool(other != other)
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


def value_of(name: str) -> Any:
    return GOOD[name] if name in GOOD else BAD[name][0]


def raise_error(name: str) -> None:
    raise ERRORS[name]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


ERRORS: dict[str, BaseException] = {
    "NUL": ValueError("a\x00b"),
    "surrogate": ValueError("a\ud800b"),
    "megabyte": ValueError("x" * LIMIT),
    "emoji": ValueError("\U0001f600"),
    "unspeakable": Unspeakable(),
    "class": type("Cla'ss\n\U0001f600", (Exception,), {})("boom"),
}

#: What the workflow does; the async twin awaits.
ACTS: dict[str, Any] = {
    "echo": lambda ctx, step: step.run("echo", lambda: ctx.data),
    "value": lambda ctx, step: step.run("value", value_of, ctx.data["name"]),
    "error": lambda ctx, step: step.run("error", raise_error, ctx.data["name"]),
    "size": lambda ctx, step: step.run("size", lambda: "x" * ctx.data["size"]),
    "step": lambda ctx, step: step.run(ctx.data["step_id"], len, "ab"),
    "twice": lambda ctx, step: [step.run(name, len, name) for name in ctx.data["ids"]],
    "until": lambda ctx, step: step.sleep_until("until", ctx.data["when"]),
    "call": lambda ctx, step: step.call("call", ctx.data["url"]),
    "body": lambda ctx, step: value_of(ctx.data["name"]),
    "body error": lambda ctx, step: raise_error(ctx.data["name"]),
    "refused": lambda ctx, step: step.run(value_of(ctx.data["name"]), len, "ab"),
}


def acted(ctx: Any) -> Any:
    act = ACTS[ctx.data.get("act", "echo") if isinstance(ctx.data, dict) else "echo"]
    return act(ctx, ctx.step.options(retry=ONCE))


def data_of(answer: Any) -> Any:
    return answer.data if isinstance(answer, CallResponse) else answer


@workflow(workflow_id="tests.bad.sync")
def sync_flow(ctx: Any) -> Any:
    return data_of(acted(ctx))


@workflow(workflow_id="tests.bad.async")
async def async_flow(ctx: Any) -> Any:
    answer = acted(ctx)
    if isinstance(answer, list) and answer and inspect.isawaitable(answer[0]):
        return [await each for each in answer]
    return data_of(await answer if inspect.isawaitable(answer) else answer)


@pytest.fixture(params=["sync", "async"])
def flow(request: pytest.FixtureRequest) -> Any:
    return sync_flow if request.param == "sync" else async_flow


@pytest.fixture
def api() -> Any:
    server = Api()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def project(alias: str) -> Any:
    with hookflow_settings(alias):
        messages()
        yield
        messages()


def ended(flow: Any, alias: str, data: Any) -> Any:
    run_id = flow.trigger(data)
    drain(Client())
    return row(run_id, alias)


def count(alias: str) -> int:
    return WorkflowRun.objects.using(alias).count()


# --- values


@pytest.mark.parametrize("name", GOOD)
def test_a_value_comes_back_as_it_was(name: str, flow: Any, alias: str) -> None:
    value = GOOD[name]
    run = ended(flow, alias, [value])
    assert run.status == "completed", run.error
    [step] = run.steps.all()
    for place in (run.data, step.result, run.result, run.get_result()):
        assert alike(place, [value]), name


@pytest.mark.parametrize("name", BAD)
def test_a_value_that_cannot_be_stored_is_refused_in_the_same_words(
    name: str, flow: Any, alias: str
) -> None:
    value, words = BAD[name]
    with pytest.raises(SerializationError) as refused:
        flow.trigger(value)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 1000
    assert count(alias) == 0
    for act in ("value", "body"):
        run = ended(flow, alias, {"act": act, "name": name})
        assert run.status == "failed"
        assert run.error["type"] == "django_hookflow.exceptions.SerializationError"
        assert run.error["message"] == str(refused.value)
    assert [step.attempts for step in run.steps.all()] == []


def test_data_of_exactly_the_limit_is_stored_and_one_byte_more_is_not(
    flow: Any, alias: str
) -> None:
    largest = "x" * (LIMIT - 2)
    run = ended(flow, alias, largest)
    [step] = run.steps.all()
    assert run.data == step.result == run.result == largest
    with pytest.raises(SerializationError, match=f"{LIMIT + 1} bytes, more than the {LIMIT} of"):
        flow.trigger(largest + "x")
    assert count(alias) == 1


def test_a_result_of_exactly_the_limit_is_stored_and_one_byte_more_is_not(
    flow: Any, alias: str
) -> None:
    run = ended(flow, alias, {"act": "size", "size": LIMIT - 2})
    assert run.status == "completed"
    assert len(run.result) == LIMIT - 2
    run = ended(flow, alias, {"act": "size", "size": LIMIT - 1})
    assert run.status == "failed"
    assert f"takes {LIMIT + 1} bytes, more than the {LIMIT} of the setting" in run.error["message"]
    [step] = run.steps.all()
    assert (step.status, step.attempts) == ("failed", 1)


# --- errors


SAID = {
    "NUL": "a\\x00b",
    "surrogate": "a\\ud800b",
    "megabyte": "x" * 1999 + "…",
    "emoji": "\U0001f600",
    "unspeakable": "whose text raised RuntimeError>",
    "class": "boom",
}


@pytest.mark.parametrize("act", ["error", "body error"])
@pytest.mark.parametrize("name", ERRORS)
def test_whatever_an_error_says_is_recorded(name: str, act: str, flow: Any, alias: str) -> None:
    run = ended(flow, alias, {"act": act, "name": name})
    assert run.status == "failed"
    assert run.error["message"].endswith(SAID[name])
    assert len(run.error["message"]) <= 2000
    for step in run.steps.all():
        assert step.error["message"].endswith(SAID[name])


# --- answers of calls


ANSWERS: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "deep": (200, b"[" * 100_000, JSON),
    "deep and whole": (200, b"[" * 500 + b"]" * 500, JSON),
    "huge int": (200, b"9" * 10_000, JSON),
    "NaN": (200, b"[NaN, Infinity]", JSON),
    "surrogate": (200, b'"\\ud800\\u0000"', JSON),
    "not UTF-8": (200, b'{"a": "\xff"}', JSON),
    "no charset": (200, b"\xff\x00a", {"Content-Type": "text/plain; charset=nonsense"}),
    "too large": (200, b"x" * (LIMIT + 1), {}),
    "error too large": (400, b"x" * (3 * LIMIT), {}),
    "error too deep": (400, b"[" * 900 + b"]" * 900, JSON),
    "error with NUL": (400, b"a\x00\xff", {}),
}
TAKEN: dict[str, Any] = {
    "deep": "[" * 100_000,
    "huge int": "9" * 10_000,
    "NaN": [math.nan, math.inf],
    "surrogate": "\ud800\x00",
    "not UTF-8": '{"a": "\ufffd"}',
    "no charset": "\ufffd\x00a",
}
NOT_TAKEN = {
    "deep and whole": "levels deep; flatten it",
    "too large": f"bytes, more than the {LIMIT} of the setting",
    "error too large": "answered 400",
    "error too deep": "answered 400",
    "error with NUL": "answered 400",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_whatever_a_call_is_answered(name: str, flow: Any, alias: str, api: Any) -> None:
    status, body, headers = ANSWERS[name]
    api.answers = [(status, headers, body)]
    run = ended(flow, alias, {"act": "call", "url": api.url})
    [step] = run.steps.all()
    assert len(api.requests) == step.attempts == 1
    if name in TAKEN:
        assert run.status == "completed", run.error
        assert alike(run.result, TAKEN[name])
        return
    assert run.status == "failed"
    assert NOT_TAKEN[name] in run.error["message"]
    columns = WorkflowStep.objects.using(alias).annotate(text=raw("error"))
    assert len(columns.values_list("text", flat=True).get()) <= LIMIT


# --- identities


STEP_IDS = ["\U0001f600" * 200, " a ", "a\n\r\t", "'; DROP TABLE x; --", "a#2", "../..", "%s {0}"]


@pytest.mark.parametrize("step_id", STEP_IDS, ids=range(len(STEP_IDS)))
def test_a_strange_step_id_is_one(step_id: str, flow: Any, alias: str) -> None:
    run = ended(flow, alias, {"act": "step", "step_id": step_id})
    assert (run.status, run.result) == ("completed", 2), run.error
    assert [step.step_id for step in run.steps.all()] == [step_id]


def test_nearly_equal_step_ids_are_different_steps(flow: Any, alias: str) -> None:
    ids = ["a", "A", "a ", "á", "a\u0301", "a#1", "a#2", "a", "a"]
    run = ended(flow, alias, {"act": "twice", "ids": ids})
    assert run.result == [len(each) for each in ids]
    kept = [(step.step_id, step.occurrence) for step in run.steps.order_by("seq")]
    assert kept == [*((each, 1) for each in ids[:7]), ("a", 2), ("a", 3)]


STEP_WORDS = "may hold no NUL and no lone surrogate"


@pytest.mark.parametrize(
    ("step_id", "words"),
    [
        ("", "step_id has 1 to 200 characters; this one has 0"),
        ("x" * 201, "this one has 201"),
        ("x" * LIMIT, f"this one has {LIMIT}"),
        ("a\x00", STEP_WORDS),
        ("\ud800", STEP_WORDS),
    ],
)
def test_a_hostile_step_id_fails_the_run_in_the_same_words(
    step_id: str, words: str, flow: Any, alias: str
) -> None:
    GOOD["the step id"] = step_id
    try:
        run = ended(flow, alias, {"act": "refused", "name": "the step id"})
    finally:
        del GOOD["the step id"]
    assert run.status == "failed"
    assert run.error["type"] == "ValueError"
    assert words in run.error["message"]
    assert len(run.error["message"]) < 1000
    assert run.steps.count() == 0


RUN_IDS = ["", "x" * 129, "x" * LIMIT, "a b", "a\x00", "\ud800", "ä", "a\n", "٣", "a;b", "a?b"]


@pytest.mark.parametrize("run_id", RUN_IDS, ids=range(len(RUN_IDS)))
def test_a_hostile_run_id_is_refused_and_the_transaction_goes_on(
    run_id: str, flow: Any, alias: str
) -> None:
    with transaction.atomic(using=alias):
        with pytest.raises(ValueError, match=r"run_id has 1 to 128 characters") as refused:
            flow.trigger(run_id=run_id)
        assert len(str(refused.value)) < 500
        assert count(alias) == 0
        flow.trigger(run_id="aZ0._:@/-" + "x" * 119)
    assert count(alias) == 1


@pytest.mark.parametrize("workflow_id", ["\U0001f600" * 255, " w ", "W", "w", "w\n"], ids=range(5))
def test_a_strange_workflow_id_is_one(workflow_id: str, alias: str) -> None:
    @workflow(workflow_id=workflow_id)
    def strange(ctx: Any) -> str:
        return ctx.workflow_id

    try:
        run = ended(strange, alias, {})
        assert (run.result, run.workflow_id) == (workflow_id, workflow_id)
        near = [workflow_id.upper(), workflow_id.lower(), workflow_id + " ", workflow_id.strip()]
        for other in set(near) - {workflow_id}:
            assert not WorkflowRun.objects.using(alias).filter(workflow_id=other).exists()
    finally:
        registry.remove(workflow_id, "")


@pytest.mark.parametrize("workflow_id", ["", "x" * 256, "x" * LIMIT, "a\x00", "\ud800"])
def test_a_hostile_workflow_id_is_refused_at_import(workflow_id: str) -> None:
    def strange(ctx: Any) -> None: ...

    with pytest.raises(WorkflowDefinitionError, match="workflow_id") as refused:
        workflow(workflow_id=workflow_id)(strange)
    assert len(str(refused.value)) < 500
    assert registry.find(workflow_id, "") is None


# --- times


EAST, WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))
UTC = timezone.utc


@pytest.mark.parametrize(
    "when",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=EAST),
        datetime(1600, 2, 29, tzinfo=UTC),
        datetime(1969, 12, 31, tzinfo=WEST),
    ],
    ids=str,
)
def test_a_moment_long_past_is_past(when: datetime, flow: Any, alias: str) -> None:
    run = ended(flow, alias, {"act": "until", "when": when})
    assert run.status == "completed", run.error
    run_id = flow.trigger({}, not_before=when)
    drain(Client())
    assert row(run_id, alias).status == "completed"


TOO_FAR = [
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(9999, 12, 31, 23, tzinfo=WEST),
    datetime(9000, 1, 1, tzinfo=UTC),
]


@pytest.mark.parametrize("when", TOO_FAR, ids=range(3))
def test_a_moment_too_far_is_refused_in_the_same_words(
    when: datetime, flow: Any, alias: str
) -> None:
    run = ended(flow, alias, {"act": "until", "when": when})
    assert run.status == "failed", run.blocked
    assert run.error["type"] == "ValueError"
    assert "before the year 9000" in run.error["message"]
    with pytest.raises(ValueError, match="before the year 9000"):
        flow.trigger({}, not_before=when)
    assert count(alias) == 1


def test_a_moment_of_the_last_century_is_waited_for(flow: Any, alias: str) -> None:
    when = datetime(8999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    run_id = flow.trigger({"act": "until", "when": when})
    assert post(Client(), wake(run_id, alias=alias)).status_code == 200
    run = row(run_id, alias)
    assert (run.status, run.due_at) == ("suspended", when)
    assert run.steps.get().wake_at == when
