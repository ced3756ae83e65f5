"""One genuine delivery and its mutations; each says what the table of answers allows.

The table: the protocol's section 4, docs/reference/webhook.md. What is not signed for exactly
this URL and these bytes is 401 and touches nothing; what is signed and no message of ours can
never succeed; a genuine wake-up of a run that waits costs one SELECT.
"""

import base64
import hmac
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from django_hookflow.core.messages import MAX_BODY_BYTES, Wake
from django_hookflow.transports.signing import sign
from tests.django.harness import KEY, PATH, URL

NEXT_KEY = "sig_next_test_key_0123456789abcdef"[:32]
FOREIGN_KEY = "sig_of_another_account_0123456789"


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A request, what it may be answered, and how many queries it may cost."""

    kind: str
    body: bytes
    token: str | None
    method: str = "POST"
    path: str = PATH
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    allowed: frozenset[int] = frozenset({401})
    queries: int = 0


class Maker:
    """Makes deliveries from one seed; ``run`` waits for a time far away, under wake ``wake``."""

    def __init__(self, rng: random.Random, run: UUID, wake: int, now: int) -> None:
        self.rng = rng
        self.now = now
        self.body = Wake(run=run, number=wake - 1).encode().encode()
        self._kinds: list[Callable[[], Delivery]] = [
            getattr(self, name) for name in sorted(vars(Maker)) if name.startswith("make_")
        ]

    def any(self) -> Delivery:
        return self.rng.choice(self._kinds)()

    def sign(self, body: bytes, *, key: str = KEY, url: str = URL, now: int | None = None) -> str:
        return sign(key=key, url=url, body=body, now=self.now if now is None else now, jti="jwt")

    def genuine(self, kind: str = "genuine", **changes: Any) -> Delivery:
        whole = Delivery(kind=kind, body=self.body, token=self.sign(self.body))
        return replace(whole, **changes)

    # --- what is not signed for this

    def make_changed_body(self) -> Delivery:
        return self.genuine("changed body", body=self._mutated(self.body))

    def make_changed_token(self) -> Delivery:
        token = self.sign(self.body)
        changed = self._mutated(token.encode()).decode("latin-1")
        if changed == token:
            changed += "x"
        return self.genuine("changed token", token=_header_safe(changed, token))

    def make_no_token(self) -> Delivery:
        return self.genuine("no token", token=self.rng.choice((None, "", " ", "a.b.c", "..")))

    def make_foreign_key(self) -> Delivery:
        return self.genuine("foreign key", token=self.sign(self.body, key=FOREIGN_KEY))

    def make_other_url(self) -> Delivery:
        urls = (URL.rstrip("/"), URL + "x", URL + "?a=1", URL.replace("https", "http"), "")
        return self.genuine("other url", token=self.sign(self.body, url=self.rng.choice(urls)))

    def make_other_time(self) -> Delivery:
        shift = self.rng.choice((-10_000, -400, -320, 60, 400, 10_000))
        return self.genuine("other time", token=self.sign(self.body, now=self.now + shift))

    def make_other_algorithm(self) -> Delivery:
        algorithm = self.rng.choice(("none", "None", "HS384", "HS512", "RS256", "hs256"))
        return self.genuine("algorithm", token=by_hand(self._claims(), algorithm))

    def make_other_claims(self) -> Delivery:
        claims = self._claims()
        name = self.rng.choice(("iss", "sub", "exp", "nbf", "iat", "body"))
        if name in {"nbf", "iat"}:
            claims[name] = self.rng.choice((self.now + 10_000, "soon", [], float(10**300)))
        else:
            claims[name] = self.rng.choice((None, "", "x", 0, -1, [], {}, True))
        return self.genuine("claims", token=by_hand(claims))

    def make_hex_hash(self) -> Delivery:
        """The body's hash in another spelling than base64url."""
        claims = self._claims()
        raw = base64.urlsafe_b64decode(claims["body"] + "==")
        claims["body"] = self.rng.choice((raw.hex(), raw.hex().upper(), claims["body"] + "==="))
        return self.genuine("hash", token=by_hand(claims))

    def _claims(self) -> dict[str, Any]:
        part = self.sign(self.body).split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=="))
        return claims

    # --- what is never a delivery

    def make_other_method(self) -> Delivery:
        method = self.rng.choice(("GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"))
        return self.genuine("method", method=method, allowed=frozenset({405}))

    def make_too_large(self) -> Delivery:
        body = b" " * (MAX_BODY_BYTES + self.rng.choice((1, 2, 1000))) + self.body
        return self.genuine("large", body=body, token=self.sign(body), allowed=frozenset({413}))

    # --- what is signed and no message of ours

    def make_signed_garbage(self) -> Delivery:
        body = self._garbage()
        return self.genuine("garbage", body=body, token=self.sign(body), allowed=frozenset({489}))

    def make_signed_stranger(self) -> Delivery:
        """Two environments behind one URL."""
        body = Wake(run=UUID(int=self.rng.getrandbits(128)), number=1).encode().encode()
        signed = {"body": body, "token": self.sign(body)}
        return self.genuine("stranger", allowed=frozenset({489}), queries=1, **signed)

    def make_newer(self) -> Delivery:
        version = self.rng.choice((2, 3, 10**9))
        body = self.body.replace(b'"v":1', b'"v":%d' % version)
        return self.genuine("newer", body=body, token=self.sign(body), allowed=frozenset({503}))

    def make_ping(self) -> Delivery:
        body = json.dumps({"v": 1, "ping": "x" * self.rng.randint(0, 50)}).encode()
        return self.genuine("ping", body=body, token=self.sign(body), allowed=frozenset({200}))

    # --- what is genuine, with all that is not signed changed

    def make_stale(self) -> Delivery:
        key = self.rng.choice((KEY, NEXT_KEY))
        return self.genuine(
            "stale",
            token=self.sign(self.body, key=key),
            allowed=frozenset({200}),
            queries=1,
            headers=self._unsigned_headers(),
            content_type=self.rng.choice(
                ("application/json", "text/plain", "multipart/form-data; boundary=x", "", "a/b/c")
            ),
            path=self.rng.choice((PATH, PATH + "?a=1&b=%00", PATH + "?" + "q" * 500)),
        )

    def _unsigned_headers(self) -> dict[str, str]:
        known = {
            "HTTP_UPSTASH_RETRIED": ("0", "3", "-1", "many", "9" * 40),
            "HTTP_UPSTASH_MESSAGE_ID": ("msg_1", "", "../../etc", "\xff"),
            "HTTP_X_FORWARDED_HOST": ("evil.example", "app.example"),
            "HTTP_X_FORWARDED_PROTO": ("http", "https"),
            "HTTP_AUTHORIZATION": ("Bearer x", "Basic !!"),
            "HTTP_COOKIE": ("sessionid=1; csrftoken=2", "=;=;"),
            "HTTP_ACCEPT_ENCODING": ("gzip", "*;q=0"),
            "HTTP_EXPECT": ("100-continue",),
        }
        names = self.rng.sample(sorted(known), self.rng.randint(0, 4))
        return {name: self.rng.choice(known[name]) for name in names}

    def _garbage(self) -> bytes:
        run = json.loads(self.body)["run"]
        made: list[Any] = [
            b"", b"{", b"null", b"[]", b"1", b'"x"', b"\xff\xfe", b"\x00", b"{}" * 100,
            b"[" * 5000, b'{"v":1}', b'{"v":true,"run":1}', b'{"v":0}', b'{"v":-1}', b'{"v":"1"}',
            {"v": 1, "run": run}, {"v": 1, "run": run, "w": "1"}, {"v": 1, "run": run, "w": 0},
            {"v": 1, "run": run, "w": -1}, {"v": 1, "run": run, "w": 2**63},
            {"v": 1, "run": run, "w": 1.0}, {"v": 1, "run": run.upper(), "w": 1},
            {"v": 1, "run": run.replace("-", ""), "w": 1}, {"v": 1, "run": "{" + run + "}", "w": 1},
            {"v": 1, "run": [run], "w": 1}, {"v": 1, "sweep": 2}, {"v": 1, "ping": 1},
            {"v": 1, "run": "'; drop table x", "w": 1}, {"V": 1, "run": run, "w": 1},
        ]  # fmt: skip
        chosen = self.rng.choice(made)
        return chosen if isinstance(chosen, bytes) else json.dumps(chosen).encode()

    def _mutated(self, raw: bytes) -> bytes:
        """Other bytes than these: one flipped, dropped, doubled, inserted, or a cut."""
        at, how = self.rng.randrange(len(raw)), self.rng.randrange(5)
        made = [
            raw[:at] + bytes([raw[at] ^ (1 << self.rng.randrange(8))]) + raw[at + 1 :],
            raw[:at] + raw[at + 1 :],
            raw[:at] + raw[at : at + 1] + raw[at:],
            raw[:at] + bytes([self.rng.randrange(256)]) + raw[at:],
            raw[:at],
        ][how]
        return made if made != raw else raw + b" "


def by_hand(claims: dict[str, Any], algorithm: str = "HS256") -> str:
    """A token with the right key, whatever its claims; libraries refuse to make such ones."""
    head = _part(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    signed = f"{head}.{_part(json.dumps(claims).encode())}"
    known = algorithm in {"HS256", "HS384", "HS512"}
    digest = hmac.digest(KEY.encode(), signed.encode(), f"sha{algorithm[2:]}") if known else b""
    return f"{signed}.{_part(digest)}"


def _part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _header_safe(changed: str, token: str) -> str:
    """A line end cannot be in a header, and a space around it is cut off by servers."""
    kept = changed.replace("\r", "r").replace("\n", "n").strip()
    return kept if kept != token else "x" + kept
