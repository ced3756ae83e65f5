from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_hookflow.core.identifiers import uuid7
from django_hookflow.core.messages import Newer, Ping, SweepOrder, Unknown, Wake, parse_message

RUN = UUID("01900000-0000-7000-8000-0000000000ab")


def test_a_wake_is_small_and_comes_back():
    wake = Wake(run=RUN, number=2**62)
    body = wake.encode().encode()
    assert len(body) <= 300
    assert parse_message(body) == wake


def test_the_bodies_stay():
    wake = Wake(run=RUN, number=5)
    assert wake.encode() == '{"v":1,"run":"01900000-0000-7000-8000-0000000000ab","w":5}'
    assert SweepOrder().encode() == '{"v":1,"sweep":1}'
    assert Ping(token="abc").encode() == '{"v":1,"ping":"abc"}'
    assert parse_message(b'{"v":1,"ping":"abc"}') == Ping(token="abc")


@pytest.mark.parametrize("number", [1, 2**63 - 1])
def test_a_wake_number_is_one_that_every_database_can_keep(number):
    wake = Wake(run=RUN, number=number)
    assert parse_message(wake.encode().encode()) == wake
    beyond = Wake(run=RUN, number=number - 1 if number == 1 else number + 1)
    assert parse_message(beyond.encode().encode()) == Unknown()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (SweepOrder().encode().encode(), SweepOrder),
        (Ping(token="0123456789abcdef").encode().encode(), Ping),
        (b'{"v":1,"ping":1}', Unknown),
        (b'{"v":2,"ping":"x"}', Newer),
        (b'{"v":2,"anything":1}', Newer),
        (b'{"v":0,"run":"x","w":1}', Unknown),
        (b'{"v":0,"sweep":1}', Unknown),
        (b'{"v":1,"run":5,"w":1}', Unknown),
        (b'{"v":1,"sweep":2}', Unknown),
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


@settings(deadline=None)
@given(st.binary())
def test_nothing_raises(body):
    parse_message(body)


@settings(deadline=None)
@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_uuid7_is_one_and_sorts_by_time(milliseconds, randomness):
    made = uuid7(milliseconds, randomness)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == milliseconds


def test_uuid7_keeps_48_bits_of_the_time():
    assert uuid7(2**48 + 5, bytes(10)) == uuid7(5, bytes(10))


def test_uuid7_wants_ten_bytes():
    with pytest.raises(ValueError, match="10 random bytes"):
        uuid7(0, b"")
