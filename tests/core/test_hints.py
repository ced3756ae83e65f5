"""Which enum classes an annotation names, wherever in it they stand."""

from __future__ import annotations

import enum
import functools
import sys
from typing import Annotated, Any, Generic, TypedDict, TypeVar, Union

import pytest

from django_hookflow.core.hints import enums_in, hint_of

if sys.version_info >= (3, 12):
    from typing import TypeAliasType
else:
    from typing_extensions import TypeAliasType

T = TypeVar("T")


class Color(enum.Enum):
    RED = "r"


class Shade(enum.Enum):
    DARK = 1


class Tree(TypedDict):
    color: Color
    children: list[Tree]


class Astray(TypedDict):
    color: Nowhere  # type: ignore[name-defined]  # noqa: F821


class Box(Generic[T]):
    pass


Colors = TypeAliasType("Colors", list[Color])
Either = TypeAliasType("Either", Union[T, Color], type_params=(T,))


@pytest.mark.parametrize(
    ("hint", "enums"),
    [
        (Any, set()),
        (None, set()),
        (int, set()),
        (Color, {Color}),
        (Colors, {Color}),
        (dict[str, Colors], {Color}),
        (Either[Shade], {Color, Shade}),
        (Box[Color], {Color}),
        (Tree, {Color}),
        (Astray, set()),
        (list[Union[Astray, Shade]], {Shade}),
    ],
    # The same in each process: a set has no order of its own.
    ids=lambda value: "" if isinstance(value, set) else str(value),
)
def test_enums_are_found_at_any_depth(hint, enums):
    assert enums_in(hint) == enums


def test_what_is_annotated_beside_the_type_is_kept():
    def painted() -> Annotated[Color, "oil"]: ...

    assert hint_of(painted) == Annotated[Color, "oil"]


def test_annotations_of_an_instance_are_not_those_of_its_call():
    class Service:
        size: int = 1

        def __call__(self) -> Color: ...

    assert hint_of(Service()) is Color


def test_a_decorators_wrapper_resolves_names_where_the_function_was_written():
    elsewhere: dict[str, Any] = {"functools": functools}
    source = "def decorate(fn):\n return functools.wraps(fn)(lambda *args: fn(*args))"
    exec(compile(source, "decorators.py", "exec"), elsewhere)

    def paint() -> Color: ...

    assert hint_of(elsewhere["decorate"](elsewhere["decorate"](paint))) is Color


def test_a_function_that_wraps_itself_is_read_all_the_same():
    def paint() -> Color: ...

    paint.__wrapped__ = paint  # type: ignore[attr-defined]
    assert hint_of(paint) is Color
