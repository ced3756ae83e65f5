"""Compensations: how a step says what undoes it, and what is called for it later.

Only the dotted name and the encoded arguments are kept, so that a compensation needs no replay
of the workflow and goes on after its code has changed.
"""

from __future__ import annotations

import importlib
import typing
from collections.abc import Callable, Iterable
from typing import Any, Union

from django_hookflow.core.entries import WINDING_UP, Entry, Kind
from django_hookflow.core.hints import enums_in
from django_hookflow.core.ports import ValueCodec
from django_hookflow.core.showing import show
from django_hookflow.engine.callables import (
    callable_of,
    first_parameter,
    is_async,
    qualified_name,
    unwrap,
)
from django_hookflow.engine.calls import CallResponse
from django_hookflow.engine.children import is_invocable
from django_hookflow.engine.plans import Function, Undo
from django_hookflow.exceptions import SerializationError, WorkflowDefinitionError

Compensation = Union[Callable[..., Any], tuple[Any, ...]]


def undo_of(compensate: Compensation, codec: ValueCodec, limit: int) -> Undo:
    """What the journal keeps of ``fn`` or ``(fn, *args)``; refuses what it could not find again."""
    fn, *args = compensate if isinstance(compensate, tuple) and compensate else (compensate,)
    if is_invocable(unwrap(fn)):
        raise TypeError(
            f"compensate={show(fn)} is a workflow, which would not be started as a run: give a "
            "function that does what the workflow would, or that calls its trigger()"
        )
    if not callable(fn):
        raise TypeError(f"compensate is a function or (function, *args), not {show(compensate)}")
    name = qualified_name(fn)
    if _found(name) is not fn:
        raise WorkflowDefinitionError(
            f"compensate={name}: it is called by this name later, by another process, so it has "
            "to be importable: a def or async def at the top of a module"
        )
    return Undo(name=name, args=codec.encode(args, limit=limit))


def check_undoable(undo: Undo | None, hint: Any, step_id: str) -> None:
    """Refuse a compensation that could not be given what the step returns, by its annotation.

    Enum members are read by an annotation alone, and of the step itself nothing but the outcome
    is left when it is undone.
    """
    enums = enums_in(hint) if undo is not None else frozenset()
    if undo is None or not enums:
        return
    unread = sorted(enum.__qualname__ for enum in enums - enums_in(_first_hint(_found(undo.name))))
    if unread:
        raise WorkflowDefinitionError(
            f"step {show(step_id)} may return {', '.join(unread)}, which compensate={undo.name} "
            "could not be given: annotate its first parameter with what the step returns, or None, "
            f"as in: def {undo.name.rpartition('.')[2]}(result: {unread[0]} | None)"
        )


def _found(name: str) -> Any:
    """What a dotted name leads to; ``None`` if to nothing."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        try:
            for part in parts[cut:]:
                found = getattr(found, part)
        except AttributeError:
            return None
        return found
    return None


def to_be_undone(entries: Iterable[Entry]) -> list[Entry]:
    """The steps that have to be compensated, newest first.

    Those whose outcome is unknown come before all outcomes, because nothing came after them.
    """
    undone = [entry for entry in entries if entry.undo and _took_effect(entry)]
    return sorted(undone, key=_newness, reverse=True)


def _newness(entry: Entry) -> tuple[float, int]:
    return (float("inf") if entry.seq is None else entry.seq, entry.requested_seq)


def _took_effect(entry: Entry) -> bool:
    """Whether it did, or may have: of a failed one, only what nobody can know."""
    if entry.kind in WINDING_UP or (entry.kind is Kind.CHILD and entry.is_failed):
        return False
    if entry.kind is Kind.ATOMIC and not entry.is_outcome:
        return False  # it takes effect together with its record
    if not entry.is_failed or entry.error is None:
        return True
    if entry.error.raises == "SerializationError":
        return entry.kind is not Kind.ATOMIC  # done, but what came of it could not be stored
    unanswered = entry.error.raises == "CallFailed" and entry.error.response is None
    return unanswered or entry.error.raises == "StepTimeout"


def compensation(entry: Entry, codec: ValueCodec) -> tuple[Undo, Function]:
    """What to call for a step: ``fn(result, *args)``, the result ``None`` if it is unknown.

    Raises :class:`WorkflowDefinitionError` if the function is not to be found any more, or does
    not say how the result is to be read.
    """
    undo = Undo.from_text(entry.undo)
    fn = _found(undo.name)
    if not callable(fn):
        raise WorkflowDefinitionError(
            f"the compensation of step {entry.key!r} is {undo.name}, which is not to be found: "
            "deploy a version that has it"
        )
    try:
        given = (_result_of(entry, fn, codec), *codec.decode(undo.args))
    except SerializationError as error:
        raise WorkflowDefinitionError(
            f"the compensation of step {entry.key!r} is {undo.name}, which cannot be given what "
            f"the step returned: {error}; deploy a version that annotates its first parameter"
        ) from error
    return undo, Function(
        fn=Silent(fn),
        args=given,
        kwargs={},
        is_async=is_async(fn),
        hint=Any,
    )


def _result_of(entry: Entry, fn: Callable[..., Any], codec: ValueCodec) -> Any:
    if entry.is_failed or entry.value is None:
        return None
    value = codec.decode(entry.value, hint=_first_hint(fn))
    return CallResponse.from_plain(value) if entry.kind is Kind.CALL else value


def _first_hint(fn: Callable[..., Any]) -> Any:
    """The annotation of what it is given first, by which a dataclass comes back as one."""
    try:
        hint = typing.get_type_hints(unwrap(fn)).get(first_parameter(fn), Any)
    except (NameError, TypeError, ValueError, AttributeError):
        return Any
    plain = [each for each in typing.get_args(hint) if each is not type(None)]
    is_optional = type(None) in typing.get_args(hint) and len(plain) == 1
    return plain[0] if is_optional else hint


class Silent:
    """A function whose return value is nobody's business: it need not be storable.

    Of a django-qstash task its function. The colour is asked of what was given: of a bound task's
    partial it does not show.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = callable_of(fn)
        self._is_async = is_async(fn)

    def __call__(self, *args: Any) -> Any:
        if self._is_async:
            return self._awaited(*args)
        self._fn(*args)
        return None

    async def _awaited(self, *args: Any) -> None:
        await self._fn(*args)
