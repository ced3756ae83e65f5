"""Values as text and back: what a step returned is exactly what a replay returns.

Text is ASCII JSON. What JSON has no word for is a tagged object ``{"$": tag, ...}``; a dict
that has the key ``"$"`` itself is tagged too, so nothing a user stores can be taken for a
tag. Exact types only: a subclass would come back as its base, silently.

Most values are plain JSON. One walk finds that out and the value goes to ``json`` as it is;
only otherwise a tagged copy is built, which is also the walk that knows the path of what it
refuses. Pure; no name out of stored text is imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from math import isfinite
from typing import Any, NoReturn

from django_hookflow.core.hints import enums_in, hint_of
from django_hookflow.core.scalars import TAG, is_plain_int, is_plain_text
from django_hookflow.core.tagging import MAX_DEPTH, TOO_DEEP, Imprinter, Tagger, untag
from django_hookflow.exceptions import SerializationError

__all__ = ["MAX_DEPTH", "JSONCodec", "digest", "hint_of", "same_value"]

_write = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode
_write_sorted = json.JSONEncoder(
    separators=(",", ":"), allow_nan=False, check_circular=False, sort_keys=True
).encode


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


#: What reading broken text may raise; OSError when a zone's name is a directory.
_UNREADABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)

_read = json.JSONDecoder(parse_constant=_no_constant).decode


def _ordered(tree: dict[str, Any]) -> dict[str, Any]:
    """The same tree; the pairs that a dict with the key of tags is stored as, in one order."""
    if tree.get(TAG) == "dict" and isinstance(tree.get("v"), list):
        tree["v"].sort()
    return tree


_read_ordered = json.JSONDecoder(object_hook=_ordered).decode


class JSONCodec:
    """Stores JSON types, dates and times, ``Decimal``, ``UUID``, ``bytes`` and collections.

    Enum members too where ``hint``, a type annotation, names their class. The codec of the
    setting ``DJANGO_HOOKFLOW_CODEC`` unless another one is named.
    """

    def encode(self, value: Any, *, hint: Any = Any, limit: int | None = None) -> str:
        """ASCII text of ``value``.

        Raises :class:`SerializationError` that names the path inside the value, and one that
        names the size if the text takes more than ``limit`` bytes.
        """
        try:
            text = _write(value if _is_plain(value, 0) else Tagger(enums_in(hint)).tag(value))
        except RecursionError as error:
            raise SerializationError(f"$ {TOO_DEEP}") from error
        if limit is not None and len(text) > limit:
            raise SerializationError(
                f"$ takes {len(text)} bytes, more than the {limit} of the setting "
                "DJANGO_HOOKFLOW_MAX_VALUE_BYTES; store it elsewhere and return its key"
            )
        return text

    def decode(self, text: str, *, hint: Any = Any) -> Any:
        """The value that ``text`` was made of, equal and of the same type.

        Raises :class:`SerializationError` for text that :meth:`encode` did not write.
        """
        try:
            tree = _read(text)
            # Every tag is written with exactly this key; most values have none.
            return untag(tree, hint) if f'"{TAG}"' in text else tree
        except _UNREADABLE as error:
            reason = f"{type(error).__name__}: {error}"
            raise SerializationError(f"stored value cannot be read: {reason}") from error


def digest(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """32 hex digits that are the same for equal arguments of a call, in every process.

    An argument that cannot be stored counts by its type's name only: better to overlook a
    difference than to stop a run for an address in memory.
    """
    tree = [[_imprint(value) for value in args], {k: _imprint(v) for k, v in kwargs.items()}]
    return hashlib.sha256(_write_sorted(tree).encode("ascii")).hexdigest()[:32]


def same_value(text: str, other: str) -> bool:
    """Whether two stored texts are of equal values: the keys of a dict come in any order."""
    if text == other:
        return True
    try:
        return _write_sorted(_read_ordered(text)) == _write_sorted(_read_ordered(other))
    except (ValueError, TypeError, RecursionError):  # another codec's: its texts say what is equal
        return False


def _is_plain(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind is str:
        return is_plain_text(value)
    if value is None or kind is bool:
        return True
    if kind is int:
        return is_plain_int(value)
    if kind is float:
        return isfinite(value)
    if kind is dict and depth < MAX_DEPTH:
        for key, item in value.items():
            if type(key) is not str or key == TAG or not is_plain_text(key):
                return False
            if not _is_plain(item, depth + 1):
                return False
        return True
    if kind is list and depth < MAX_DEPTH:
        return all(_is_plain(item, depth + 1) for item in value)
    return False


def _imprint(value: Any) -> Any:
    return value if _is_plain(value, 0) else Imprinter(frozenset()).tag(value)
