"""What a type annotation adds to what can be stored: the ``Enum`` classes it names.

An annotation is the only way an enum class gets in: stored text says which member, and picks
among the classes that the annotation names, but never names a class to import. Where in the
annotation a class stands does not matter; that a value fits its annotation is the type
checker's affair. Pure.
"""

from __future__ import annotations

import functools
import sys
import types
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

if sys.version_info >= (3, 14):
    import annotationlib

#: What evaluating somebody's annotation may raise: a name that only exists under
#: TYPE_CHECKING, a typo, a subscript that this Python does not know.
_UNRESOLVABLE = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


def hint_of(fn: Callable[..., Any]) -> Any:
    """The return annotation of ``fn``, or ``Any`` if it has none or it cannot be resolved.

    Looks through ``functools.partial``; a class returns itself. Never raises: an annotation
    only ever adds to what can be stored.
    """
    while isinstance(fn, (functools.partial, functools.partialmethod)):
        fn = fn.func
    if isinstance(fn, type):
        return fn
    try:
        return _return_annotation(fn)
    except _UNRESOLVABLE:
        return Any


def _return_annotation(fn: Any) -> Any:
    if not hasattr(fn, "__annotations__") or not hasattr(fn, "__globals__"):
        # A bound method has both through its function; an instance with __call__ does not.
        fn = fn if isinstance(fn, types.MethodType) else type(fn).__call__
    annotations = _annotations(fn)
    if "return" not in annotations:
        return Any
    # Only the return annotation is evaluated: a parameter's that exists under TYPE_CHECKING
    # alone must not hide it.
    alone = types.SimpleNamespace(__annotations__={"return": annotations["return"]})
    namespace = getattr(_innermost(fn), "__globals__", {})
    return typing.get_type_hints(alone, globalns=namespace, include_extras=True)["return"]


def _annotations(fn: Any) -> dict[str, Any]:
    if sys.version_info >= (3, 14):  # where one name that is missing would lose them all
        return annotationlib.get_annotations(fn, format=annotationlib.Format.FORWARDREF)
    annotations: dict[str, Any] = fn.__annotations__
    return annotations


def _innermost(fn: Any) -> Any:
    # functools.wraps copies the annotations, but not the names they are made of.
    seen = set()
    while hasattr(fn, "__wrapped__") and id(fn) not in seen:
        seen.add(id(fn))
        fn = fn.__wrapped__
    return fn


def enums_in(hint: Any) -> frozenset[type[Enum]]:
    """The enum classes that an annotation names, at any depth."""
    if hint is Any or hint is None:
        return frozenset()
    try:
        return _cached(hint)
    except TypeError:  # unhashable, e.g. Annotated[Color, []]
        return frozenset(_walk(hint, []))


@functools.lru_cache(maxsize=1024)
def _cached(hint: Any) -> frozenset[type[Enum]]:
    return frozenset(_walk(hint, []))


def _walk(hint: Any, seen: list[Any]) -> Iterator[type[Enum]]:
    if any(hint is other for other in seen):  # a recursive alias or TypedDict
        return
    seen.append(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        yield hint
    elif isinstance(hint, Enum):  # Literal[Color.RED]
        yield type(hint)
    else:
        for part in _parts(hint):
            yield from _walk(part, seen)


def _parts(hint: Any) -> tuple[Any, ...]:
    if (alias := getattr(hint, "__supertype__", None)) is not None:  # NewType
        return (alias,)
    if typing.is_typeddict(hint):
        try:
            return tuple(typing.get_type_hints(hint).values())
        except _UNRESOLVABLE:
            return ()
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if type(origin or hint).__name__ == "TypeAliasType":  # "type Colors = list[Color]", 3.12+
        return (*arguments, (origin or hint).__value__)
    return arguments
