"""Values in error messages: on one line, short, and whatever they are. Pure."""

from __future__ import annotations

#: Characters of a value that are shown.
MOST = 80


def show(value: object) -> str:
    """``repr(value)``, cut where it is long; its type where it has no ``repr``."""
    try:
        text = repr(value)
    except Exception:
        # A user's __repr__ may raise anything, as that of an int of 5,000 digits does: what is
        # to be told is another error.
        return f"<{type(value).__qualname__}>"
    return text if len(text) <= MOST else f"{text[: MOST - 3]}..."


def has_surrogate(text: str) -> bool:
    """Whether ``text`` cannot be written as UTF-8."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)
