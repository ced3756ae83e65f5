"""Signatures of QStash: made for the local server, verified for the webhook.

A signature is a JSON Web Token over the destination URL and the hash of the body. PyJWT
does the cryptography; form and claims are checked here, because its own checks know neither
``now`` nor the body, and convert what they should refuse (``"exp": "123"``). Only
``SignatureError`` leaves this module, whatever the sender wrote.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jwt import PyJWS, PyJWTError
from jwt.algorithms import HMACAlgorithm

from django_hookflow.exceptions import SignatureError

__all__ = ["LIFETIME", "Claims", "looks_genuine", "sign", "verify"]

LIFETIME = 300
"""Seconds that a signature is valid."""

_ALGORITHM = "HS256"
_ISSUER = "Upstash"
_SHORTEST_KEY = 16
# A token repeats the URL and is short otherwise (about 400 characters); anybody may send
# longer ones, and reading 16 KB takes a quarter of a millisecond.
_MOST_BESIDE_URL = 2_048

# Three parts in base64url, each in the one spelling that its bytes have: the unused bits of
# a part's last character must be zero, else one signature could be written in four ways.
_PART = r"((?:[\w-]{4})*(?:[\w-][AQgw]|[\w-]{2}[AEIMQUYcgkosw048])?)"
_TOKEN = re.compile(rf"{_PART}\.{_PART}\.{_PART}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a verified signature says: its id (may be empty), the URL, the last valid second."""

    jti: str
    sub: str
    exp: int


def sign(*, key: str, url: str, body: bytes, now: int, jti: str) -> str:
    """The ``Upstash-Signature`` for one delivery of ``body`` to ``url``, valid for 5 minutes.

    ``now`` is in Unix seconds, rounded down: verifiers without leeway refuse a future ``iat``.
    """
    claims = {
        "iss": _ISSUER,
        "sub": url,
        "iat": now,
        "nbf": 0,  # as QStash does: the receiver's clock may be slow
        "exp": now + LIFETIME,
        "jti": jti,
        "body": _digest(body),
    }
    payload = json.dumps(claims, separators=(",", ":")).encode()
    return _JWS.encode(payload, key, algorithm=_ALGORITHM)


def verify(
    token: str,
    *,
    keys: Sequence[str],
    url: str,
    body: bytes,
    now: float | None = None,
    leeway: float = 5.0,
) -> Claims:
    """Check that QStash signed this body for this URL; tries the keys in their order.

    ``url`` is compared letter by letter, so give the configured public URL and nothing that a
    request says about itself. ``now`` (Unix seconds) defaults to the clock, ``leeway`` is in
    seconds. Keys under 16 bytes are ignored. Raises ``SignatureError`` for anything wrong.
    """
    claims = _json_object(_signed_payload(token, keys, url), "claims")
    moment = time.time() if now is None else now
    exp = _check_times(claims, moment, leeway)
    if _text(claims, "iss") != _ISSUER:
        raise SignatureError(f"the issuer is not {_ISSUER}")
    if _text(claims, "sub") != url:
        raise SignatureError(f"signed for {claims['sub']!r}, not for {url!r}")
    _check_body(_text(claims, "body"), body)
    return Claims(jti=_text(claims, "jti", ""), sub=url, exp=exp)


def looks_genuine(token: str, url: str, *, now: float | None = None, leeway: float = 5.0) -> bool:
    """Whether the token could be QStash's for this URL, without checking the signature.

    For deciding whether fetching keys over the network is worth it; proves nothing. ``now`` is
    in Unix seconds, ``leeway`` in seconds. Raises nothing.
    """
    moment = time.time() if now is None else now
    try:
        header, payload, _ = _parts(token, url)
        _check_header(header)
        claims = _json_object(_decoded(payload), "claims")
        _check_times(claims, moment, leeway)
        return _text(claims, "iss") == _ISSUER and _text(claims, "sub") == url
    except SignatureError:
        return False


class _Hmac(HMACAlgorithm):
    """HS256 that does not warn at keys of 16 to 31 bytes; shorter ones never come here."""

    def check_key_length(self, key: bytes) -> str | None:
        return None


def _only_hs256() -> PyJWS:
    jws = PyJWS(algorithms=[])
    jws.register_algorithm(_ALGORITHM, _HS256)
    return jws


_HS256 = _Hmac(_Hmac.SHA256)
_JWS = _only_hs256()


def _signed_payload(token: str, keys: Sequence[str], url: str) -> bytes:
    """The token's payload if one of the keys signed it.

    Claims are looked at only after this, so "expired" is never hidden by the next key's
    "signature does not match". The token is taken apart here and once, not by PyJWT for each
    key: that costs a millisecond for a long token, which anybody may send.
    """
    header, payload, signature = _parts(token, url)
    _check_header(header)
    usable = [key for key in keys if _is_usable(key)]
    if not usable:
        raise SignatureError(f"no signing key of {_SHORTEST_KEY} bytes or more is configured")
    signed, given = f"{header}.{payload}".encode("ascii"), _decoded(signature)
    if not any(_is_signed(signed, key, given) for key in usable):
        raise SignatureError("not signed with a known key")
    return _decoded(payload)


def _check_header(part: str) -> None:
    header = _json_object(_decoded(part), "header")
    if header.get("alg") != _ALGORITHM:
        raise SignatureError(f"the signature's algorithm is not {_ALGORITHM}")
    # "crit" lists what a verifier must understand; the rest of a header may be ignored.
    if "crit" in header:
        raise SignatureError("the signature needs an extension that is not known")


def _is_signed(signed: bytes, key: str, signature: bytes) -> bool:
    try:
        return _HS256.verify(signed, _HS256.prepare_key(key), signature)
    except (PyJWTError, ValueError):
        return False  # a key that is none, such as a certificate


def _is_usable(key: object) -> bool:
    return isinstance(key, str) and len(key.encode("utf-8", "replace")) >= _SHORTEST_KEY


def _parts(token: object, url: str) -> tuple[str, str, str]:
    if not isinstance(token, str) or not token:
        raise SignatureError("there is no signature")
    longest = _MOST_BESIDE_URL + 2 * len(url)
    match = _TOKEN.fullmatch(token) if len(token) <= longest else None
    if match is None:
        raise SignatureError("the signature is not a well-formed token")
    return match[1], match[2], match[3]


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _json_object(raw: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise SignatureError(f"the signature's {what} are not JSON") from None
    if not isinstance(value, dict):
        raise SignatureError(f"the signature's {what} are not an object")
    return value


def _text(claims: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = claims.get(name, default)
    if not isinstance(value, str):
        raise SignatureError(f"the claim {name!r} is missing or not a string")
    return value


def _check_times(claims: Mapping[str, Any], now: float, leeway: float) -> int:
    exp = _seconds(claims, "exp")
    if now >= exp + leeway:
        raise SignatureError(f"the signature expired {now - exp:.0f} s ago")
    if _seconds(claims, "nbf") > now + leeway:
        raise SignatureError("the signature is not valid yet (nbf)")
    if "iat" in claims and _seconds(claims, "iat") > now + leeway:
        raise SignatureError("the signature was issued in the future (iat)")
    return int(exp)


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SignatureError(f"the claim {name!r} is missing or not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise SignatureError(f"the claim {name!r} is out of range")
    return number


def _digest(body: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode()


def _check_body(claim: str, body: bytes) -> None:
    expected = _digest(body).encode()
    said = claim.encode("utf-8", "replace")
    padded = hmac.compare_digest(said, expected)
    if not (hmac.compare_digest(said, expected.rstrip(b"=")) or padded):
        raise SignatureError("signed for another body")
