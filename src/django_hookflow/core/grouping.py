"""Exception groups (Python 3.11 on): what a ``TaskGroup`` raises in the place of the error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Union

Classes = Union[type[BaseException], tuple[type[BaseException], ...]]


def parts(error: BaseException) -> Iterator[BaseException]:
    """The error and, of a group, its members, theirs too."""
    yield error
    for part in _inside(error):
        yield from parts(part)


def members(error: BaseException) -> list[BaseException]:
    """What a group is made of in the end; the error itself if it is none."""
    return [part for part in parts(error) if not _inside(part)]


def first_of(error: BaseException, classes: Classes) -> BaseException | None:
    """The error itself, or the first part of a group, that is one of these."""
    return next((part for part in parts(error) if isinstance(part, classes)), None)


def _inside(error: BaseException) -> list[BaseException]:
    # By its attribute, so that the backport for Python 3.10 is one too.
    inside = getattr(error, "exceptions", ())
    if not isinstance(inside, tuple):
        return []
    return [part for part in inside if isinstance(part, BaseException)]
