"""What is stored comes back equal and of the same type, or is refused with a reason."""

from __future__ import annotations

import contextlib
import enum
import functools
import io
import json
import math
import sys
from collections import namedtuple
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType, Optional, TypedDict, Union
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_hookflow.core.codec import MAX_DEPTH, JSONCodec, digest, hint_of, same_value
from django_hookflow.core.hints import enums_in
from django_hookflow.exceptions import SerializationError

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]

codec = JSONCodec()
BERLIN = ZoneInfo("Europe/Berlin")


class Color(enum.Enum):
    RED = "r"
    BLUE = object()


class Shade(enum.Enum):
    RED = 1
    DARK = 2


class Priority(enum.IntEnum):
    HIGH = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Text(str):
    pass


class Odd(tzinfo):
    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(hours=1)


class Paint(TypedDict):
    color: Color


@dataclass
class Point:
    x: int


Pair = namedtuple("Pair", "a b")
Tint = NewType("Tint", Color)


def same(left: Any, right: Any) -> bool:
    """Equal and of the same types, at every depth; NaN equals NaN, -0.0 does not equal 0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return repr(left) == repr(right)
    if isinstance(left, Decimal):
        return left.as_tuple() == right.as_tuple()
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[k], right[k]) for k in left)
    if isinstance(left, (set, frozenset)):
        return len(left) == len(right) and all(any(same(a, b) for b in right) for a in left)
    if isinstance(left, (datetime, time)):
        return (
            left.replace(tzinfo=None) == right.replace(tzinfo=None)
            and left.fold == right.fold
            and same_zone(left.tzinfo, right.tzinfo)
        )
    return bool(left == right)


def same_zone(left: tzinfo | None, right: tzinfo | None) -> bool:
    if isinstance(left, timezone):
        return type(right) is timezone and left == right and left.tzname(None) == right.tzname(None)
    return left is right


TAGS = ["str", "int", "float", "dict", "set", "tuple", "enum", "datetime", "time", "bytes", "x"]

VALUES = [
    None,
    True,
    0,
    -1,
    10**599,
    10**600,
    -(10**5000),
    1.5,
    -0.0,
    1e308,
    5e-324,
    math.nan,
    math.inf,
    -math.inf,
    "",
    "é\x00\n\u2028",
    "\ud800",
    "\udc00\ud800",
    "\ud83d\ude00",
    "😀",
    [],
    {},
    {"$": "tuple", "v": []},
    {"$": {"$": 1}, "a": {"$x": 2}},
    {"\ud83d\ude00": 1, "\ud83d": 2},
    {"": 1, "a b": 2, "id": 3, "0": 4},
    datetime(2026, 11, 22, 1, 2, 3, 4),
    datetime(2026, 11, 22, 1, 2, 3, fold=1),
    datetime(2026, 11, 22, tzinfo=timezone.utc),
    datetime(2026, 11, 22, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    datetime(2026, 11, 22, tzinfo=timezone(timedelta(hours=-3), "BRT")),
    datetime(2026, 11, 22, tzinfo=timezone(timedelta(0), "GMT")),
    datetime(2026, 11, 22, tzinfo=timezone(timedelta(seconds=1, microseconds=7), "\ud83d\ude00")),
    datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),
    datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
    datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=23))),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))),
    date(1, 1, 1),
    date.max,
    time(1, 2, 3, 4),
    time(23, 59, fold=1),
    time(1, tzinfo=timezone.utc),
    time(1, tzinfo=BERLIN),
    timedelta.max,
    timedelta.min,
    timedelta(microseconds=-1),
    Decimal("1.10"),
    Decimal("1E+5"),
    Decimal("-0"),
    Decimal("NaN"),
    Decimal("-NaN123"),
    Decimal("sNaN"),
    Decimal("-Infinity"),
    Decimal("0." + "1" * 60),
    Decimal("1" * 5000),
    UUID(int=0),
    UUID(int=2**128 - 1),
    b"",
    b"\x00\xff",
    (),
    (1, (2, [3, (4,)])),
    {1},
    set(),
    frozenset({(1, 2), frozenset({3})}),
    {"a": [{"b": ({1.5}, None)}]},
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_a_value_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    text = codec.encode(value)
    assert text.isascii()
    assert "\x00" not in text
    json.loads(text)
    assert same(codec.decode(text), value)


def test_utc_comes_back_as_the_singleton() -> None:
    value = codec.decode(codec.encode(datetime(2026, 1, 1, tzinfo=timezone.utc)))
    assert value.tzinfo is timezone.utc


texts = st.text(st.characters(codec=None, categories=None))
zones = st.one_of(
    st.none(),
    st.just(timezone.utc),
    st.sampled_from([BERLIN, ZoneInfo("America/New_York"), ZoneInfo("UTC")]),
    st.builds(
        timezone,
        st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)),
    ),
    st.builds(timezone, st.just(timedelta(hours=2)), texts),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(2000, 20000).map(lambda bits: -(1 << bits)),
    st.floats(),
    texts,
    st.decimals(),
    st.uuids(),
    st.binary(),
    st.dates(),
    st.timedeltas(),
    st.builds(lambda value, zone: value.replace(tzinfo=zone), st.datetimes(), zones),
    st.builds(lambda value, fold: value.replace(fold=fold), st.times(), st.sampled_from([0, 1])),
)
# A signalling NaN cannot be hashed, so it cannot be in a set.
hashable = scalars.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan()))
keys = st.one_of(texts, st.just("$"))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.sets(hashable, max_size=4),
        st.frozensets(hashable, max_size=4),
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(values)
def test_any_value_survives_the_round_trip(value: Any) -> None:
    text = codec.encode(value)
    assert same(codec.decode(text), value)
    assert codec.encode(codec.decode(text)) == text
    assert digest((value,), {}) == digest((codec.decode(text),), {})


@settings(deadline=None)
@given(texts)
def test_decoding_any_text_gives_a_value_or_our_error(text: str) -> None:
    with contextlib.suppress(SerializationError):
        codec.decode(text)


@settings(deadline=None)
@given(
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.fixed_dictionaries(
                {
                    "$": st.sampled_from(
                        [
                            "str",
                            "int",
                            "float",
                            "dict",
                            "set",
                            "tuple",
                            "enum",
                            "datetime",
                            "time",
                            "x",
                        ]
                    )
                },
                optional={"v": inner, "t": inner, "zone": inner, "offset": inner, "name": inner},
            ),
        ),
    )
)
def test_decoding_any_tagged_tree_gives_a_value_or_our_error(tree: Any) -> None:
    with contextlib.suppress(SerializationError):
        codec.decode(json.dumps(tree), hint=Union[Color, Shade])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        "[Infinity]",
        "[" * 100_000,
        '{"$":"later","v":1}',
        '{"$":["tuple"],"v":[]}',
        '{"$":"set","v":[[1]]}',
        '{"$":"decimal","v":"x"}',
        '{"$":"bytes","v":"***"}',
        '{"$":"datetime","v":"2026-01-01T00:00:00","zone":"Mars/Base"}',
        '{"$":"datetime","v":"2026-01-01T00:00:00","zone":"../../etc/passwd"}',
        '{"$":"datetime","v":"2026-01-01T00:00:00","zone":"Europe"}',
        '{"$":"enum","t":"os.system","v":"RED"}',
        "9" * 10_000,
    ],
    ids=lambda text: text[:40],
)
def test_broken_text_is_a_serialization_error(text: str) -> None:
    with pytest.raises(SerializationError, match="cannot be read"):
        codec.decode(text)


def _cycle() -> list[Any]:
    items: list[Any] = []
    items.append({"again": items})
    return items


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({"items": [1, 2, 3, {"price": object()}]}, "$.items[3].price", "builtins.object"),
        ({"a b": [Text("x")]}, '$["a b"][0]', "subclass of str; make it a plain str"),
        ({"a": {1: 2}}, "$.a", "key of type int"),
        ({Text("k"): 1}, "$", "key of type Text"),
        ((1, {2}, {Pair(1, 2)}), "$[2][*]", "namedtuple"),
        (Pair(1, 2), "$", "namedtuple"),
        (Color.RED, "$", "annotate the step function's return type with Color"),
        (Priority.HIGH, "$", "annotate the step function's return type with Priority"),
        (Point(1), "$", "dataclasses.asdict"),
        ([io.BytesIO()], "$[0]", "open file"),
        ((n for n in [1]), "$", "list(value)"),
        (bytearray(b"x"), "$", "bytes(value)"),
        (datetime(2026, 1, 1, tzinfo=Odd()), "$", "ZoneInfo"),
        (1j, "$", "builtins.complex"),
        (_cycle(), "$[0].again[0].again", "contains itself"),
        (_deep(MAX_DEPTH + 1), "$[0][0]", "nested more than"),
        (_deep(100_000), "$[0][0]", "nested more than"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else "",
)
def test_what_cannot_be_stored_is_named_with_its_path(value: Any, path: str, reason: str) -> None:
    with pytest.raises(SerializationError) as caught:
        codec.encode(value)
    assert str(caught.value).startswith(path)
    assert reason in str(caught.value)


def test_a_model_instance_is_refused_with_the_advice_to_store_its_key() -> None:
    from django.contrib.auth.models import User

    with pytest.raises(SerializationError, match=r"^\$\.user is a model instance .*\.pk"):
        codec.encode({"user": User()})


def test_the_deepest_allowed_value_comes_back() -> None:
    assert codec.decode(codec.encode(_deep(MAX_DEPTH))) == _deep(MAX_DEPTH)
    escaped: Any = 1
    for _ in range(MAX_DEPTH // 2):
        escaped = ({"$": escaped},)
    assert codec.decode(codec.encode(escaped)) == escaped


def test_a_stack_that_is_nearly_used_up_is_a_serialization_error() -> None:
    def descend(levels: int) -> None:
        if levels:
            descend(levels - 1)
        else:
            codec.encode(_deep(MAX_DEPTH))

    depth = len(_frames())
    with pytest.raises(SerializationError, match="nested"):
        descend(sys.getrecursionlimit() - depth - 60)


def _frames() -> list[object]:
    frame, frames = sys._getframe(), []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back  # type: ignore[assignment]
    return frames


def test_equal_sets_have_one_text() -> None:
    # These collide, so that they keep the order of their insertion.
    one, other = set(range(0, 32, 8)), set(range(24, -1, -8))
    assert list(one) != list(other)
    assert codec.encode(one) == codec.encode(other)


def test_the_limit_counts_bytes_and_says_which_setting() -> None:
    assert codec.encode("é", limit=8) == '"\\u00e9"'
    with pytest.raises(SerializationError, match=r"takes 8 bytes.* 7 .*HOOKFLOW_MAX_VALUE_BYTES"):
        codec.encode("é", limit=7)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Color, Color.RED),
        (Color, Color.BLUE),
        (Optional[Color], Color.RED),
        (Color | None, None),
        (Color | None, Color.RED),
        (Union[int, Color], Color.RED),
        (list[Color], [Color.RED, Color.BLUE]),
        (dict[str, Color], {"$": Color.RED}),
        (tuple[Color, ...], (Color.RED,)),
        (tuple[int, Color], (1, Color.RED)),
        (set[Color], {Color.RED, Color.BLUE}),
        (frozenset[Color], frozenset({Color.RED})),
        (dict[str, list[Optional[Color]]], {"a": [None, Color.RED]}),
        (Union[Color, Shade], Shade.RED),
        (Union[Color, Shade], Color.RED),
        (Annotated[Color, "paint"], Color.RED),
        (Annotated[list[Color], []], [Color.RED]),
        (Literal[Color.RED], Color.RED),
        (Tint, Color.RED),
        (Paint, {"color": Color.RED}),
        (Priority, Priority.HIGH),
        (Access, Access.READ),
        (Access, Access.READ | Access.WRITE),
        (Access, Access(0)),
        (Color, "RED"),
        (list[Color], ["r"]),
    ],
    # The same in each process: without the address of an object or the order of a set.
    ids=lambda value: str(value).partition("<")[0],
)
def test_enum_members_come_back_by_the_annotation(hint: Any, value: Any) -> None:
    assert same(codec.decode(codec.encode(value, hint=hint), hint=hint), value)


def test_an_enum_that_the_annotation_does_not_name_is_refused() -> None:
    with pytest.raises(SerializationError, match=r"\$\[0\] is Color.RED"):
        codec.encode([Color.RED], hint=list[Shade])


def test_a_renamed_enum_is_read_by_the_annotation_and_an_unannotated_one_not_at_all() -> None:
    text = codec.encode(Color.RED, hint=Color)
    assert codec.decode(text, hint=Optional[Shade]) is Shade.RED
    for hint in (Any, int, Union[Priority, Shade]):
        with pytest.raises(SerializationError, match="no single enum"):
            codec.decode(text, hint=hint)
    with pytest.raises(SerializationError):
        codec.decode(text, hint=Priority)


class TestHintOf:
    def test_reads_the_return_annotation_as_text_and_as_type(self) -> None:
        def by_type(x: int) -> list[Color]: ...
        async def by_coroutine() -> Color: ...
        def text() -> "Color | None": ...  # noqa: UP037

        assert enums_in(hint_of(by_type)) == {Color}
        assert hint_of(by_coroutine) is Color
        assert hint_of(text) == Optional[Color]

    def test_a_parameter_that_cannot_be_resolved_does_not_hide_it(self) -> None:
        def typed(x: Missing) -> Color: ...  # type: ignore[no-any-unimported]

        assert hint_of(typed) is Color

    def test_looks_through_partials_wraps_methods_and_callables(self) -> None:
        class Service:
            def paint(self) -> Color: ...
            def __call__(self) -> Shade: ...

        def base(x: int) -> Color: ...

        @functools.wraps(base)
        def wrapper(*args: Any) -> Any: ...

        assert hint_of(functools.partial(functools.partial(base, 1))) is Color
        assert hint_of(wrapper) is Color
        assert hint_of(Service().paint) is Color
        assert hint_of(Service()) is Shade
        assert hint_of(Color) is Color

    def test_nothing_known_is_any(self) -> None:
        def bare(): ...  # type: ignore[no-untyped-def]
        def broken() -> Missing: ...  # type: ignore[no-any-unimported]
        def typo() -> "list[": ...  # type: ignore[syntax]  # noqa: F722

        for fn in (bare, broken, typo, len, lambda: 1, functools.partial(len), 3):
            assert hint_of(fn) is Any  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ({"a": 1, "b": {"c": (), "d": 2}}, {"b": {"d": 2, "c": ()}, "a": 1}),
        ([{"$": 1, "b": {"x": 1, "y": 2}}], [{"b": {"y": 2, "x": 1}, "$": 1}]),
    ],
)
def test_texts_of_equal_values_are_the_same_in_whatever_order_their_keys_are(
    value: Any, other: Any
) -> None:
    assert codec.encode(value) != codec.encode(other)
    assert same_value(codec.encode(value), codec.encode(other))


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ([1, 2], [2, 1]), ({"a": 1}, {"a": "1"}), ({"a": 1}, {"a": 1.0}), ((1,), [1]), (1, True),
        ({"v": [1, 2]}, {"v": [2, 1]}), ((1, 2), (2, 1)),
    ],
)  # fmt: skip
def test_texts_of_other_values_are_not_the_same(value: Any, other: Any) -> None:
    assert not same_value(codec.encode(value), codec.encode(other))


def test_pairs_of_a_stored_dict_come_in_any_order() -> None:
    """One with the key of tags is stored as pairs, which have no order of their own."""
    pairs = [("$", "a"), ("x", 2), ("b", [3])]
    assert same_value(codec.encode(dict(pairs)), codec.encode(dict(reversed(pairs))))


@pytest.mark.parametrize("text", ["x", "NaN", "[" * 100_000, ""])
def test_texts_of_another_codec_are_the_same_if_they_are_equal(text: str) -> None:
    assert same_value(text, text)
    assert same_value(text, text + "x") is False


def test_what_is_no_number_equals_nothing() -> None:
    assert same_value("[NaN]", "[NaN ]") is False


@pytest.mark.parametrize("text", ['{"$":"dict"}', '{"$":"dict","v":5}'])
def test_what_only_looks_like_pairs_is_compared_as_it_is(text: str) -> None:
    assert same_value(text, text + " ")


def test_pairs_that_have_no_order_are_another_codec_s() -> None:
    text = '{"$":"dict","v":[[1,2],["a",2]]}'
    assert same_value(text, text + " ") is False


class TestDigest:
    def test_is_32_hex_digits_and_tells_arguments_apart(self) -> None:
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
            ((), {}),
            ((1,), {}),
            (("1",), {}),
            ((1, 2), {}),
            (([1, 2],), {}),
            (((1, 2),), {}),
            ((), {"a": 1}),
            (({"a": 1},), {}),
            ((Color.RED,), {}),
            ((Color.BLUE,), {}),
            ((datetime(2026, 1, 1),), {}),
            ((object(),), {}),
            (([object()],), {}),
        ]
        digests = [digest(args, kwargs) for args, kwargs in calls]
        assert len(set(digests)) == len(calls)
        assert all(len(d) == 32 and set(d) <= set("0123456789abcdef") for d in digests)

    def test_does_not_see_order_of_keywords_keys_and_sets(self) -> None:
        assert digest((), {"a": 1, "b": 2}) == digest((), {"b": 2, "a": 1})
        assert digest(({"a": (), "b": 2},), {}) == digest(({"b": 2, "a": ()},), {})
        assert digest(({"x", "y"},), {}) == digest(({"y", "x"},), {})

    def test_takes_what_cannot_be_stored_by_its_type(self) -> None:
        cycle = _cycle()
        for make in (object, lambda: [Point(1)], lambda: {1: 2}, lambda: cycle, _cycle):
            assert digest((make(),), {}) == digest((make(),), {})
        assert digest((Point(1),), {}) != digest((Pair(1, 2),), {})

    def test_is_stable_across_releases(self) -> None:
        assert digest(("a", 1, (2,)), {"k": {"x"}}) == "37b30709edda046e60a39afaf0a9312e"
