"""Where the keys come from, how often QStash is asked for them, and what a failure answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_hookflow.exceptions import SignatureError
from django_hookflow.transports.keys import KeyConfig, KeysUnavailable, SigningKeys
from django_hookflow.transports.signing import Claims, sign
from tests.transports.broker import Answer, Broker, serving

URL = "https://app.example/hookflow/"
BODY = b'{"v":1}'
ONE, TWO, THREE = (f"sig_{name * 28}" for name in "abc")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def signed(key: str, *, url: str = URL, body: bytes = BODY, age: int = 0) -> str:
    return sign(key=key, url=url, body=body, now=int(time.time()) - age, jti="jwt_1")


@pytest.fixture
def broker() -> Iterator[Broker]:
    with serving() as broker:
        broker.default = Answer(body={"current": ONE, "next": TWO})
        yield broker


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(broker: Broker, clock: Clock) -> SigningKeys:
    return SigningKeys(lambda: KeyConfig(token="t", base_url=broker.url), clock=clock)


def verify(keys: SigningKeys, token: str, body: bytes = BODY) -> Claims:
    return asyncio.run(keys.verify(token, URL, body))


@pytest.mark.parametrize(
    ("written", "good", "bad"),
    [
        ({"current": ONE, "next": TWO}, [ONE, TWO], [THREE]),
        ({"current": ONE}, [ONE], [TWO]),
        ({"next": TWO}, [TWO], [ONE]),
    ],
)
def test_keys_of_the_settings_are_used_and_nothing_is_fetched(
    broker: Broker, written: dict[str, Any], good: list[str], bad: list[str]
) -> None:
    keys = SigningKeys(lambda: KeyConfig(token="t", base_url=broker.url, **written))
    for key in good:
        assert verify(keys, signed(key)).sub == URL
    for key in bad:
        with pytest.raises(SignatureError):
            verify(keys, signed(key))
    assert broker.requests == []


def test_unset_keys_are_fetched_once_with_the_token(broker: Broker, keys: SigningKeys) -> None:
    for key in (ONE, TWO, ONE):
        assert verify(keys, signed(key)).jti == "jwt_1"
    (request,) = broker.requests
    assert (request.method, request.path) == ("GET", "/v2/keys")
    assert request.headers["authorization"] == "Bearer t"


@pytest.mark.parametrize(
    "token",
    ["", "x", "a.b.c", signed(ONE, url="https://other.example/"), signed(ONE, age=400)],
    # The same in each process: a signature tells the second it was made in.
    ids=["empty", "one letter", "three parts", "another address", "long past"],
)
def test_noise_fetches_nothing(broker: Broker, keys: SigningKeys, token: str) -> None:
    with pytest.raises(SignatureError):
        verify(keys, token)
    assert broker.requests == []


def test_requests_at_once_share_one_flight(broker: Broker, keys: SigningKeys) -> None:
    broker.default.delay = 0.2

    async def several() -> list[Claims]:
        calls = [keys.verify(signed(ONE), URL, BODY) for _ in range(5)]
        return await asyncio.gather(*calls)

    with ThreadPoolExecutor(6) as pool:  # as under WSGI: a loop per request
        found = list(pool.map(lambda _: async_to_sync(several)(), range(6)))
    assert sum(map(len, found)) == 30
    assert len(broker.requests) == 1


def test_a_request_that_goes_away_does_not_end_the_flight(
    broker: Broker, keys: SigningKeys
) -> None:
    broker.default.delay = 0.2

    async def one_leaves() -> Claims:
        leaving = asyncio.ensure_future(keys.verify(signed(ONE), URL, BODY))
        staying = asyncio.ensure_future(keys.verify(signed(ONE), URL, BODY))
        await asyncio.sleep(0.05)
        leaving.cancel()
        return await staying

    assert asyncio.run(one_leaves()).sub == URL
    assert len(broker.requests) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(401, {"error": "no"}), "401; check QSTASH_TOKEN"),
        (Answer(500, b""), "500"),
        (Answer(200, b"<html>"), "JSONDecodeError"),
        (Answer(200, {"current": None, "next": ""}), "no keys"),
        (Answer(200, {}), "KeyError"),
    ],
)
def test_a_failure_is_remembered_for_half_a_minute(
    broker: Broker,
    keys: SigningKeys,
    clock: Clock,
    answer: Answer,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker.answers = [answer]
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            verify(keys, signed(ONE))
    assert len(broker.requests) == 1
    assert [r.levelno for r in caplog.records if "hookflow" in r.name] == [logging.ERROR]
    assert reason in caplog.text
    clock.now += 29
    with pytest.raises(KeysUnavailable) as caught:
        verify(keys, signed(ONE))
    assert caught.value.retry_after == 1
    clock.now += 2
    assert verify(keys, signed(ONE)).sub == URL


def test_a_slow_answer_is_given_up_at_the_deadline_for_all_who_wait(broker: Broker) -> None:
    broker.answers = [Answer(body={"current": ONE, "next": TWO}, delay=30)]
    keys = SigningKeys(lambda: KeyConfig(token="t", base_url=broker.url), deadline=0.2)

    async def several() -> list[object]:
        calls = [keys.verify(signed(ONE), URL, BODY) for _ in range(3)]
        return await asyncio.gather(*calls, return_exceptions=True)

    started = time.monotonic()
    assert [type(found) for found in asyncio.run(several())] == [KeysUnavailable] * 3
    assert time.monotonic() - started < 10
    assert len(broker.requests) <= 2


def test_rotated_keys_are_fetched_at_most_once_a_minute(
    broker: Broker, keys: SigningKeys, clock: Clock
) -> None:
    verify(keys, signed(ONE))
    broker.default.body = {"current": TWO, "next": THREE}
    for _ in range(3):
        with pytest.raises(SignatureError):
            verify(keys, signed(THREE))
    assert len(broker.requests) == 1
    clock.now += 60
    assert verify(keys, signed(THREE)).sub == URL
    with pytest.raises(SignatureError):
        verify(keys, signed(ONE))
    assert len(broker.requests) == 2


def test_known_keys_go_on_while_a_refresh_fails(
    broker: Broker, keys: SigningKeys, clock: Clock
) -> None:
    verify(keys, signed(ONE))
    clock.now += 60
    broker.default = Answer(500, b"")
    with pytest.raises(KeysUnavailable):
        verify(keys, signed(THREE))
    assert verify(keys, signed(ONE)).sub == URL
    with pytest.raises(KeysUnavailable):
        verify(keys, signed(THREE))
    assert len(broker.requests) == 2


def test_the_token_is_not_sent_over_plain_http(caplog: pytest.LogCaptureFixture) -> None:
    keys = SigningKeys(lambda: KeyConfig(token="t", base_url="http://qstash.example"))
    with pytest.raises(KeysUnavailable):
        verify(keys, signed(ONE))
    assert "plain http" in caplog.text
    assert "QSTASH_CURRENT_SIGNING_KEY" in caplog.text


def test_another_account_has_keys_of_its_own(broker: Broker) -> None:
    config = KeyConfig(token="t", base_url=broker.url)
    keys = SigningKeys(lambda: config)
    verify(keys, signed(ONE))
    config = KeyConfig(token="other", base_url=broker.url)
    broker.default = Answer(body={"current": THREE, "next": TWO})
    assert verify(keys, signed(THREE)).sub == URL
    with pytest.raises(SignatureError):
        verify(keys, signed(ONE))


def test_a_changed_body_is_refused(keys: SigningKeys) -> None:
    with pytest.raises(SignatureError):
        verify(keys, signed(ONE), body=b"other")


def test_a_config_shows_no_secret() -> None:
    shown = repr(KeyConfig(token="secret", base_url="https://x", current="secret", next="secret"))
    assert "secret" not in shown
