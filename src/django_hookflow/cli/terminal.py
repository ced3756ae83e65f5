"""Where a subcommand prints: lines of styled parts, or JSON.

Plain text always works. With rich, and on a terminal that takes colours, the same lines are
coloured; piped output has none. What comes from rows or from outside goes through
:func:`one_line`, so that no escape sequence of theirs reaches the terminal.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import Any, TextIO, Union, cast

from django.core.management.base import OutputWrapper
from django.core.management.color import supports_color
from django.core.serializers.json import DjangoJSONEncoder

try:
    from rich.console import Console
    from rich.text import Text
except ImportError:  # it belongs to an extra
    _RICH = False
else:
    _RICH = True

__all__ = ["STATUS_STYLES", "Part", "Terminal", "one_line", "shortened"]

#: Text, or text and the name of a rich style.
Part = Union[str, tuple[str, str]]

#: How a run's or step's status is shown.
STATUS_STYLES = {
    "completed": "green",
    "failed": "bold red",
    "lost": "bold red",
    "running": "cyan",
    "suspended": "yellow",
    "cancelling": "yellow",
    "pending": "yellow",
    "paused": "magenta",
    "cancelled": "dim",
    "superseded": "dim",
}

#: Columns of output that is no terminal: enough for a run id, its workflow and its times.
PIPED_WIDTH = 120
NARROWEST = 60

#: What is drawn in a terminal that has no more than ASCII.
_ASCII = str.maketrans({"█": "#", "░": "-", "·": ".", "└": "`", "…": "~", "×": "x"})  # noqa: RUF001


class Terminal:
    """Prints to ``stream``, in colour if it is a terminal and rich is there."""

    def __init__(
        self, stream: OutputWrapper, *, no_color: bool = False, force_color: bool = False
    ) -> None:
        self.stream = stream
        self.is_tty = bool(stream.isatty())
        self.coloured = force_color or (self.is_tty and not no_color and supports_color())
        self._console = _console(stream) if self.coloured and _RICH else None

    @property
    def width(self) -> int:
        """Columns; never so few that a run id does not fit."""
        asked = self.is_tty or "COLUMNS" in os.environ
        columns = shutil.get_terminal_size().columns if asked else PIPED_WIDTH
        return max(NARROWEST, columns)

    def line(self, *parts: Part) -> None:
        """Print one line."""
        styled = [(part, "") if isinstance(part, str) else part for part in parts]
        written = [(self._encodable(text), style) for text, style in styled]
        if self._console is not None:
            self._console.print(Text.assemble(*written), soft_wrap=True)
        else:
            self.stream.write("".join(text for text, _ in written).rstrip())

    def json(self, value: Any, *, indent: int | None = 2) -> None:
        """Print a value of JSON types, datetimes and the like."""
        self.stream.write(json.dumps(value, indent=indent, cls=DjangoJSONEncoder))

    def _encodable(self, text: str) -> str:
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            return text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
        return text


def _console(stream: OutputWrapper) -> Console:
    # Rich draws what the stream takes, and writes to it in one piece per line.
    return Console(file=cast("TextIO", stream._out), highlight=False, force_terminal=True)


def one_line(text: str) -> str:
    """``text`` with line breaks and control characters made visible."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def shortened(text: str, width: int, *, keep_end: bool = False) -> str:
    """``text`` on one line of at most ``width`` characters, cut at its end or its beginning."""
    # No more than that can be shown, and a stored value may be a megabyte.
    line = one_line(text[-width - 1 :] if keep_end else text[: width + 1])
    if len(line) <= width:
        return line
    return "…" + line[len(line) - width + 1 :] if keep_end else line[: width - 1] + "…"
