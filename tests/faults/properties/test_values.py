"""Values of every kind in every nesting, through the codec and through each journal's columns.

``tests/core/test_codec.py`` has the codec's edges one by one; here they meet each other.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Optional

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from django_hookflow.core.codec import JSONCodec
from django_hookflow.core.entries import ErrorRecord, Kind, RunStatus
from django_hookflow.core.transitions import Fence, Finish, Receive, Record
from django_hookflow.exceptions import SerializationError
from tests.core.test_codec import same, scalars, texts
from tests.faults.properties.settings import hunting, trying
from tests.journals.bench import LEASE, Bench, MemoryBench, OrmBench, entry, outcome

codec = JSONCodec()


class Color(Enum):
    RED = "r"
    BLUE = 2


# A signalling NaN has no hash.
atoms = scalars.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan()))
hashables = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)
    ),
    max_leaves=6,
)
keys = st.one_of(texts, st.sampled_from(["$", "v", "", "a.b", "é"]))
values = st.recursive(
    st.one_of(scalars, hashables),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.sets(hashables, max_size=4),
        st.frozensets(hashables, max_size=4),
    ),
    max_leaves=15,
)


@trying(200)
@given(values)
def test_a_nested_value_comes_back_equal_and_of_the_same_types(value: Any) -> None:
    text = codec.encode(value)
    again = codec.decode(text)
    assert same(again, value)
    assert codec.encode(again) == text  # so one value has one text, and one args_sha


@st.composite
def hinted(draw: Callable[..., Any]) -> tuple[Any, Any]:
    """An annotation that names an enum somewhere, and a value of it."""
    hint, members = Color, st.sampled_from(Color)
    for _ in range(draw(st.integers(0, 4))):
        shape = draw(st.sampled_from(["list", "dict", "tuple", "optional", "set"]))
        inner = members
        if shape == "list":
            hint, members = list[hint], st.lists(inner, max_size=3)
        elif shape == "dict":
            hint, members = dict[str, hint], st.dictionaries(keys, inner, max_size=3)
        elif shape == "tuple":
            hint, members = tuple[hint, ...], st.lists(inner, max_size=3).map(tuple)
        elif shape == "optional" or hint is not Color:
            hint, members = Optional[hint], st.none() | inner
        else:
            hint, members = set[hint], st.sets(inner)
    return hint, draw(members)


@trying(100)
@given(hinted())
def test_an_enum_comes_back_from_wherever_the_annotation_has_it(pair: tuple[Any, Any]) -> None:
    hint, value = pair
    assert same(codec.decode(codec.encode(value, hint=hint), hint=hint), value)


# --- through the columns of each journal

KINDS: dict[str, Callable[[], Bench]] = {
    "memory": MemoryBench,
    **{alias: (lambda alias=alias: OrmBench(alias)) for alias in settings.DATABASES},
}


@pytest.mark.parametrize("bench", list(KINDS))
@pytest.mark.django_db(databases="__all__")
def test_a_value_comes_back_from_every_column(bench: str) -> None:
    made = KINDS[bench]()

    @trying(100 if bench == "memory" else 25)
    @given(st.lists(values, min_size=1, max_size=8))
    def through(several: list[Any]) -> None:
        assert same(through_the_journal(made, several), several)

    through()


def through_the_journal(bench: Bench, several: list[Any]) -> list[Any]:
    """Each value as a step's; all as data, payload, error's response and result as well."""
    whole = codec.encode(several)
    id = bench.start(data=whole)
    held = Fence(id=id, epoch=bench.claim(id).run.epoch, lease=LEASE)
    for number, value in enumerate(several):
        step = outcome("s", occurrence=number + 1, value=codec.encode(value))
        bench.journal.commit(Record(fence=held, entry=step))
    bench.send(id, whole)
    wait = entry("wait", Kind.EVENT, event="paid")
    timeout = ErrorRecord(type="EventTimeout", message="")
    bench.journal.commit(Receive(fence=held, entry=wait, timeout_error=timeout))
    bench.pass_time(minutes=2)
    claimed = bench.claim(id)
    assert claimed.run.data == whole
    read = {step.key: step.value for step in claimed.entries}
    assert read["wait#1"] == whole
    done = replace(held, epoch=claimed.run.epoch)
    bench.journal.finish(Finish(fence=done, status=RunStatus.COMPLETED, result=whole))
    assert bench.run(id).result == whole
    return [codec.decode(read[f"s#{number + 1}"]) for number in range(len(several))]


# --- what is refused


class Text(str):
    pass


class Level(IntEnum):
    LOW = 1


class Odd(tzinfo):
    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(hours=1)


@dataclass
class Point:
    x: int = 0


Pair = namedtuple("Pair", "a b")

REFUSED: dict[str, Callable[[], Any]] = {
    "object": object,
    "str subclass": lambda: Text("x"),
    "IntEnum": lambda: Level.LOW,
    "enum": lambda: Color.RED,
    "namedtuple": lambda: Pair(1, 2),
    "foreign tzinfo": lambda: datetime(2026, 1, 1, tzinfo=Odd()),
    "complex": lambda: 1j,
    "function": lambda: len,
    "class": lambda: int,
    "range": lambda: range(3),
    "bytearray": lambda: bytearray(b"x"),
    "dataclass": Point,
    "int keys": lambda: {1: 2},
    "generator": lambda: iter([1]),
    "exception": lambda: ValueError("x"),
}
NO_HASH = {"bytearray", "dataclass", "int keys"}


@st.composite
def refused(draw: Callable[..., Any]) -> tuple[Any, str]:
    """A storable value but for one thing deep in it, and the path to that."""
    name = draw(st.sampled_from(sorted(REFUSED)))
    value, path = REFUSED[name](), ""
    for _ in range(draw(st.integers(0, 5))):
        value, path = draw(around(value, path, name not in NO_HASH))
    return value, f"${path}"


@st.composite
def around(draw: Callable[..., Any], value: Any, path: str, hashable: bool) -> tuple[Any, str]:
    shapes = ["list", "tuple", "dict"]
    if hashable and is_hashable(value):
        shapes += ["set", "frozenset"]
    shape = draw(st.sampled_from(shapes))
    if shape in ("set", "frozenset"):
        others = draw(st.sets(hashables, max_size=2))
        return {"set": set, "frozenset": frozenset}[shape]({value, *others}), f"[*]{path}"
    if shape == "dict":
        before, after = (draw(st.dictionaries(keys, values, max_size=2)) for _ in range(2))
        key = draw(keys)
        apart = {k: v for k, v in {**before, **after}.items() if k != key}
        return {**apart, key: value}, f"{step_of_path(key)}{path}"
    before, after = (draw(st.lists(values, max_size=2)) for _ in range(2))
    items = [*before, value, *after]
    return items if shape == "list" else tuple(items), f"[{len(before)}]{path}"


def is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def step_of_path(key: str) -> str:
    """As a reader would write it in JavaScript; a long key is cut."""
    shown = key if len(key) <= 60 else f"{key[:60]}..."
    return f".{shown}" if shown.isidentifier() else f"[{json.dumps(shown)}]"


@trying(200)
@given(refused())
def test_what_cannot_be_stored_is_named_by_its_path_wherever_it_is(pair: tuple[Any, str]) -> None:
    value, path = pair
    with pytest.raises(SerializationError) as caught:
        codec.encode(value)
    assert str(caught.value).startswith(f"{path} "), str(caught.value)


# --- a planted bug


class ForgetsTuplesInSets(JSONCodec):
    def decode(self, text: str, *, hint: Any = Any) -> Any:
        inside = '{"$":"set","v":[{"$":"%s"'
        return super().decode(text.replace(inside % "tuple", inside % "frozenset"), hint=hint)


def test_a_codec_that_mistakes_what_is_nested_is_found() -> None:
    broken = ForgetsTuplesInSets()

    @hunting(2000)
    @given(values)
    def round_trip(value: Any) -> None:
        assert same(broken.decode(broken.encode(value)), value)

    with pytest.raises(AssertionError):
        round_trip()
