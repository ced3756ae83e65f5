"""What can be set on the server, with the values that the official one is known by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

__all__ = [
    "DEFAULT_CURRENT_KEY",
    "DEFAULT_NEXT_KEY",
    "DEFAULT_PORT",
    "DEFAULT_TOKEN",
    "Config",
    "Rewrite",
    "parse_rewrite",
]

DEFAULT_PORT = 8080
# Published constants, so that SDKs and applications that know them work unchanged. Being
# public, they protect nothing: the command refuses to listen beyond loopback with them.
DEFAULT_TOKEN = "eyJVc2VySUQiOiJkZWZhdWx0VXNlciIsIlBhc3N3b3JkIjoiZGVmYXVsdFBhc3N3b3JkIn0="  # noqa: S105
DEFAULT_CURRENT_KEY = "sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r"
DEFAULT_NEXT_KEY = "sig_5ZB6DVzB1wjE8S6rZ7eenA8Pdnhs"

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """Connect to ``target`` for URLs under ``source``; all the world sees is ``source``."""

    source: str
    target: str

    def apply(self, url: str) -> str | None:
        """The URL to connect to, or ``None`` if ``url`` is not under ``source``."""
        ours, theirs = urlsplit(self.source), urlsplit(url)
        if _origin(ours) != _origin(theirs):
            return None
        # Cut by length, not rebuilt from parts: the rest of the URL must stay as it is.
        rest = url[url.index("//") + 2 :][len(theirs.netloc) :]
        prefix = ours.path
        if not rest.startswith(prefix) or rest[len(prefix) :][:1] not in ("", "/", "?", "#"):
            return None
        return self.target + rest[len(prefix) :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of one server; lengths of time in seconds, sizes in bytes.

    ``time_scale`` divides the waiting time between redeliveries, never a message's own delay.
    ``max_stored`` bounds the bodies kept in memory, ``max_waiting`` the messages not yet done;
    beyond either, publishing is answered with 429. The dead letters are bounded in number, in
    bytes and by their age; the oldest go first. ``db`` is the file in which everything is kept,
    ``None`` keeps it in memory. Raises ``ValueError`` for useless values.
    """

    token: str = DEFAULT_TOKEN
    current_key: str = DEFAULT_CURRENT_KEY
    next_key: str = DEFAULT_NEXT_KEY
    time_scale: float = 1.0
    rewrites: tuple[Rewrite, ...] = ()
    max_body: int = 1_048_576
    max_timeout: float = 900.0
    concurrency: int = 100
    max_waiting: int = 200_000
    max_stored: int = 268_435_456
    keep_finished: int = 5_000
    keep_seconds: float = 600.0
    keep_dead: int = 10_000
    keep_dead_bytes: int = 67_108_864
    # As long as QStash does on its free plan: three days.
    keep_dead_seconds: float = 259_200.0
    db: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.time_scale < math.inf:
            raise ValueError(f"the time scale must be a number above 0, not {self.time_scale}")
        if not self.token or not self.token.isascii() or not self.token.isprintable():
            raise ValueError("the token must be printable ASCII text")
        if min(len(self.current_key), len(self.next_key)) < 16:
            raise ValueError("signing keys must have 16 characters or more")
        if min(self.max_body, self.concurrency, self.max_waiting, self.max_timeout) <= 0:
            raise ValueError("limits must be above 0")

    @property
    def is_public(self) -> bool:
        """Whether a secret of this server is one that everybody knows."""
        known = {DEFAULT_CURRENT_KEY, DEFAULT_NEXT_KEY}
        return self.token == DEFAULT_TOKEN or bool({self.current_key, self.next_key} & known)

    def connect_url(self, url: str) -> str:
        """Where to connect for ``url``: the first rewrite that fits wins."""
        for rewrite in self.rewrites:
            target = rewrite.apply(url)
            if target is not None:
                return target
        return url


def parse_rewrite(text: str) -> Rewrite:
    """Parse ``FROM=TO``, two http(s) URLs without query.

    Raises ``ValueError`` that names the text.
    """
    source, equals, target = text.partition("=")
    if not equals:
        raise ValueError(f"write a rewrite as FROM=TO, not {text!r}")
    for url in (source, target):
        try:
            parts = urlsplit(url)
            good = bool(_origin(parts)[1]) and not parts.query and not parts.fragment
        except ValueError:
            good = False
        if not good:
            raise ValueError(
                f"{url!r} in the rewrite {text!r} is not an http(s) URL like https://host:port"
            )
    return Rewrite(source=source.rstrip("/"), target=target.rstrip("/"))


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    if parts.scheme not in _DEFAULT_PORTS:
        return parts.scheme, "", 0
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]
