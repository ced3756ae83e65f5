"""Signatures: what the official SDK accepts we make, and what nobody signed we refuse."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import warnings

import jwt
import pytest
import qstash
from hypothesis import given, settings
from hypothesis import strategies as st
from qstash.errors import SignatureError as OfficialSignatureError

from django_hookflow.exceptions import SignatureError
from django_hookflow.transports.signing import Claims, looks_genuine, sign, verify

KEY = "sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r"
OTHER = "sig_5ZB6DVzB1wjE8S6rZ7eenA8Pdnhs"
URL = "https://shop.example/hookflow/?a=b"
BODY = b'{"run": "1", "v": 1}'
NOW = 1_700_000_000
BODY_HASH = base64.urlsafe_b64encode(hashlib.sha256(BODY).digest()).decode()


def claims(**changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "iss": "Upstash",
        "sub": URL,
        "iat": NOW,
        "nbf": 0,
        "exp": NOW + 300,
        "jti": "jwt_1",
        "body": BODY_HASH,
    }
    values |= changes
    return {name: value for name, value in values.items() if value is not ...}


def part(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def token(
    payload: object = None, header: object = None, key: str = KEY, digest: str = "sha256"
) -> str:
    """A token by RFC 7515, without any library."""
    raw = payload if isinstance(payload, bytes) else json.dumps(payload or claims()).encode()
    head = header if isinstance(header, bytes) else None
    head = head or json.dumps(header or {"alg": "HS256", "typ": "JWT"}).encode()
    signed = f"{part(head)}.{part(raw)}"
    return f"{signed}.{part(hmac.digest(key.encode(), signed.encode(), digest))}"


def check(signature: str, **changes: object) -> Claims:
    values = {"keys": [KEY, OTHER], "url": URL, "body": BODY, "now": NOW + 10} | changes
    return verify(signature, **values)


def test_golden_token():
    # Header and payload as QStash writes them; the signature was computed apart from this code.
    made = sign(key=KEY, url="http://h/", body=b"hello", now=NOW, jti="jwt_x")
    head, payload, signature = made.split(".")
    assert head == "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
    assert base64.urlsafe_b64decode(payload + "==") == (
        b'{"iss":"Upstash","sub":"http://h/","iat":1700000000,"nbf":0,"exp":1700000300,'
        b'"jti":"jwt_x","body":"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="}'
    )
    assert signature == "7oPgVeZVdp8L5Ow9MUo-MnobZBsjMBZIx0Ai5-Qf4aY"


def test_token_made_by_hand_is_accepted():
    assert check(token()) == Claims(jti="jwt_1", sub=URL, exp=NOW + 300)
    assert check(token(key=OTHER)).jti == "jwt_1"


def test_official_receiver_accepts_ours():
    now = int(time.time())
    for body in ("", "text", '{"ü": 1}'):
        made = sign(key=KEY, url=URL, body=body.encode(), now=now, jti="jwt_1")
        qstash.Receiver(KEY, OTHER).verify(signature=made, body=body, url=URL)
        qstash.Receiver(OTHER, KEY).verify(signature=made, body=body, url=URL)
        with pytest.raises(OfficialSignatureError):
            qstash.Receiver(KEY, OTHER).verify(signature=made, body=body + "x", url=URL)


@pytest.mark.parametrize(
    "changes",
    [
        {"body": BODY_HASH.rstrip("=")},
        {"jti": ...},
        {"iat": ...},
        {"nbf": NOW},
        {"aud": ""},
        {"exp": NOW + 300.5},
        {"nbf": NOW + 14},  # five seconds of leeway
        {"iat": NOW + 14},
        {"exp": NOW + 6},
    ],
)
def test_accepted_variants(changes):
    check(token(claims(**changes)))


def test_keys_that_the_header_names_are_not_looked_at():
    check(token(header={"alg": "HS256", "kid": "../../dev/null", "jku": "http://evil/"}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"iss": "upstash"}, "issuer"),
        ({"iss": ...}, "'iss'"),
        ({"iss": ["Upstash"]}, "'iss'"),
        ({"sub": URL + "/"}, "signed for"),
        ({"sub": URL.upper()}, "signed for"),
        ({"sub": ...}, "'sub'"),
        ({"sub": None}, "'sub'"),
        ({"sub": [URL]}, "'sub'"),
        ({"exp": NOW + 4}, "expired"),
        ({"exp": ...}, "'exp'"),
        ({"exp": str(NOW + 300)}, "'exp'"),
        ({"exp": True}, "'exp'"),
        ({"exp": None}, "'exp'"),
        ({"exp": 1e308 * 10}, "'exp'"),
        ({"exp": 10**400}, "'exp'"),
        ({"exp": float("nan")}, "'exp'"),
        ({"nbf": NOW + 16}, "not valid yet"),
        ({"nbf": ...}, "'nbf'"),
        ({"nbf": "0"}, "'nbf'"),
        ({"iat": NOW + 16}, "future"),
        ({"iat": "now"}, "'iat'"),
        ({"jti": 5}, "'jti'"),
        ({"body": ...}, "'body'"),
        ({"body": 5}, "'body'"),
        ({"body": ""}, "another body"),
        ({"body": hashlib.sha256(BODY).hexdigest()}, "another body"),
        ({"body": base64.b64encode(hashlib.sha256(b"b").digest()).decode()}, "another body"),
        ({"body": BODY_HASH + "="}, "another body"),
        ({"body": BODY_HASH[:-1] + "\u00e9"}, "another body"),
    ],
)
def test_wrong_claims(changes, told):
    with pytest.raises(SignatureError, match=told):
        check(token(claims(**changes)))


@pytest.mark.parametrize(
    "signature",
    [
        "", ".", "..", "...", "a.b.c", "nonsense", "\u00fc.\u00fc.\u00fc", "\x00", "\ud800",
        token() + "=", token() + "\n", " " + token(), token()[:-1], token() + ".x",
        token().replace(".", "..", 1), "A" * 100_000, None, 5, token().encode(),
        token(b"[]"), token(b"1"), token(b"\xff"), token(b"{"), token(b"[" * 9000),
        token(header=b"[]"), token(header=b"{}"), token(header=b"\xff"), token(header=b"[" * 9000),
        token(header={"alg": "none"}), token(header={"alg": "None"}),
        token(header={"alg": ["HS256"]}), token(header={"alg": {"a": 1}}),
        token(header={"alg": "hs256"}), token(header={"alg": "RS256"}),
        token(header={"alg": "HS512"}, digest="sha512"),
        token(header={"alg": "HS256", "crit": ["x"], "x": 1}),
        token(header={"alg": "HS256", "b64": False, "crit": ["b64"]}),
        token(header={"alg": "HS256", "jwk": {"kty": "oct", "k": part(b"k" * 32)}}, key="k" * 32),
        token(key=""), token(key="k" * 32),
        ".".join([*jwt.encode(claims(), None, algorithm="none").split(".")[:2], ""]),
        jwt.encode(claims(), KEY * 2, algorithm="HS384"),
        ".".join(["a" * 8] * 5),
    ],
)  # fmt: skip
def test_what_is_no_signature(signature):
    with pytest.raises(SignatureError):
        check(signature)


@pytest.mark.parametrize("keys", [[], [""], ["short"], ["k" * 15], ["", "k" * 15], [None]])
def test_without_a_usable_key_nothing_is_genuine(keys):
    for key in keys or [""]:
        with pytest.raises(SignatureError, match="no signing key"):
            check(token(key=key or ""), keys=keys)


def test_short_keys_are_ignored_and_sixteen_bytes_suffice():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(token(key="k" * 16), keys=["", "short", "k" * 16])
        made = sign(key="k" * 16, url=URL, body=BODY, now=NOW, jti="j")
        check(made, keys=["k" * 16])


@pytest.mark.parametrize(
    "key", ["-----BEGIN PUBLIC KEY-----\nx", "ssh-rsa " + "A" * 40, "\ud800" * 16]
)
def test_odd_keys_do_no_harm(key):
    with pytest.raises(SignatureError):
        check(token(), keys=[key])
    check(token(), keys=[key, KEY])


@pytest.mark.parametrize("keys", [[KEY, OTHER], [OTHER, KEY]])
def test_telling_error_wins(keys):
    with pytest.raises(SignatureError, match="expired 50 s ago"):
        check(token(), keys=keys, now=NOW + 350)
    with pytest.raises(SignatureError, match="another body"):
        check(token(), keys=keys, body=b"")
    with pytest.raises(SignatureError, match="not signed with a known key"):
        check(token(key="k" * 32), keys=keys, now=NOW + 350)


def test_bodies_that_are_no_text():
    for body in (b"", b"\xff\xfe", b"\x00" * 1_000_000):
        check(sign(key=KEY, url=URL, body=body, now=NOW, jti="j"), body=body)


def test_long_urls_make_long_tokens():
    url = "https://shop.example/" + "a" * 8000
    check(sign(key=KEY, url=url, body=BODY, now=NOW, jti="jwt_" + "x" * 40), url=url)
    with pytest.raises(SignatureError, match="well-formed"):
        check(sign(key=KEY, url=URL + "a" * 8000, body=BODY, now=NOW, jti="j"))


def test_clock_is_the_default():
    with pytest.raises(SignatureError, match="expired"):
        verify(token(), keys=[KEY], url=URL, body=BODY)
    assert not looks_genuine(token(), URL)


def test_leeway():
    check(token(), now=NOW + 359, leeway=60)
    with pytest.raises(SignatureError, match="expired"):
        check(token(), now=NOW + 300, leeway=0)


POSITIONS = st.integers(0, len(token()) - 1)


@settings(max_examples=1500, deadline=None)
@given(POSITIONS, st.characters())
def test_no_mutated_token_is_accepted(position, character):
    mutated = token()[:position] + character + token()[position + 1 :]
    if mutated != token():
        with pytest.raises(SignatureError):
            check(mutated)


@settings(max_examples=300, deadline=None)
@given(POSITIONS, POSITIONS)
def test_no_piece_of_a_token_is_accepted(start, end):
    piece = token()[:start] + token()[end:]
    if piece != token():
        with pytest.raises(SignatureError):
            check(piece)


@settings(max_examples=200, deadline=None)
@given(st.binary())
def test_no_other_body_is_accepted(body):
    if body != BODY:
        with pytest.raises(SignatureError, match="another body"):
            check(token(), body=body)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text(), st.sampled_from([URL + "#", URL[:-1], URL + " ", URL.replace("s", "S", 1)])
    )
)
def test_no_other_url_is_accepted(url):
    if url != URL:
        with pytest.raises(SignatureError, match="signed for"):
            check(token(), url=url)


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_is_refused_and_nothing_else_is_raised(text):
    with pytest.raises(SignatureError):
        check(text)
    assert looks_genuine(text, URL) is False


def test_last_character_has_one_spelling_only():
    # Two bits of it mean nothing; a decoder that ignores them accepts four tokens for one.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    genuine = token()
    accepted = []
    for character in alphabet:
        try:
            check(genuine[:-1] + character)
        except SignatureError:
            continue
        accepted.append(character)
    assert accepted == [genuine[-1]]


def test_looks_genuine_without_any_key():
    assert looks_genuine(token(), URL, now=NOW)
    assert looks_genuine(token(key="k" * 32), URL, now=NOW)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "a.b.c",
        None,
        token(claims(iss="x")),
        token(claims(sub="x")),
        token(claims(exp=NOW - 6)),
        token(claims(exp="x")),
        token(claims(nbf=...)),
        token(b"[]"),
        token(b"[" * 9000),
        token(header={"alg": "none"}),
        token(header={"alg": "HS512"}),
        token(header=b"[" * 9000),
    ],
)
def test_what_does_not_even_look_genuine(signature):
    assert looks_genuine(signature, URL, now=NOW) is False
