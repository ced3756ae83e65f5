from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_hookflow.core.identifiers import uuid7
from django_hookflow.core.messages import Newer, Ping, SweepOrder, Unknown, Wake, parse_message

RUN = UUID("01900000-0000-7000-8000-0000000000ab")


def test_a_wake_is_small_and_comes_back():
    wake = Wake(run=RUN, number=2**62)
    body = wake.encode().encode()
    assert len(body) <= 300
    assert parse_message(body) == wake


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (SweepOrder().encode().encode(), SweepOrder),
        (Ping(token="0123456789abcdef").encode().encode(), Ping),
        (b'{"v":1,"ping":1}', Unknown),
        (b'{"v":2,"ping":"x"}', Newer),
        (b'{"v":2,"anything":1}', Newer),
        (b'{"v":0,"run":"x","w":1}', Unknown),
        (b'{"v":true,"sweep":1}', Unknown),
        (b'{"v":1.0,"sweep":1}', Unknown),
        (b'{"v":1}', Unknown),
        (b'{"v":1,"run":"../etc","w":1}', Unknown),
        (f'{{"v":1,"run":"{str(RUN).upper()}","w":1}}'.encode(), Unknown),
        (f'{{"v":1,"run":"{RUN}","w":0}}'.encode(), Unknown),
        (f'{{"v":1,"run":"{RUN}","w":"1"}}'.encode(), Unknown),
        (f'{{"v":1,"run":"{RUN}","w":true}}'.encode(), Unknown),
        (b"[]", Unknown),
        (b"", Unknown),
        (b"\xff\xfe", Unknown),
        (b"[" * 100_000, Unknown),
    ],
)
def test_what_is_told_apart(body, kind):
    assert isinstance(parse_message(body), kind)


@given(st.binary())
def test_nothing_raises(body):
    parse_message(body)


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_uuid7_is_one_and_sorts_by_time(milliseconds, randomness):
    made = uuid7(milliseconds, randomness)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == milliseconds


def test_uuid7_wants_ten_bytes():
    with pytest.raises(ValueError, match="10 random bytes"):
        uuid7(0, b"")
