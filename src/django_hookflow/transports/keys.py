"""The keys that signatures are verified with: the settings', else QStash's, fetched.

Rules for fetching: only for a token that could be genuine, so that noise costs nothing; one
flight per process, whoever asks; three seconds; a failure is remembered for half a minute;
when the keys do not fit (they were rotated) they are fetched again, at most once a minute.
The QStash token never travels over plain http, except to this machine. No database.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import httpx
from qstash.signing_key import SigningKeyApi

from django_hookflow.core.addresses import is_loopback
from django_hookflow.exceptions import SignatureError, TransportError
from django_hookflow.transports.clients import Endpoint, Http, Refused
from django_hookflow.transports.deadlines import start
from django_hookflow.transports.signing import Claims, looks_genuine, verify

__all__ = ["KeyConfig", "KeysUnavailable", "SigningKeys"]

logger = logging.getLogger(__name__)

DEADLINE = 3.0
REMEMBER_FAILURE = 30.0
REFRESH_EVERY = 60.0


class KeysUnavailable(TransportError):
    """The keys cannot be had just now: answer 503, QStash comes again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyConfig:
    """The keys of the settings, and where to fetch them if there are none."""

    token: str = field(repr=False)
    base_url: str
    current: str | None = field(default=None, repr=False)
    next: str | None = field(default=None, repr=False)

    @property
    def written(self) -> tuple[str, ...]:
        """The keys of the settings, the current one first."""
        return tuple(key for key in (self.current, self.next) if key)


Keys = tuple[str, ...]


@dataclass(slots=True)
class _Source:
    """What is known of one QStash account's keys. Times are of the monotonic clock."""

    keys: Keys = ()
    fetched_at: float = 0.0
    failed_at: float | None = None
    flight: Future[Keys] | None = None
    took_off_at: float = 0.0


class SigningKeys:
    """Verifies signatures; ``config`` is asked each time. Safe on any thread and loop."""

    def __init__(
        self,
        config: Callable[[], KeyConfig],
        *,
        clock: Callable[[], float] = time.monotonic,
        deadline: float = DEADLINE,
    ) -> None:
        self._config = config
        self._clock = clock
        self._deadline = deadline
        self._lock = threading.Lock()
        self._sources: dict[tuple[str, str], _Source] = {}

    async def verify(self, token: str, url: str, body: bytes) -> Claims:
        """The claims of a genuine signature.

        Raises :class:`SignatureError` (answer 401) for any other, :class:`KeysUnavailable`
        (answer 503) when that cannot be told.
        """
        config = self._config()
        if config.written:
            return verify(token, keys=config.written, url=url, body=body)
        if not looks_genuine(token, url):
            raise SignatureError("no signature of QStash for this URL")
        keys = await self._keys(config, unfit=())
        try:
            return verify(token, keys=keys, url=url, body=body)
        except SignatureError:
            fresh = await self._keys(config, unfit=keys)
            if fresh == keys:
                raise
        return verify(token, keys=fresh, url=url, body=body)

    async def _keys(self, config: KeyConfig, *, unfit: Keys) -> Keys:
        """The account's keys; newer ones than ``unfit`` if that may be asked by now."""
        with self._lock:
            source = self._sources.setdefault((config.token, config.base_url), _Source())
            now = self._clock()
            if source.keys and not (source.keys == unfit and _may_refresh(source, now)):
                return source.keys
            if source.failed_at is not None and now - source.failed_at < REMEMBER_FAILURE:
                raise _unavailable(source.failed_at + REMEMBER_FAILURE - now)
            flight = self._join(source, config, now)
        return await self._land(source, flight)

    def _join(self, source: _Source, config: KeyConfig, now: float) -> Future[Keys]:
        if source.flight is None:
            source.took_off_at = now
            source.flight = start(lambda: _fetch(config, self._deadline))
        return source.flight

    async def _land(self, source: _Source, flight: Future[Keys]) -> Keys:
        left = max(0.0, source.took_off_at + self._deadline - self._clock())
        waiting = asyncio.wrap_future(flight)
        try:
            await asyncio.wait({waiting}, timeout=left)
        finally:
            # Ends this wait only; a running flight cannot be cancelled.
            if not waiting.cancel():
                waiting.exception()  # looked at, so that asyncio does not report it
        with self._lock:
            if flight is source.flight:
                self._note(source, flight)
        if not flight.done() or flight.exception() is not None:
            raise _unavailable(REMEMBER_FAILURE)
        return flight.result()

    def _note(self, source: _Source, flight: Future[Keys]) -> None:
        """Write down how the flight ended; done once, by whoever sees it first."""
        source.flight = None
        error = flight.exception() if flight.done() else TimeoutError()
        if error is None:
            source.keys, source.fetched_at = flight.result(), self._clock()
            source.failed_at = None
            return
        source.failed_at = self._clock()
        logger.error("QStash's signing keys cannot be fetched: %s", _reason(error, self._deadline))


def _may_refresh(source: _Source, now: float) -> bool:
    return now - source.fetched_at >= REFRESH_EVERY


def _fetch(config: KeyConfig, seconds: float) -> Keys:
    if not (config.base_url.startswith("https://") or is_loopback(config.base_url)):
        raise TransportError(
            f"they are not asked for over plain http ({config.base_url}); set "
            "QSTASH_CURRENT_SIGNING_KEY and QSTASH_NEXT_SIGNING_KEY"
        )
    http = Http(Endpoint(token=config.token, base_url=config.base_url, timeout=seconds))
    try:
        found = SigningKeyApi(http).get()
    finally:
        http.close()
    answered: tuple[object, object] = (found.current, found.next)
    keys = tuple(key for key in answered if isinstance(key, str) and key)
    if not keys:
        raise TransportError("QStash's answer has no keys")
    return keys


def _reason(error: BaseException, deadline: float) -> str:
    """The error in words that do not show the token."""
    if isinstance(error, Refused):
        return f"QStash answered {error.status}; check QSTASH_TOKEN and QSTASH_URL"
    if isinstance(error, (TimeoutError, httpx.TimeoutException)):
        return f"no answer within {deadline:g} s"
    if isinstance(error, (TransportError, httpx.NetworkError)):
        return str(error)
    return type(error).__name__


def _unavailable(seconds: float) -> KeysUnavailable:
    return KeysUnavailable(
        "QStash's signing keys cannot be had just now", retry_after=max(1.0, seconds)
    )
