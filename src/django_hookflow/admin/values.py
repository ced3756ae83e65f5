"""Stored values and errors as text for people: of a limited size, and never an error page.

The database cuts what is too long, so a page costs the same whatever the rows hold. What was
cut, and what the codec cannot read, is shown as it is stored.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pprint import pformat
from typing import Any

from django.db.models import Model
from django.db.models.functions import Length, Substr
from django.utils.translation import gettext_lazy as _

from django_hookflow.core import ports
from django_hookflow.models import read_error

__all__ = ["ERROR_CHARS", "HIDDEN", "Failure", "Text", "failure_of", "heads", "hidden", "shown"]

#: In place of an error's message, for who may not read payloads.
HIDDEN = _("(message hidden)")

#: Characters that fit a line.
SHORT = 80

#: Characters of an error's record; its type and message come first and fit.
ERROR_CHARS = 32_000

#: Indenting what is nested deeply can make it very much longer.
_GROWTH = 8

#: The beginning of ``ErrorRecord.to_dict()`` as JSON.
_STRING = r'"(?:[^"\\]|\\.)*"'
_CUT_ERROR = re.compile(rf'\{{"type": ({_STRING}), "message": ({_STRING}),')


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A value; ``size`` is the number of characters that are stored."""

    text: str
    size: int
    cut: bool = False

    @property
    def is_short(self) -> bool:
        """Whether it fits a table's cell."""
        return len(self.text) <= SHORT and "\n" not in self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a step failed; ``response`` is what a failed call was answered."""

    type: str
    message: Any  # text, or one to be translated
    response: Text | None = None


def heads(*names: str, limit: int) -> dict[str, Any]:
    """Annotations: the beginning of each of these columns, and its whole length."""
    cuts: dict[str, Any] = {f"{name}_head": Substr(name, 1, limit) for name in names}
    return cuts | {f"{name}_size": Length(name) for name in names}


def shown(row: Model, name: str, limit: int) -> Text | None:
    """What the annotations of :func:`heads` say of one column; ``None`` if nothing is stored."""
    head, size = getattr(row, f"{name}_head"), getattr(row, f"{name}_size")
    if head is None:
        return None
    if size > limit:
        return Text(text=_printable(head), size=size, cut=True)
    return Text(text=_readable(head), size=size)


def failure_of(row: Model, limit: int) -> Failure | None:
    """The column ``error`` by the same annotations."""
    head = getattr(row, "error_head")  # noqa: B009  # an annotation
    if head is None:
        return None
    cut = _CUT_ERROR.match(head) if getattr(row, "error_size") > ERROR_CHARS else None  # noqa: B009
    if cut is not None:
        kind, message = json.loads(cut[1]), json.loads(cut[2])
        return Failure(type=_printable(kind), message=_printable(message))
    record = read_error(head)
    response = None
    if record.response is not None:
        text = _indented(record.response)
        response = Text(text=_printable(text[:limit]), size=len(text), cut=len(text) > limit)
    return Failure(
        type=_printable(record.type), message=_printable(record.message), response=response
    )


def hidden(error: dict[str, Any] | None) -> dict[str, Any] | None:
    """An error without the words of the user's data."""
    return None if error is None else {**error, "message": str(HIDDEN)}


def _readable(text: str) -> str:
    try:
        pretty = _indented(ports.codec().decode(text))
    except Exception:  # a project's codec may raise anything; what is stored is shown instead
        return _printable(text)
    return _printable(pretty if len(pretty) <= _GROWTH * len(text) + 1000 else text)


def _indented(value: Any) -> str:
    """As JSON if it is nothing else, otherwise as Python writes it."""
    try:
        text = json.dumps(value, ensure_ascii=False)
        if json.loads(text) == value:  # which a tuple or NaN would not be
            fits = len(text) <= SHORT
            return text if fits else json.dumps(value, indent=2, ensure_ascii=False)
    except (TypeError, ValueError):
        pass
    return pformat(value, width=88, sort_dicts=False)


def _printable(text: str) -> str:
    # A lone surrogate has no UTF-8, so the page could not be sent.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
