"""Why a value cannot be stored and what to do instead, as one sentence. Pure."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import Any

from django_hookflow.core.scalars import WRITERS

STORABLE = (
    "JSON types, datetime, date, time, timedelta, Decimal, UUID, bytes, tuple, set and frozenset"
)

_CONTAINERS: tuple[type, ...] = (list, dict, tuple, set, frozenset)
# The first base that fits is named: datetime before date, which it is a subclass of.
_BASES = (*_CONTAINERS, *sorted(WRITERS, key=lambda kind: -len(kind.__mro__)))


def qualified_name(kind: type) -> str:
    """``module.QualName``; the same in every process, unlike ``repr``."""
    return f"{kind.__module__}.{kind.__qualname__}"


def refusal(value: Any) -> str:
    """What is wrong with ``value`` and what to do about it."""
    kind = type(value)
    name = kind.__qualname__
    if isinstance(value, Enum):
        return (
            f"is {name}.{value.name}, an enum member; annotate the step function's return type "
            f"with {name}, or store its .value"
        )
    if hasattr(kind, "_meta") and hasattr(kind, "pk"):
        return f"is a model instance ({name}); store its .pk and load it again in the next step"
    if dataclasses.is_dataclass(value):
        return f"is a dataclass ({name}); store dataclasses.asdict(value)"
    if hasattr(kind, "model_dump"):
        return f"is a pydantic model ({name}); store value.model_dump()"
    if isinstance(value, tuple) and hasattr(kind, "_asdict"):
        return f"is a namedtuple ({name}); store tuple(value) or value._asdict()"
    if base := next((base for base in _BASES if isinstance(value, base)), None):
        return f"is a {name}, a subclass of {base.__name__}; make it a plain {base.__name__}"
    return f"is a {qualified_name(kind)}; {_advice(value)}"


def key_refusal(key: Any) -> str:
    """What is wrong with a dict that has ``key``."""
    return (
        f"is a dict with a key of type {type(key).__qualname__}; keys are plain str: "
        "use str(key), or store a list of pairs"
    )


def _advice(value: Any) -> str:
    if hasattr(value, "read") or hasattr(value, "write"):
        return "an open file cannot be stored: store its path, or its content as bytes"
    if hasattr(value, "__await__"):
        return "it was not awaited: store what it returns"
    if isinstance(value, (bytearray, memoryview)):
        return "store bytes(value)"
    if hasattr(value, "__iter__"):
        return "store list(value)"
    return f"{STORABLE} can be stored: convert it first"
