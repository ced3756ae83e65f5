"""Publishes through QStash, by the official SDK.

Sync code has one client per process, async code one per event loop. Whatever happens, a
publish ends within its deadline: it stays owed otherwise, and that costs less than a trigger
that hangs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import httpx
from qstash.asyncio.message import AsyncMessageApi
from qstash.message import MessageApi

from django_hookflow.core.durations import MAX_RETRY_DELAY, parse_retry_after
from django_hookflow.exceptions import TransportError
from django_hookflow.transports.base import Message
from django_hookflow.transports.clients import AsyncHttp, Endpoint, Http, Refused
from django_hookflow.transports.deadlines import within
from django_hookflow.transports.loops import PerLoop

__all__ = ["DELIVERY_TIMEOUT", "RETRY_DELAY", "PublishConfig", "QStashTransport", "translated"]

logger = logging.getLogger(__name__)

#: Seconds that QStash waits for the answer to a delivery: the free plan's limit, so it is
#: taken on every plan, and the longest step that works everywhere is just below it. Not left
#: to the plan: with two hours, a host that went silent without closing its connection would
#: hold its message back for as long.
DELIVERY_TIMEOUT = 900

#: Milliseconds before redelivery ``retried`` (from 0): 5 s, doubling, at most 5 minutes.
RETRY_DELAY = "min(300000, 5000*pow(2, retried))"

_TOKEN_REFUSED = (401, 403)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishConfig:
    """What publishing needs to know; ``timeout`` is the deadline of one publish in seconds."""

    token: str = field(repr=False)
    base_url: str
    destination: str
    retries: int
    timeout: float

    @property
    def endpoint(self) -> Endpoint:
        """Where to publish."""
        return Endpoint(token=self.token, base_url=self.base_url, timeout=self.timeout)


class QStashTransport:
    """Publishes messages to ``config().destination``; ``config`` is asked each time.

    Safe to use from several threads and event loops, and after a fork.
    """

    def __init__(self, config: Callable[[], PublishConfig]) -> None:
        self._config = config
        self._clients: dict[tuple[int, Endpoint], Http] = {}
        self._loops: PerLoop[AsyncHttp] = PerLoop()
        self._lock = threading.Lock()
        # At exit too, so that no socket is reported as forgotten.
        self._finalizer = weakref.finalize(self, _close, self._clients)

    def publish(self, *messages: Message) -> None:
        """Publish from sync code; raises :class:`TransportError` within the deadline.

        Of several that went out before an error some may be accepted: when they are published
        again, their deduplication ids collapse them.
        """
        config = self._config()
        api = MessageApi(self._client(config.endpoint))
        with translated(config):
            within(config.timeout, lambda: _publish(api, messages, config))

    async def apublish(self, *messages: Message) -> None:
        """Publish from the running loop; raises :class:`TransportError` within the deadline."""
        config = self._config()
        http = await self._loops.get(config.endpoint, lambda: AsyncHttp(config.endpoint))
        with translated(config):
            publishing = _apublish(AsyncMessageApi(http), messages, config)
            await asyncio.wait_for(publishing, config.timeout)

    def close(self) -> None:
        """Close the sync connections; the next publish opens new ones."""
        _close(self._clients)

    def _client(self, endpoint: Endpoint) -> Http:
        # A connection must not be shared with the parent of a fork.
        key = (os.getpid(), endpoint)
        with self._lock:
            if key not in self._clients:
                self._clients[key] = Http(endpoint)
            return self._clients[key]


def _close(clients: dict[tuple[int, Endpoint], Http]) -> None:
    while clients:
        clients.popitem()[1].close()


def _publish(api: MessageApi, messages: Sequence[Message], config: PublishConfig) -> None:
    try:
        answers = _send(api, messages, config, _wished(config))
    except Refused as refused:
        _expect_wishes_refused(refused)
        answers = _send(api, messages, config, {})
    _expect_all(answers, messages)


async def _apublish(
    api: AsyncMessageApi, messages: Sequence[Message], config: PublishConfig
) -> None:
    try:
        answers = await _send(api, messages, config, _wished(config))
    except Refused as refused:
        _expect_wishes_refused(refused)
        answers = await _send(api, messages, config, {})
    _expect_all(answers, messages)


def _send(api: Any, messages: Sequence[Message], config: PublishConfig, wished: Any) -> Any:
    """One request of either colour; a batch has a body where a message has headers."""
    requests = [{**_needed(message, config), **wished} for message in messages]
    return api.publish(**requests[0]) if len(requests) == 1 else api.batch(requests)


def _expect_all(answers: Any, messages: Sequence[Message]) -> None:
    """A batch of several is answered item by item; what has no answer was not accepted."""
    if len(messages) > 1 and len(answers) != len(messages):
        raise LookupError(f"{len(answers)} answers to {len(messages)} messages")


def _needed(message: Message, config: PublishConfig) -> dict[str, Any]:
    # The delay is needed: without it a sleep would be woken, and re-armed, all the time.
    return {
        "url": config.destination,
        "body": message.body,
        "content_type": "application/json",
        "delay": f"{message.delay}s",
        "deduplication_id": message.deduplication_id,
    }


def _wished(config: PublishConfig) -> dict[str, Any]:
    return {
        "retries": config.retries,
        "retry_delay": RETRY_DELAY,
        "timeout": DELIVERY_TIMEOUT,
    }


def _expect_wishes_refused(refused: Refused) -> None:
    """Raise ``refused`` on unless the same message without options may be accepted."""
    if not 400 <= refused.status < 500 or refused.status in (*_TOKEN_REFUSED, 429):
        raise refused
    logger.warning(
        "QStash refused a message with status %d (%.200r); "
        "repeating it without retries, retry delay and timeout",
        refused.status,
        refused.text,
    )


@contextmanager
def translated(config: PublishConfig) -> Iterator[None]:
    """Turn whatever publishing raises into a TransportError that does not show the token."""
    where = f"QStash at {config.base_url}"
    try:
        yield
    except Refused as refused:
        raise _refusal(refused, config) from None
    except (httpx.LocalProtocolError, UnicodeError):
        # Their text repeats the header that cannot be sent, and that may be the token's.
        raise TransportError(
            f"{where}: the request cannot be sent; is QSTASH_TOKEN as the console shows it?"
        ) from None
    except (TimeoutError, asyncio.TimeoutError, httpx.TimeoutException) as error:
        raise TransportError(f"{where} did not answer within {config.timeout:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise TransportError(f"{where} cannot be reached: {reason}") from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # A success that is no answer of QStash: a proxy's or another server's page.
        raise TransportError(f"{where} gave no answer of QStash; is QSTASH_URL right?") from error


def _refusal(refused: Refused, config: PublishConfig) -> TransportError:
    told = refused.text[:200].replace(config.token, "***")
    text = f"QStash at {config.base_url} answered {refused.status}: {told!r}"
    if refused.status in _TOKEN_REFUSED:
        text += "; check QSTASH_TOKEN and QSTASH_URL, a token belongs to one region"
        logger.error("%s", text)
    return TransportError(text, retry_after=_retry_after(refused.headers, time.time()))


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds until QStash takes messages again, if it says so.

    The daily limit and the burst limit have headers of their own, both with Unix seconds.
    """
    daily, burst = headers.get("RateLimit-Reset"), headers.get("Burst-RateLimit-Reset")
    if burst is not None and headers.get("RateLimit-Remaining", "0") != "0":
        daily = None  # there is some of the day's left: it is the burst that was refused
    for reset in (daily, burst):
        # Digits only, and no more than a time has: float() takes "nan" and a megabyte, too.
        if reset is not None and reset.isdecimal() and len(reset) <= 12:
            return max(0.0, min(float(reset) - now, MAX_RETRY_DELAY))
    moment = datetime.fromtimestamp(now, tz=timezone.utc)
    return parse_retry_after(headers.get("Retry-After", ""), moment)
