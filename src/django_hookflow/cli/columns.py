"""Rows under a heading, each cell cut to its column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django_hookflow.cli.terminal import Part, Terminal, shortened

__all__ = ["GAP", "Column", "Columns"]

GAP = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """``keep_end``: what does not fit is cut at its beginning, as suits dotted names."""

    title: str
    width: int
    right: bool = False
    keep_end: bool = False

    def fit(self, text: str) -> str:
        """``text`` at exactly the column's width."""
        cut = shortened(text, self.width, keep_end=self.keep_end)
        return cut.rjust(self.width) if self.right else cut.ljust(self.width)


class Columns:
    """A table on a terminal."""

    def __init__(self, terminal: Terminal, columns: Sequence[Column]) -> None:
        self._terminal = terminal
        self._columns = columns

    @property
    def width(self) -> int:
        """Of all columns and the gaps between them."""
        return sum(column.width for column in self._columns) + len(GAP) * (len(self._columns) - 1)

    def head(self) -> None:
        """Print the titles."""
        self.row([(column.title, "bold") for column in self._columns])

    def row(self, cells: Sequence[Part]) -> None:
        """Print one row, a cell for each column."""
        parts: list[Part] = []
        for column, cell in zip(self._columns, cells, strict=True):
            text, style = (cell, "") if isinstance(cell, str) else cell
            parts += [(column.fit(text), style), GAP]
        self._terminal.line(*parts[:-1])
