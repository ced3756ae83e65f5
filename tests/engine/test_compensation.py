"""What follows a failure or a cancel: on_failure, then compensations, newest first, once each."""

import asyncio
import contextlib
from datetime import timedelta
from enum import Enum
from typing import Any

import pytest
from django.test import override_settings
from django_qstash import stashed_task

from django_hookflow.core.entries import Kind
from django_hookflow.core.retry import RetryPolicy
from django_hookflow.core.transitions import Cancel
from django_hookflow.engine.place import current_step
from django_hookflow.exceptions import RetryAfter
from tests.engine.harness import World
from tests.engine.modes import Died

ONCE = RetryPolicy(max_attempts=1)
done: list[str] = []
fails: set[str] = set()


@pytest.fixture(autouse=True)
def _forget():
    done.clear()
    fails.clear()


def act(name):
    done.append(name)
    if name in fails:
        raise ValueError(f"{name} fails")
    return f"{name}-1"


def undo(result, name):
    done.append(f"undo {name} {result}")
    if f"undo {name}" in fails:
        raise ValueError("cannot")
    return object()  # not storable, and nobody's business


async def undo_async(result, name):
    undo(result, name)


class Card(Enum):
    CREDIT = "credit"


def pay() -> Card:
    return Card.CREDIT


def refund(card: Card | None):
    done.append(f"refund {card}")


def told(ctx, error):
    done.append(f"told {error['type']} {ctx.data['order']}")


async def told_async(ctx, error):
    told(ctx, error)


def times(name):
    return sum(each == name for each in done)


def in_order():
    """Without the repeats that a crash or a lost lease makes."""
    return list(dict.fromkeys(done))


async def order(ctx):
    await ctx.step.options(compensate=(undo, "a")).run("a", act, "a")
    await ctx.step.options(compensate=(undo_async, "b")).run("b", act, "b")
    await ctx.step.run("c", act, "c")
    await ctx.step.options(retry=ONCE).run("fails", act, "fails")


def order_plainly(ctx):
    ctx.step.options(compensate=(undo, "a")).run("a", act, "a")
    ctx.step.options(compensate=(undo_async, "b")).run("b", act, "b")
    ctx.step.run("c", act, "c")
    ctx.step.options(retry=ONCE).run("fails", act, "fails")


@pytest.mark.parametrize("body", [order, order_plainly], ids=["async", "def"])
@pytest.mark.parametrize("on_failure", [None, told, told_async])
def test_a_failed_run_undoes_what_it_did_newest_first(world, body, on_failure):
    fails.add("fails")
    row = world.run(body, {"order": 7}, on_failure=on_failure)
    assert (row.status, row.error.message) == ("failed", "fails fails")
    follows = ["told ValueError 7"] if on_failure else []
    assert in_order() == ["a", "b", "c", "fails", *follows, "undo b b-1", "undo a a-1"]
    if world.usual:
        assert len(done) == len(in_order())
        assert world.messages == 1
    kinds = [(step.key, step.kind, step.status) for step in world.journal.steps(row.id)][4:]
    assert kinds[-2:] == [
        ("b#1/undo", "undo", "completed"),
        ("a#1/undo", "undo", "completed"),
    ]


def test_a_run_that_completes_undoes_nothing(world):
    assert world.run(order).status == "completed"
    assert in_order() == ["a", "b", "c", "fails"]


async def waits_after_two(ctx):
    await ctx.step.options(compensate=(undo, "a")).run("a", act, "a")
    await ctx.step.options(compensate=(undo, "b")).run("b", act, "b")
    await ctx.step.wait_for_event("go", "go")
    await ctx.step.run("c", act, "c")


@pytest.mark.parametrize("compensate", [True, False])
def test_a_cancelled_run_undoes_what_it_did_if_asked(world, compensate):
    async def scenario():
        run = world.trigger(waits_after_two)
        await world.rest()
        world.cancel(run, compensate=compensate)
        if compensate:
            assert world.row(run).status == "cancelling"
        await world.rest()
        return run

    assert world.row(asyncio.run(scenario())).status == "cancelled"
    assert in_order() == ["a", "b", *(["undo b b-1", "undo a a-1"] if compensate else [])]


def test_a_run_that_did_nothing_to_undo_is_cancelled_at_once(world):
    async def waits(ctx):
        await ctx.step.run("a", act, "a")
        await ctx.step.wait_for_event("go", "go")

    async def scenario():
        run = world.trigger(waits)
        await world.rest()
        world.cancel(run)
        return run

    assert world.row(asyncio.run(scenario())).status == "cancelled"


@pytest.mark.usual_mode
def test_a_step_that_executes_while_it_is_cancelled_is_recorded_and_undone_with_its_result(world):
    async def cancels_itself():
        done.append("a")
        world.cancel(world.id)
        return "a-1"

    async def body(ctx):
        await ctx.step.options(compensate=(undo, "a")).run("a", cancels_itself)
        await ctx.step.run("b", act, "b")

    async def scenario():
        world.id = world.trigger(body)
        await world.rest()

    asyncio.run(scenario())
    assert world.row(world.id).status == "cancelled"
    assert done == ["a", "undo a a-1"]


@pytest.mark.usual_mode
@pytest.mark.parametrize("ending", ["returns", "raises"])
def test_a_cancel_while_the_body_ends_wins_over_its_end(world, ending):
    async def body(ctx):
        await ctx.step.options(compensate=(undo, "a")).run("a", act, "a")
        await ctx.step.run("cancel", lambda: world.cancel(world.id) and None)
        if ending == "raises":
            raise ValueError("too late")

    async def scenario():
        world.id = world.trigger(body)
        await world.rest()

    asyncio.run(scenario())
    assert world.row(world.id).status == "cancelled"
    assert done == ["a", "undo a a-1"]


@pytest.mark.usual_mode
def test_a_cancel_while_it_sleeps_does_not_wait_for_the_sleep(world):
    async def body(ctx):
        await ctx.step.options(compensate=(undo, "a")).run("a", act, "a")
        nap = asyncio.ensure_future(ctx.step.sleep("nap", 10**6))
        await ctx.step.run("cancel", lambda: world.cancel(world.id) and None)
        await nap

    async def scenario():
        world.id = world.trigger(body)
        await world.rest()

    asyncio.run(scenario())
    assert world.row(world.id).status == "cancelled"
    assert world.clock.skipped < 1000


def test_a_step_of_unknown_outcome_is_undone_with_none():
    def die_before_the_record(point):
        if point == "record:before" and not died:
            died.append(point)
            raise Died

    async def body(ctx):
        await ctx.step.options(compensate=(undo, "a")).run("a", act, "a")

    async def scenario():
        run = world.trigger(body)
        with pytest.raises(Died):
            await world.deliver_next()
        world.cancel(run)
        world.clock.skip(61)
        await world.deliver(run, world.row(run).wake_n)
        return run

    died: list[str] = []
    world = World(crash=die_before_the_record)
    run = asyncio.run(scenario())
    assert world.row(run).status == "cancelled"
    assert done == ["a", "undo a None"]


@pytest.mark.parametrize("outcome", ["fails", "times out"])
def test_a_failed_step_is_undone_only_if_nobody_can_know(world, outcome):
    async def slow():
        done.append("slow")
        await asyncio.sleep(5 if outcome == "times out" else 0)
        raise ValueError("no")

    async def body(ctx):
        options = ctx.step.options(retry=ONCE, timeout=0.01, compensate=(undo, "slow"))
        await options.run("slow", slow)

    assert world.run(body).status == "failed"
    undone = ["undo slow None"] if outcome == "times out" else []
    assert in_order() == ["slow", *undone]


def test_a_compensation_is_retried_and_one_that_fails_for_good_lets_the_others_have_their_turn(
    world,
):
    fails.update({"fails", "undo b"})
    row = world.run(order, {"order": 1})
    assert row.status == "failed"
    assert in_order()[-2:] == ["undo b b-1", "undo a a-1"]
    if world.usual:
        assert times("undo b b-1") == 4
        assert times("undo a a-1") == 1
    undone = {step.key: step.status for step in world.journal.steps(row.id) if step.kind == "undo"}
    assert undone == {"b#1/undo": "failed", "a#1/undo": "completed"}


def test_a_result_comes_back_as_what_the_compensation_takes(world):
    async def body(ctx):
        await ctx.step.options(compensate=refund).run("pay", pay)
        raise ValueError("no")

    world.run(body)
    assert in_order() == ["refund Card.CREDIT"]


def test_a_compensated_run_is_not_retried_and_others_run_on_failure_again(world):
    async def scenario(body, **more):
        fails.add("fails")
        run = world.trigger(body, {"order": 1}, **more)
        await world.rest()
        answer = world.retry(run)
        fails.clear()
        await world.rest()
        return run, answer

    run, answer = asyncio.run(scenario(order))
    assert type(answer).__name__ == "Compensated"
    assert world.row(run).status == "failed"

    async def plain(ctx):
        await ctx.step.options(retry=ONCE).run("fails", act, "fails")

    run, answer = asyncio.run(scenario(plain, on_failure=told))
    assert type(answer).__name__ == "Retried"
    assert world.row(run).status == "completed"


def test_an_atomic_step_and_a_loop_are_undone(world):
    async def body(ctx):
        for n in range(3):
            await ctx.step.options(compensate=(undo, f"{n}")).atomic("item", act, f"{n}")
        raise ValueError("no")

    assert world.run(body).status == "failed"
    assert in_order() == ["0", "1", "2", "undo 2 2-1", "undo 1 1-1", "undo 0 0-1"]


def undo_numbered(result):
    done.append(current_step().occurrence)


def test_a_compensation_has_the_occurrence_of_the_step_that_it_undoes(world):
    async def body(ctx):
        for n in range(3):
            await ctx.step.options(compensate=undo_numbered).run("item", str, n)
        raise ValueError("no")

    row = world.run(body)
    assert (row.status, in_order()) == ("failed", [3, 2, 1])
    undos = [step for step in world.steps() if step.kind is Kind.UNDO]
    assert [(step.key, step.occurrence) for step in undos] == [
        ("item#3/undo", 3), ("item#2/undo", 2), ("item#1/undo", 1),
    ]  # fmt: skip


async def one_fails_while_another_executes(n):
    done.append(f"{n}")
    await asyncio.sleep(0.05 if n else 0.01)
    if not n:
        raise ValueError("first")
    return f"{n}-1"


async def maps(ctx):
    steps = ctx.step.options(retry=ONCE, compensate=(undo, "item"))
    await steps.map("item", one_fails_while_another_executes, [0, 1])


def maps_plainly(ctx):
    steps = ctx.step.options(retry=ONCE, compensate=(undo, "item"))
    steps.map("item", one_fails_while_another_executes, [0, 1])


@pytest.mark.usual_mode
@pytest.mark.parametrize("body", [maps, maps_plainly], ids=["async", "def"])
def test_what_still_executes_when_the_body_fails_is_recorded_and_undone(world, body):
    row = world.run(body)
    assert (row.status, row.blocked) == ("failed", "")
    assert done == ["0", "1", "undo item 1-1"]
    steps = {step.key: step.status for step in world.journal.steps(row.id)}
    assert steps["item[1]#1"] == "completed"
    assert steps["item[1]#1/undo"] == "completed"


def test_the_body_is_not_run_again_once_it_failed(world):
    entered = []

    async def body(ctx):
        entered.append(1)
        await ctx.step.options(compensate=(undo, "a")).run("a", act, "a")
        raise ValueError("no")

    fails.add("undo a")
    assert world.run(body).status == "failed"
    if world.usual:
        assert entered == [1]


def test_a_run_that_takes_longer_than_its_timeout_fails(world):
    async def body(ctx):
        await ctx.step.options(compensate=(undo, "a")).run("a", act, "a")
        await ctx.step.wait_for_event("go", "go")

    async def scenario():
        run = world.trigger(body, {"order": 1}, timeout=timedelta(hours=1), on_failure=told)
        await world.rest()
        await world.rest(skip=3600)
        return run

    row = world.row(asyncio.run(scenario()))
    assert (row.status, row.error.type) == ("failed", "TimeoutError")
    assert in_order() == ["a", "told TimeoutError 1", "undo a a-1"]


def test_a_run_that_took_too_long_has_its_timeout_anew_when_it_is_retried(world):
    async def body(ctx):
        return [await ctx.step.wait_for_event("go", "go") for _ in range(2)]

    async def scenario():
        run = world.trigger(body, timeout=timedelta(hours=1))
        for _ in range(2):
            await world.rest(skip=3601)
            assert world.row(run).status == "failed"
            assert world.row(run).error.type == "TimeoutError"
            world.retry(run)
        await world.rest(skip=3000)
        for number in range(2):
            world.send_event(run, "go", number)
            await world.rest()
        return run

    assert world.row(asyncio.run(scenario())).result == [0, 1]


def test_a_run_within_its_timeout_is_left_alone(world):
    async def body(ctx):
        await ctx.step.sleep("nap", 60)
        return "well"

    assert world.run(body, timeout=timedelta(hours=1)).result == "well"


async def blocked_until_mended(world, body, monkeypatch):
    """The run, once what the body broke is back, and why it was blocked before."""
    run = world.trigger(body)
    await world.deliver_next()
    blocked = world.row(run).blocked
    monkeypatch.undo()
    await world.rest(skip=60)
    return run, blocked


@pytest.mark.usual_mode
def test_a_compensation_that_is_gone_blocks_until_it_is_back(world, monkeypatch):
    async def body(ctx):
        await ctx.step.options(compensate=(undo, "a")).run("a", act, "a")
        monkeypatch.delitem(globals(), "undo")
        raise ValueError("no")

    run, blocked = asyncio.run(blocked_until_mended(world, body, monkeypatch))
    assert "tests.engine.test_compensation.undo, which is not to be found" in blocked
    assert world.row(run).status == "failed"
    assert done == ["a", "undo a a-1"]


def test_a_cancelled_run_is_undone_though_its_workflow_is_gone(world):
    async def body(ctx):
        await ctx.step.options(compensate=(undo, "a")).run("a", act, "a")
        await ctx.step.sleep("nap", 3600)

    async def scenario():
        run = world.trigger(body)
        await world.rest()
        world.workflows.clear()
        world.cancel(run)
        await asyncio.wait_for(world.rest(), 60)  # or it is answered 503 for ever
        return run

    row = world.row(asyncio.run(scenario()))
    assert in_order() == ["a", "undo a a-1"]
    assert (row.status, row.blocked) == ("cancelled", "")


def told_late(ctx, error):
    raise RetryAfter(60)


@pytest.mark.usual_mode
def test_a_failing_run_whose_workflow_is_gone_waits_for_it_unless_it_is_cancelled(world):
    """It may have an on_failure, which comes first; of a cancel nobody is told."""

    async def body(ctx):
        await ctx.step.options(compensate=(undo, "a")).run("a", act, "a")
        raise ValueError("no")

    async def scenario():
        run = world.trigger(body, on_failure=told_late)
        await world.deliver_next()
        world.workflows.clear()
        world.clock.skip(61)
        answer = await world.deliver(run, world.row(run).wake_n)
        assert (answer.status, done) == (503, ["a"])
        world.cancel(run)
        await asyncio.wait_for(world.rest(), 60)  # or it is answered 503 for ever
        return run

    row = world.row(asyncio.run(scenario()))
    assert in_order() == ["a", "undo a a-1"]
    assert row.status == "cancelled"


@pytest.mark.usual_mode
@pytest.mark.parametrize("bad", [lambda result: None, "undo", (5, 1), ()])
def test_what_could_not_be_found_again_is_refused(world, bad):
    async def body(ctx):
        await ctx.step.options(compensate=bad).run("a", act, "a")

    row = world.run(body)
    assert row.status == "failed"
    assert "compensate" in row.error.message
    assert done == []


@stashed_task
def refund_task(card: Card, name):
    done.append(f"refund {name} {card}")


@stashed_task(bind=True)
def refund_bound(self, card: Card, name):
    done.append(f"refund {name} {card} in {self.request.id}")


@stashed_task(bind=True)
async def refund_async(self, card: Card, name):
    refund_bound.func(self, card, name)


@stashed_task(bind=True)
async def told_by_task(self, ctx, error):
    done.append(f"told {error['type']} in {self.request.id}")


def test_a_django_qstash_task_compensates_and_is_told_like_any_function(world):
    """Its function is called; the task itself needs settings, and would not be awaited."""

    async def body(ctx):
        for task, name in ((refund_task, "a"), (refund_bound, "b"), (refund_async, "c")):
            await ctx.step.options(compensate=(task, name)).run(name, pay)
        raise ValueError("no")

    with override_settings(QSTASH_TOKEN=""):
        row = world.run(body, run_id="r", on_failure=told_by_task)
    assert (row.status, row.blocked) == ("failed", "")
    assert in_order() == [
        "told ValueError in r",
        "refund c Card.CREDIT in r",
        "refund b Card.CREDIT in r",
        "refund a Card.CREDIT",
    ]


def take_back(card):
    done.append(f"took back {card}")


async def pay_as_workflow(ctx) -> Card:
    return Card.CREDIT


@pytest.mark.usual_mode
@pytest.mark.parametrize("kind", ["run", "atomic", "invoke", "map"])
def test_a_compensation_that_could_not_be_given_the_steps_enum_is_refused(world, kind):
    async def body(ctx):
        steps = ctx.step.options(compensate=take_back)
        if kind == "map":
            await steps.map("pay", pay_for, [1])
        elif kind == "invoke":
            await steps.invoke("pay", world.workflow(pay_as_workflow))
        else:
            await getattr(steps, kind)("pay", pay)

    row = world.run(body)
    assert (row.status, row.error.type.rpartition(".")[2]) == ("failed", "WorkflowDefinitionError")
    assert "may return Card" in row.error.message
    assert row.error.message.endswith("as in: def take_back(result: Card | None)")
    assert done == []


def pay_for(item) -> Card | None:
    done.append("paid")
    return Card.CREDIT


@pytest.mark.usual_mode
def test_what_cannot_be_read_for_a_compensation_blocks_until_it_can(world, monkeypatch):
    """A deploy took the annotation away, so the result is not read; the reason says of what."""

    async def body(ctx):
        await ctx.step.options(compensate=refund).run("pay", pay)
        monkeypatch.delitem(refund.__annotations__, "card")
        raise ValueError("no")

    run, blocked = asyncio.run(blocked_until_mended(world, body, monkeypatch))
    assert blocked.startswith(
        "the compensation of step 'pay#1' is tests.engine.test_compensation.refund, which cannot "
        "be given what the step returned: "
    )
    assert "Card" in blocked
    assert (world.row(run).status, done) == ("failed", ["refund Card.CREDIT"])


@pytest.mark.usual_mode
def test_a_wait_has_nothing_to_compensate(world):
    async def body(ctx):
        await ctx.step.options(compensate=undo).sleep("nap", 5)

    assert "only waits" in world.run(body).error.message


async def slow():
    done.append("slow")
    await asyncio.sleep(5)


@pytest.mark.parametrize("dies", [False, True], ids=["at once", "after a death"])
def test_an_attempt_that_will_not_be_repeated_is_undone_in_whatever_delivery(dies):
    """Its row is as good as the journal's: a death among the compensations changes nothing."""

    def die_before_the_last(point):
        if dies and point == "record:before" and not died and "undo a a-1" in done:
            died.append(point)
            raise Died

    async def body(ctx):
        await ctx.step.options(compensate=(undo, "a")).run("a", act, "a")
        late = ctx.step.options(
            timeout=0.01,
            retry=RetryPolicy(max_attempts=2, initial_delay=60),
            compensate=(undo, "slow"),
        )
        task = asyncio.ensure_future(late.run("slow", slow))
        await ctx.step.run("longer", asyncio.sleep, 0.1)
        task.cancel()
        raise ValueError("no")

    async def scenario():
        run = world.trigger(body)
        with contextlib.suppress(Died):
            await world.drain()
        if dies:
            world.clock.skip(61)
            await world.deliver(run, world.row(run).wake_n)
        return run

    died: list[str] = []
    world = World(crash=die_before_the_last)
    run = asyncio.run(scenario())
    assert (world.row(run).status, world.row(run).blocked) == ("failed", "")
    assert in_order() == ["a", "slow", "undo slow None", "undo a a-1"]


@pytest.mark.parametrize("ended_by", ["failure", "cancel"])
def test_a_child_at_work_is_cancelled_before_what_its_parent_did_is_undone(world, ended_by):
    """The parent cannot be retried after that: nobody would undo what the child comes to."""

    async def ships(ctx):
        await ctx.step.options(compensate=(undo, "label")).run("label", act, "label")
        await ctx.step.wait_for_event("truck", "truck")
        await ctx.step.run("ship", act, "ship")

    workflow = world.workflow(ships)

    async def orders(ctx):
        await ctx.step.options(compensate=(undo, "charge")).run("charge", act, "charge")
        shipping = asyncio.ensure_future(ctx.step.invoke("ship", workflow))
        await ctx.step.wait_for_event("go", "go")
        if ended_by == "failure":
            raise ValueError("no")
        await shipping

    async def scenario():
        run = world.trigger(orders)
        await world.rest()
        assert "label" in done
        if ended_by == "cancel":
            world.journal.cancel(Cancel(id=run))  # and whoever did that died
            world.publish(run)
        else:
            world.send_event(run, "go")
        await world.rest()
        return run

    run = asyncio.run(scenario())
    [child] = [each for each in world.journal.runs() if each.parent == run]
    assert world.row(run).status == {"failure": "failed", "cancel": "cancelled"}[ended_by]
    assert child.status == "cancelled"
    assert sorted(set(done)) == ["charge", "label", "undo charge charge-1", "undo label label-1"]


@pytest.mark.usual_mode
def test_a_compensation_that_a_deploy_adds_is_written_down_before_the_next_attempt(world):
    deployed, written = [], []

    def charge():
        written.append([step.undo for step in world.steps()])
        if not deployed:
            raise ValueError("busy")

    async def body(ctx):
        options = ctx.step.options(retry=RetryPolicy(initial_delay=60, jitter=False))
        if deployed:
            options = options.options(compensate=(undo, "charge"))
        await options.run("charge", charge)

    async def scenario():
        run = world.trigger(body)
        await world.deliver_next()
        deployed.append(True)
        await world.drain()
        return world.row(run).status

    assert asyncio.run(scenario()) == "completed"
    first, second = written
    assert first == []
    assert len(second) == 1
    assert "undo" in second[0]


def test_a_child_that_was_just_invoked_is_undone_like_any(world):
    async def sleeps(ctx):
        await ctx.step.sleep("long", 10**6)

    child = world.workflow(sleeps)

    async def body(ctx):
        invoked = ctx.step.options(compensate=(undo, "child")).invoke("child", child)
        task = asyncio.ensure_future(invoked)
        await ctx.step.run("a", act, "a")
        task.cancel()
        raise ValueError("no")

    async def scenario():
        run = world.trigger(body)
        await world.drain()
        return run

    assert world.row(asyncio.run(scenario())).status == "failed"
    assert in_order() == ["a", "undo child None"]


@pytest.mark.usual_mode
def test_an_atomic_step_that_was_rolled_back_is_not_undone(world):
    async def body(ctx):
        fails.add("a")
        late = ctx.step.options(
            retry=RetryPolicy(max_attempts=2, initial_delay=60), compensate=(undo, "a")
        )
        task = asyncio.ensure_future(late.atomic("a", act, "a"))
        await ctx.step.sleep("nap", 1)
        task.cancel()
        raise ValueError("no")

    assert world.run(body).status == "failed"
    assert done == ["a"]


@pytest.mark.usual_mode
def test_a_cancel_after_on_failure_lets_the_compensations_go_on(world):
    def cancels(result):
        done.append("undo b")
        world.cancel(world.id)

    async def body(ctx):
        await ctx.step.options(compensate=(undo, "a")).run("a", act, "a")
        await ctx.step.options(compensate=undo_and_cancel).run("b", act, "b")
        raise ValueError("no")

    async def scenario():
        world.id = world.trigger(body, {"order": 1}, on_failure=told)
        cancelling.append(cancels)
        await world.rest()

    try:
        asyncio.run(scenario())
    finally:
        cancelling.clear()
    assert (world.row(world.id).status, world.row(world.id).blocked) == ("cancelled", "")
    assert done == ["a", "b", "told ValueError 1", "undo b", "undo a a-1"]


cancelling: list[Any] = []


def undo_and_cancel(result):
    cancelling[0](result)


@pytest.mark.parametrize("kind", ["run", "atomic"])
def test_what_was_done_and_could_not_be_stored_is_undone(world, kind):
    """But for an atomic step, which was rolled back."""

    async def body(ctx):
        steps = ctx.step.options(retry=ONCE, compensate=(undo, "a"))
        await getattr(steps, kind)("a", object)

    row = world.run(body)
    assert row.status == "failed"
    assert row.error.type == "django_hookflow.exceptions.SerializationError"
    assert in_order() == (["undo a None"] if kind == "run" else [])


@pytest.mark.usual_mode
def test_a_deploy_that_brings_on_failure_goes_on_undoing(world):
    """What the first deploy has begun without it is not begun again."""
    retry = RetryPolicy(initial_delay=600, jitter=False)

    async def body(ctx):
        for name in ("a", "b"):
            await ctx.step.options(compensate=(undo, name)).run(name, act, name)
        raise ValueError("no")

    async def scenario():
        fails.add("undo a")
        run = world.trigger(body, {"order": 1}, retry=retry)
        await world.rest()
        assert done == ["a", "b", "undo b b-1", "undo a a-1"]
        fails.clear()
        world.workflow(body, retry=retry, on_failure=told)
        await world.rest(skip=601)
        return run

    row = world.row(asyncio.run(scenario()))
    assert (row.status, row.blocked) == ("failed", "")
    assert done[4:] == ["undo a a-1"]


@pytest.mark.usual_mode
def test_a_cancel_without_compensation_goes_for_the_children_too(world):
    async def ships(ctx):
        await ctx.step.options(compensate=(undo, "a")).run("a", act, "a")
        await ctx.step.wait_for_event("go", "go")

    workflow = world.workflow(ships)

    async def asks(ctx):
        await ctx.step.invoke("ship", workflow)

    async def scenario():
        run = world.trigger(asks)
        await world.rest()
        world.cancel(run, compensate=False)
        await world.rest()

    asyncio.run(scenario())
    assert {run.status for run in world.journal.runs()} == {"cancelled"}
    assert done == ["a"]


@pytest.mark.usual_mode
def test_a_cancel_that_comes_while_a_run_is_being_blocked_is_seen_to_at_once(world, monkeypatch):
    suspend, cancelled = world.journal.suspend, []

    async def body(ctx):
        await ctx.step.options(compensate=(undo, "a")).run(names[0], act, "a")
        await ctx.step.sleep("nap", 60)

    def late(transition):
        if transition.blocked and not cancelled:
            cancelled.append(world.journal.cancel(Cancel(id=transition.fence.id)))
        return suspend(transition)

    async def scenario():
        run = world.trigger(body)
        await world.rest()
        names[0] = "renamed"
        monkeypatch.setattr(world.journal, "suspend", late)
        await world.rest(skip=61)
        assert cancelled
        return run

    names = ["a"]
    row = world.row(asyncio.run(scenario()))
    assert (row.status, row.blocked) == ("cancelled", "")
    assert done == ["a", "undo a a-1"]
