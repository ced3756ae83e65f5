"""Callbacks: one URL on every replay, the first answer counts, also one that came early."""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from django_hookflow.core.codec import JSONCodec
from django_hookflow.core.entries import Kind, StepStatus
from django_hookflow.core.transitions import CALLBACK, Over, Retry, SendEvent, Signalled
from django_hookflow.exceptions import EventTimeout

from .harness import START

REFUSED = Signalled(owed=False, stored=False)


def both(async_body, sync_body):
    return pytest.mark.parametrize("body", [async_body, sync_body], ids=["async", "def"])


def answer(world, url, data):
    """What a POST to the URL does."""
    run, generation, key, *_ = url.split("/")
    event = SendEvent(
        id=UUID(run),
        name=key,
        payload=JSONCodec().encode(data),
        dedup_id=key,
        source=CALLBACK,
        generation=int(generation),
    )
    sent = world.journal.send_event(event)
    if isinstance(sent, Signalled) and sent.owed:
        world.publish(event.id)
    return sent


@pytest.fixture
def mailed():
    """The URLs that the bodies below gave away."""
    MAILED.clear()
    return MAILED


MAILED = []


async def asks(ctx):
    cb = await ctx.step.callback("approve")
    await ctx.step.run("mail", MAILED.append, cb.url)
    return await ctx.step.wait_for_callback(cb)


def asks_plainly(ctx):
    cb = ctx.step.callback("approve")
    ctx.step.run("mail", MAILED.append, cb.url)
    return ctx.step.wait_for_callback(cb)


async def asks_an_hour(ctx):
    cb = await ctx.step.callback("approve")
    await ctx.step.run("mail", MAILED.append, cb.url)
    try:
        got = await ctx.step.wait_for_callback(cb, timeout=3600)
    except EventTimeout as error:
        got = str(error)
    await ctx.step.wait_for_event("hold", "hold")
    return got


def asks_an_hour_plainly(ctx):
    cb = ctx.step.callback("approve")
    ctx.step.run("mail", MAILED.append, cb.url)
    try:
        got = ctx.step.wait_for_callback(cb, timedelta(hours=1))
    except TimeoutError as error:
        got = str(error)
    ctx.step.wait_for_event("hold", "hold")
    return got


@both(asks, asks_plainly)
def test_an_answer_wakes_the_run_that_waits_for_it(world, mailed, body):
    async def scenario():
        run = world.trigger(body)
        await world.rest()
        assert world.row(run).status == "suspended"
        assert answer(world, mailed[0], {"ok": True}).stored
        await world.rest()
        return run

    row = world.row(asyncio.run(scenario()))
    assert (row.status, row.result) == ("completed", {"ok": True})
    [wait] = [step for step in world.steps() if step.kind is Kind.CALLBACK]
    assert (wait.key, wait.event, wait.call) == ("approve#1", "approve#1", "approve#1")
    assert len(set(mailed)) == 1


@both(asks, asks_plainly)
def test_nothing_is_recorded_of_a_callback_and_nothing_is_sent_before_its_wait(world, body):
    async def scenario():
        world.trigger(body)
        await world.rest()

    asyncio.run(scenario())
    keys = [(step.key, step.status) for step in world.steps()]
    assert keys == [("mail#1", StepStatus.COMPLETED), ("approve#1", StepStatus.PENDING)]


def test_the_url_is_the_same_on_every_replay(world):
    seen = []

    async def replayed(ctx):
        await ctx.step.sleep("nap", 60)
        one = await ctx.step.callback("approve", timedelta(days=30))
        two = await ctx.step.callback("approve", timedelta(days=30), confirm="Sure?")
        seen.append((one.url, two.url, one.expires_at))
        for n in range(3):
            await ctx.step.sleep(f"nap-{n}", 3600)

    world.run(replayed)
    assert len(seen) >= 4
    assert len(set(seen)) == 1
    [(one, two, expires_at)] = set(seen)
    [run] = world.journal.runs()
    until = expires_at.isoformat()
    assert one == f"{run.id.hex}/0/approve#1/{until}/"
    assert two == f"{run.id.hex}/0/approve#2/{until}/Sure?"
    napped = next(s for s in world.steps() if s.key == "nap#1").finished_at
    assert timedelta(0) <= expires_at - napped - timedelta(days=30) < timedelta(seconds=1)
    assert expires_at.microsecond == 0


def test_the_calls_of_parallel_branches_are_numbered_alike_on_every_replay(world):
    seen = []

    async def branches(ctx):
        async def branch(n):
            await ctx.step.sleep(f"nap-{n}", 3600 * (3 - n))
            cb = await ctx.step.callback("approve", timedelta(days=30))
            seen.append((n, cb.key, cb.url))
            await ctx.step.sleep(f"later-{n}", 86_400)

        await asyncio.gather(*(branch(n) for n in range(3)))

    world.run(branches)
    assert sorted((n, key) for n, key, _ in set(seen)) == [
        (0, "approve#3"), (1, "approve#2"), (2, "approve#1"),
    ]  # fmt: skip
    assert len(set(seen)) == 3


@both(asks, asks_plainly)
def test_an_answer_before_the_wait_is_received(world, mailed, body):
    sent = []

    def post(url):
        if not sent:
            sent.append(answer(world, url, "early"))
        MAILED.append(url)

    async def early(ctx):
        cb = await ctx.step.callback("approve")
        await ctx.step.run("mail", post, cb.url)
        await ctx.step.sleep("nap", 600)
        return await ctx.step.wait_for_callback(cb)

    def early_plainly(ctx):
        cb = ctx.step.callback("approve")
        ctx.step.run("mail", post, cb.url)
        ctx.step.sleep("nap", 600)
        return ctx.step.wait_for_callback(cb)

    row = world.run(early if body is asks else early_plainly)
    assert row.result == "early"
    assert sent == [Signalled(owed=False, stored=True)]


@both(asks_an_hour, asks_an_hour_plainly)
def test_the_first_answer_counts_and_later_ones_change_nothing(world, mailed, body):
    async def scenario():
        run = world.trigger(body)
        await world.rest()
        assert answer(world, mailed[0], "first").stored
        assert answer(world, mailed[0], "second") == REFUSED
        await world.rest()
        assert answer(world, mailed[0], "third") == REFUSED
        world.send_event(run, "hold")
        await world.rest()
        assert isinstance(answer(world, mailed[0], "fourth"), Over)
        return run

    run = asyncio.run(scenario())
    assert world.row(run).result == "first"
    assert len([e for e in world.journal.events(run) if e.source == CALLBACK]) == 1


@both(asks_an_hour, asks_an_hour_plainly)
def test_after_the_timeout_an_answer_is_refused(world, mailed, body):
    async def scenario():
        run = world.trigger(body)
        await world.rest()
        await world.rest(skip=3600)
        assert answer(world, mailed[0], "late") == REFUSED
        world.send_event(run, "hold")
        await world.rest()
        return run

    run = asyncio.run(scenario())
    patience = "within 3600 s and before its URL expired"
    assert world.row(run).result == f"no answer to the callback came {patience}"


def test_a_wait_without_timeout_ends_when_the_url_expires(world, mailed):
    async def brief(ctx):
        cb = await ctx.step.callback("approve", expires=60)
        try:
            return await ctx.step.wait_for_callback(cb)
        except EventTimeout as error:
            assert ctx.now() >= cb.expires_at
            return str(error)

    row = world.run(brief)
    assert row.result == "no answer to the callback came before its URL expired"
    assert timedelta(seconds=60) <= row.finished_at - row.started_at


def test_the_shorter_of_timeout_and_expiry_ends_the_wait(world, mailed):
    async def brief(ctx):
        cb = await ctx.step.callback("approve", expires=3600)
        with pytest.raises(EventTimeout):
            await ctx.step.wait_for_callback(cb, timeout=60)
        first = ctx.now()
        cb = await ctx.step.callback("approve", expires=60)
        with pytest.raises(EventTimeout):
            await ctx.step.wait_for_callback(cb, timeout=3600)
        return [first, ctx.now()]

    row = world.run(brief)
    assert row.status == "completed", row.error
    first, second = row.result
    assert timedelta(seconds=60) <= first - row.started_at < timedelta(seconds=600)
    assert timedelta(seconds=60) <= second - first < timedelta(seconds=600)


def test_each_of_two_callbacks_of_one_id_gets_its_own_answer(world, mailed):
    async def two(ctx):
        one = await ctx.step.callback("approve")
        two = await ctx.step.callback("approve")
        await ctx.step.run("mail", MAILED.extend, [one.url, two.url])
        second = await ctx.step.wait_for_callback(two)
        return [await ctx.step.wait_for_callback(one), second]

    async def scenario():
        run = world.trigger(two)
        await world.rest()
        answer(world, mailed[0], "one")
        await world.rest()
        assert world.row(run).status == "suspended", "the other's answer was received"
        answer(world, mailed[1], "two")
        await world.rest()
        return run

    assert world.row(asyncio.run(scenario())).result == ["one", "two"]


def test_an_event_named_like_a_callback_answers_nothing(world, mailed):
    async def scenario():
        run = world.trigger(asks)
        await world.rest()
        world.send_event(run, "approve#1", "forged", dedup_id="approve#1")
        await world.rest()
        assert world.row(run).status == "suspended"
        assert answer(world, mailed[0], "genuine").stored
        await world.rest()
        return run

    assert world.row(asyncio.run(scenario())).result == "genuine"


def test_reminders_beside_one_wait(world, mailed):
    async def reminded(ctx):
        cb = await ctx.step.callback("approve", timedelta(days=30))
        wait = asyncio.create_task(ctx.step.wait_for_callback(cb))
        for n in range(5):
            await ctx.step.run("mail", MAILED.append, cb.url)
            nap = asyncio.create_task(ctx.step.sleep("a-day", timedelta(days=1)))
            done, _ = await asyncio.wait({wait, nap}, return_when=asyncio.FIRST_COMPLETED)
            if wait in done:
                return [n, wait.result()]
        return None

    async def scenario():
        run = world.trigger(reminded)
        await world.rest()
        await world.rest(skip=86_400)
        await world.rest(skip=86_400)
        answer(world, mailed[0], "yes")
        await world.rest()
        return run

    assert world.row(asyncio.run(scenario())).result == [2, "yes"]
    assert len(set(mailed)) == 1


def test_a_cancelled_wait_has_waited_for_nothing(world, mailed):
    async def again(ctx):
        cb = await ctx.step.callback("approve")
        wait = asyncio.create_task(ctx.step.wait_for_callback(cb))
        await ctx.step.sleep("nap", 60)
        wait.cancel()
        await asyncio.wait({wait})
        await ctx.step.run("mail", MAILED.append, cb.url)
        return await ctx.step.wait_for_callback(cb)

    async def scenario():
        run = world.trigger(again)
        await world.rest()
        await world.rest(skip=60)
        answer(world, mailed[0], "yes")
        await world.rest()
        return run

    assert world.row(asyncio.run(scenario())).result == "yes"


def test_a_second_wait_is_refused_instead_of_waiting_for_ever(world):
    async def twice(ctx):
        cb = await ctx.step.callback("approve", expires=60)
        with pytest.raises(EventTimeout):
            await ctx.step.wait_for_callback(cb)
        await ctx.step.wait_for_callback(cb)

    async def beside(ctx):
        cb = await ctx.step.callback("approve", expires=60)
        await asyncio.gather(ctx.step.wait_for_callback(cb), ctx.step.wait_for_callback(cb))

    for body in (twice, beside):
        row = world.run(body)
        assert (row.status, row.error.type) == (
            "failed", "django_hookflow.exceptions.WorkflowDefinitionError",
        ), row.result  # fmt: skip
        assert "'approve#1' was waited for already" in row.error.message


def test_a_callback_of_another_run_is_refused(world):
    kept = []

    async def keeps(ctx):
        kept.append(await ctx.step.callback("approve"))

    async def takes(ctx):
        await ctx.step.wait_for_callback(kept[0])

    world.run(keeps)
    row = world.run(takes)
    assert "'approve#1' is not of this run" in row.error.message


@pytest.mark.parametrize("cb", ["approve", None, b"x"])
def test_what_is_no_callback_is_refused(world, cb):
    async def bad(ctx):
        await ctx.step.wait_for_callback(cb)

    def bad_plainly(ctx):
        ctx.step.wait_for_callback(cb)

    for body in (bad, bad_plainly):
        row = world.run(body)
        assert row.error.type == "TypeError"
        assert "what ctx.step.callback returned" in row.error.message


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"expires": -1}, "expires"),
        ({"expires": "soon"}, "expires"),
        ({"expires": None}, "expires"),
        ({"expires": timedelta(days=-1)}, "expires"),
        ({"confirm": ""}, "confirm"),
        ({"confirm": True}, "confirm"),
        ({"confirm": "x" * 201}, "confirm"),
        ({"confirm": "\ud800"}, "confirm"),
        ({"step_id": ""}, "step_id"),
        ({"step_id": 5}, "step_id"),
    ],
)
def test_bad_arguments_are_refused(world, wrong, told):
    async def bad(ctx):
        await ctx.step.callback(**{"step_id": "approve", **wrong})

    row = world.run(bad)
    assert row.status == "failed"
    assert told in row.error.message


def test_a_callback_inside_a_step_is_refused(world):
    def nested(ctx):
        ctx.step.run("outer", lambda: ctx.step.callback("approve"))

    row = world.run(nested)
    assert row.status == "failed"
    assert "steps do not nest" in row.error.message


def test_the_url_is_not_shown_by_repr(world):
    shown = []

    async def prints(ctx):
        cb = await ctx.step.callback("approve", confirm="Sure?")
        shown.append((repr(cb), cb.url))

    world.run(prints)
    text, url = shown[0]
    assert url not in text
    assert "approve" in text


@pytest.mark.usual_mode
def test_a_retry_after_the_timeout_asks_again_under_the_same_url(world, mailed):
    async def impatient(ctx):
        cb = await ctx.step.callback("approve")
        await ctx.step.run("mail", MAILED.append, cb.url)
        return await ctx.step.wait_for_callback(cb, timeout=60)

    async def scenario():
        run = world.trigger(impatient)
        await world.rest()
        await world.rest(skip=60)
        assert world.row(run).status == "failed"
        assert isinstance(answer(world, mailed[0], "late"), Over)
        world.journal.retry(Retry(id=run))
        world.publish(run)
        await world.rest()
        assert world.row(run).status == "suspended"
        assert answer(world, mailed[0], "in time after all").stored
        await world.rest()
        return run

    assert world.row(asyncio.run(scenario())).result == "in time after all"
    assert len(mailed) == 1


@pytest.mark.usual_mode
def test_a_delayed_run_s_url_lives_from_its_start(world):
    seen = []

    async def scenario():
        async def late(ctx):
            seen.append((ctx.now(), (await ctx.step.callback("approve")).expires_at))
            await ctx.step.sleep("nap", 60)

        run = world.trigger(late, delay=timedelta(days=30))
        await world.drain()
        return run

    asyncio.run(scenario())
    [(now, expires_at)] = set(seen)
    assert now >= START + timedelta(days=30)
    assert expires_at >= now + timedelta(days=7)


@pytest.mark.usual_mode
def test_another_callback_of_the_id_blocks_once_a_wait_is_recorded(world, mailed):
    first = {"yes": True}

    async def changed(ctx):
        one = await ctx.step.callback("approve")
        two = await ctx.step.callback("approve")
        await ctx.step.run("mail", MAILED.append, one.url)
        await ctx.step.wait_for_callback(one if first["yes"] else two)
        await ctx.step.sleep("nap", 60)

    async def scenario():
        run = world.trigger(changed)
        await world.deliver_next()
        answer(world, mailed[0], "yes")
        world.transport.messages.pop(0)  # that of the expiry
        await world.deliver_next()
        first["yes"] = False
        await world.deliver_next()
        return run

    row = world.row(asyncio.run(scenario()))
    assert row.blocked == (
        "step 'approve#1': expected callback of approve#1, got callback of approve#2"
    )


def test_expires_at_is_an_aware_datetime(world):
    seen = []

    async def looks(ctx):
        seen.append((await ctx.step.callback("approve", expires=timedelta(hours=2))).expires_at)

    world.run(looks)
    assert isinstance(seen[0], datetime)
    assert seen[0].utcoffset() == timedelta(0)
