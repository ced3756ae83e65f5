"""Tags: words by which runs are found, checked before they are written or asked for.

A value is text, compared exactly. A whole number is taken as its digits, since keys of rows are
what most runs are found by; nothing else has one text only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

from django_hookflow.core.showing import has_surrogate, show

MAX_KEY = 100
MAX_VALUE = 200

#: As a run's row has them: sorted by key.
Tags = tuple[tuple[str, str], ...]


def check_tags(tags: Any) -> Tags:
    """Return ``tags`` as pairs of str, or raise ``ValueError`` or ``TypeError``."""
    if tags is None:
        return ()
    if not isinstance(tags, Mapping):
        raise TypeError(f"tags is a dict of str to str or int, not {show(tags)}")
    pairs = ((_checked("a tag's key", key, MAX_KEY), value) for key, value in tags.items())
    return tuple(sorted((key, check_tag_value(key, value)) for key, value in pairs))


def check_tag_value(key: str, value: Any) -> str:
    """The text of a tag's value."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = int.__repr__(value) if abs(value) < 10**MAX_VALUE else value
    return _checked(f"the value of tag {show(key)}", value, MAX_VALUE, "or a whole number")


def _checked(what: str, text: Any, most: int, otherwise: str = "") -> str:
    if not isinstance(text, str):
        allowed = f"a str of 1 to {most} characters {otherwise}".strip()
        raise TypeError(f"{what} is {allowed}, not {show(text)}")
    if not 1 <= len(text) <= most:
        raise ValueError(f"{what} has 1 to {most} characters; this one has {len(text)}")
    if "\x00" in text or has_surrogate(text):
        raise ValueError(f"{what} may hold no NUL and no lone surrogate: {show(text)}")
    return str(text)


Given = Union[Mapping[str, Union[str, int]], None]
