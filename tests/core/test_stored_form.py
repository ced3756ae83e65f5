"""What stands in the database: a later version has to read it, so it stays as it is."""

from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from io import BytesIO
from struct import pack
from typing import Any, Union
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from django_hookflow.core.codec import MAX_DEPTH, JSONCodec, digest
from django_hookflow.exceptions import SerializationError
from tests.core.test_hints import Color, Shade

codec = JSONCodec()
BERLIN = ZoneInfo("Europe/Berlin")
BRT = timezone(timedelta(hours=-3), "BRT")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, None, True, "é"]}, r'{"a":[1,null,true,"\u00e9"]}'),
        ("\ud83d\ude00", '{"$":"str","v":"eda0bdedb880"}'),
        (float("nan"), '{"$":"float","v":"nan"}'),
        (Decimal("1.10"), '{"$":"decimal","v":"1.10"}'),
        (UUID(int=1), '{"$":"uuid","v":"00000000-0000-0000-0000-000000000001"}'),
        (b"\x00\xff", '{"$":"bytes","v":"AP8="}'),
        (timedelta(days=-1, microseconds=1), '{"$":"timedelta","v":[-1,0,1]}'),
        (date(2026, 1, 2), '{"$":"date","v":"2026-01-02"}'),
        (
            datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc),
            '{"$":"datetime","v":"2026-01-02T03:04:05.000006","offset":0}',
        ),
        (
            datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
            '{"$":"datetime","v":"2026-10-25T02:30:00","fold":1,"zone":"Europe/Berlin"}',
        ),
        (
            time(1, 2, tzinfo=BRT),
            '{"$":"time","v":"01:02:00","offset":-10800000000,"name":"BRT"}',
        ),
        ((1,), '{"$":"tuple","v":[1]}'),
        ({2, 1}, '{"$":"set","v":[1,2]}'),
        (frozenset({1}), '{"$":"frozenset","v":[1]}'),
        ({"$": 1}, '{"$":"dict","v":[["$",1]]}'),
        ({"\ud83d\ude00": 1}, '{"$":"dict","v":[[{"$":"str","v":"eda0bdedb880"},1]]}'),
    ],
)
def test_the_stored_form_stays(value: Any, text: str) -> None:
    assert codec.encode(value) == text
    assert codec.decode(text) == value or value != value


@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_too_long_for_some_pythons_is_stored_in_hexadecimal(sign: int) -> None:
    assert codec.encode(sign * (10**600 - 1)) == str(sign * (10**600 - 1))
    assert codec.encode(sign * 10**600) == f'{{"$":"int","v":"{sign * 10**600:#x}"}}'


def test_the_digest_of_what_cannot_be_stored_stays() -> None:
    assert digest((object(), 1j), {}) == "9f1331182f4e95f1c42a5449d9e2dd02"
    cycle: list[Any] = []
    cycle.append(cycle)
    assert digest((cycle,), {}) != digest((None,), {})


def test_a_tag_of_a_newer_version_is_said_to_be_one() -> None:
    with pytest.raises(SerializationError, match=r"unknown tag 'later'; .* newer version"):
        codec.decode('{"$":"later","v":1}')


def test_what_is_no_json_is_named() -> None:
    with pytest.raises(SerializationError, match="-Infinity is no JSON"):
        codec.decode("-Infinity")


def test_the_last_part_of_a_moved_enums_name_picks_among_several() -> None:
    for member in (Color.RED, Shade.DARK):
        stored = f'{{"$":"enum","t":"old.place.{type(member).__name__}","v":"{member.name}"}}'
        assert codec.decode(stored, hint=Union[Color, Shade]) is member


def test_many_containers_side_by_side_are_not_deep() -> None:
    wide = tuple([{}, ()] for _ in range(MAX_DEPTH + 50))
    assert codec.decode(codec.encode(wide)) == wide


def test_dicts_count_as_levels_too() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = {"k": deep}
    assert codec.decode(codec.encode(deep)) == deep
    with pytest.raises(SerializationError, match=rf"^\$(\.k){{8}} is nested more than {MAX_DEPTH}"):
        codec.encode({"k": deep})


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": 1, "b": {"c": 2}, "d": 1j}, "$.d is"),
        ({"k" * 60: 1j}, f"$.{'k' * 60} is"),
        ({"k" * 61: 1j}, f'$["{"k" * 60}..."] is'),
    ],
)
def test_a_path_names_the_very_place(value: Any, path: str) -> None:
    with pytest.raises(SerializationError) as caught:
        codec.encode(value)
    assert str(caught.value).startswith(path)


def test_a_zone_read_from_a_file_has_no_name_to_store() -> None:
    counts, utc = pack(">6l", 0, 0, 0, 0, 1, 4), pack(">lbb", 0, 0, 0)
    nameless = ZoneInfo.from_file(BytesIO(b"TZif" + bytes(16) + counts + utc + b"UTC\x00"))
    with pytest.raises(SerializationError, match=r"tzinfo of type zoneinfo.ZoneInfo; use"):
        codec.encode(datetime(2026, 1, 1, tzinfo=nameless))
