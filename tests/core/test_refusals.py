"""What is said of a value that cannot be stored: what it is, and what to do instead."""

import re
from collections import namedtuple
from datetime import datetime

import pytest

from django_hookflow.core.refusals import refusal


class Reader:
    def read(self): ...


class Writer:
    def write(self, data): ...


class Pending:
    def __await__(self): ...


class Model:
    _meta = pk = None


class OnlyMeta:
    _meta = None


class OnlyPk:
    pk = None


class Pydantic:
    def model_dump(self): ...


class Triple(tuple):
    __slots__ = ()


class LikeNamedtuple:
    def _asdict(self): ...


class Stamp(datetime):
    pass


class Iterable:
    def __iter__(self): ...


CONVERT = "JSON types, datetime, .* can be stored: convert it first"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Reader(), "open file cannot be stored: store its path, or its content"),
        (Writer(), "open file cannot be stored"),
        (Pending(), "Pending; it was not awaited: store what it returns"),
        (Model(), r"model instance \(Model\); store its .pk"),
        (OnlyMeta(), f"OnlyMeta; {CONVERT}"),
        (OnlyPk(), f"OnlyPk; {CONVERT}"),
        (Pydantic(), r"pydantic model \(Pydantic\); store value.model_dump\(\)"),
        (namedtuple("Pair", "a")(1), r"namedtuple \(Pair\); store tuple\(value\)"),
        (Triple((1, 2, 3)), "Triple, a subclass of tuple; make it a plain tuple"),
        (LikeNamedtuple(), f"LikeNamedtuple; {CONVERT}"),
        # Not of date, which datetime is a subclass of itself.
        (Stamp(2026, 1, 1), "Stamp, a subclass of datetime; make it a plain datetime"),
        (Iterable(), r"Iterable; store list\(value\)"),
        (memoryview(b"x"), r"memoryview; store bytes\(value\)"),
        (object(), f"is a builtins.object; {CONVERT}"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_refusal_says_what_to_store_instead(value, reason):
    assert re.search(reason, refusal(value))
