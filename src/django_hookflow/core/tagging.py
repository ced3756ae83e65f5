"""Any storable value as a tree of plain JSON types and back; knows the path of what it refuses.

Rules: exact types only, because a subclass would come back as its base, silently; the text
never names a class to import. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, Flag
from typing import Any

from django_hookflow.core.hints import enums_in
from django_hookflow.core.refusals import key_refusal, qualified_name, refusal
from django_hookflow.core.scalars import READERS, TAG, WRITERS, Unstorable, is_plain_text
from django_hookflow.exceptions import SerializationError

#: Containers inside containers. Far below the interpreter's recursion limit, so that whether
#: a value can be stored does not depend on how deep the caller's stack happens to be.
MAX_DEPTH = 150

#: Characters of a key that a path shows.
LONGEST_KEY = 60

TOO_DEEP = f"is nested more than {MAX_DEPTH} levels deep; flatten it"
_CYCLE = "contains itself; store ids instead of references"


class _TooDeep(Exception):
    """Nested beyond MAX_DEPTH; the text says whether in itself."""


class Tagger:
    """Builds the tagged tree of one value and knows where in it it is."""

    def __init__(self, enums: frozenset[type[Enum]]) -> None:
        self._enums = enums
        self._path: list[str] = []
        self._inside: list[Any] = []

    def tag(self, value: Any) -> Any:
        try:
            return self._tree(value)
        except _TooDeep as error:
            # The first steps tell where; all 150 of them would hide it.
            raise SerializationError(f"${''.join(self._path[:8])} {error}") from None

    def _tree(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if (writer := WRITERS.get(kind)) is not None:
            try:
                return writer(value)
            except Unstorable as error:
                return self._refuse(value, str(error))
        if kind in _COLLECTIONS:
            return self._collection(value)
        if isinstance(value, Enum):
            return self._enum(value)
        return self._refuse(value, refusal(value))

    def _collection(self, value: Any) -> Any:
        if len(self._inside) >= MAX_DEPTH:
            again = any(outer is value for outer in self._inside)
            raise _TooDeep(_CYCLE if again else TOO_DEEP)
        self._inside.append(value)
        tree = _COLLECTIONS[type(value)](self, value)
        self._inside.pop()
        return tree

    def _list(self, value: Iterable[Any]) -> list[Any]:
        tree = []
        for index, item in enumerate(value):
            self._path.append(f"[{index}]")
            tree.append(self._tree(item))
            self._path.pop()
        return tree

    def _tuple(self, value: tuple[Any, ...]) -> Any:
        return {TAG: "tuple", "v": self._list(value)}

    def _set(self, value: set[Any] | frozenset[Any]) -> Any:
        self._path.append("[*]")
        # Sorted by text: the order of a set differs from process to process.
        items = sorted((self._tree(item) for item in value), key=json.dumps)
        self._path.pop()
        return {TAG: type(value).__name__, "v": items}

    def _dict(self, value: dict[Any, Any]) -> Any:
        tree = {}
        escape = False
        for key, item in value.items():
            if type(key) is not str:
                return self._refuse(value, key_refusal(key))
            escape = escape or key == TAG or not is_plain_text(key)
            self._path.append(_step_of_path(key))
            tree[key] = self._tree(item)
            self._path.pop()
        if not escape:
            return tree
        return {TAG: "dict", "v": [[WRITERS[str](key), item] for key, item in tree.items()]}

    def _enum(self, value: Enum) -> Any:
        if type(value) not in self._enums:
            return self._refuse(value, refusal(value))
        return _tagged_enum(value)

    def _refuse(self, value: Any, reason: str) -> Any:
        raise SerializationError(f"${''.join(self._path)} {reason}")


_COLLECTIONS: Mapping[type, Callable[[Any, Any], Any]] = {
    list: Tagger._list,
    dict: Tagger._dict,
    tuple: Tagger._tuple,
    set: Tagger._set,
    frozenset: Tagger._set,
}


class Imprinter(Tagger):
    """Like the tagger, but what cannot be stored becomes the name of its type."""

    def tag(self, value: Any) -> Any:
        try:
            return self._tree(value)
        except (_TooDeep, RecursionError):
            return _opaque(value)

    def _enum(self, value: Enum) -> Any:
        return _tagged_enum(value)

    def _refuse(self, value: Any, reason: str) -> Any:
        return _opaque(value)


def _step_of_path(key: str) -> str:
    shown = key if len(key) <= LONGEST_KEY else f"{key[:LONGEST_KEY]}..."
    return f".{shown}" if shown.isidentifier() else f"[{json.dumps(shown)}]"


def _opaque(value: Any) -> Any:
    return {TAG: "type", "v": qualified_name(type(value))}


def _tagged_enum(value: Enum) -> Any:
    # By name, because a value may be any object; a Flag's combination has no name on 3.10.
    member = value.value if isinstance(value, Flag) else value.name
    return {TAG: "enum", "t": qualified_name(type(value)), "v": member}


def untag(tree: Any, hint: Any) -> Any:
    if type(tree) is list:
        return [untag(item, hint) for item in tree]
    if type(tree) is not dict:
        return tree
    if TAG not in tree:
        return {key: untag(item, hint) for key, item in tree.items()}
    tag = tree[TAG]
    if tag in READERS:
        return READERS[tag](tree)
    if tag == "enum":
        return _read_enum(tree, hint)
    if tag not in _BUILDERS:
        raise ValueError(f"unknown tag {tag!r}; was it written by a newer version?")
    return _BUILDERS[tag]([untag(item, hint) for item in tree["v"]])


_BUILDERS: Mapping[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": dict,
}


def _read_enum(tree: Mapping[str, Any], hint: Any) -> Enum:
    enum = _chosen(str(tree["t"]), enums_in(hint))
    return enum(tree["v"]) if issubclass(enum, Flag) else enum[tree["v"]]


def _chosen(stored: str, enums: Iterable[type[Enum]]) -> type[Enum]:
    # The annotation decides; the stored name only picks among several classes, so that an
    # enum can be renamed or moved.
    names = {qualified_name(enum): enum for enum in enums}
    if stored in names:
        return names[stored]
    last = stored.rpartition(".")[2]
    namesakes = [enum for name, enum in names.items() if name.rpartition(".")[2] == last]
    for candidates in (namesakes, list(names.values())):
        if len(candidates) == 1:
            return candidates[0]
    raise ValueError(f"the annotation names no single enum for {stored}")
