"""Where a fork leaves its source: what it takes over, and what runs again.

It takes over the outcomes of what was requested before the step that it begins at. Whatever a
request depends on was handed over before it was made, and requested earlier still: so what is
taken over is built on nothing that is left behind, in parallel branches too. What was pending
is left behind; a timer begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Union

from django_hookflow.core.entries import WINDING_UP, Entry, step_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """``kept`` are the fork's first outcomes, numbered anew; ``again`` keys as requested."""

    kept: tuple[Entry, ...]
    again: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownStep:
    """The run has not requested that step; ``known`` are the keys of those that it has."""

    known: tuple[str, ...]


def cut(entries: Iterable[Entry], from_step: str) -> Union[Cut, UnknownStep]:
    """Cut a journal before ``from_step``: a key (``charge#2``), or a step id for its first."""
    requested = sorted(
        (entry for entry in entries if entry.kind not in WINDING_UP),
        key=lambda entry: (entry.requested_seq, entry.key),
    )
    by_key = {entry.key: entry for entry in requested}
    first = by_key.get(from_step) or by_key.get(step_key(from_step, 1))
    if first is None:
        return UnknownStep(known=tuple(by_key))
    kept = [e for e in requested if e.is_outcome and e.requested_seq < first.requested_seq]
    kept.sort(key=lambda entry: entry.seq or 0)
    keys = {entry.key for entry in kept}
    return Cut(
        kept=tuple(_taken_over(entry, n) for n, entry in enumerate(kept, start=1)),
        again=tuple(key for key in by_key if key not in keys),
    )


def _taken_over(entry: Entry, seq: int) -> Entry:
    """An outcome as the fork has it: what it did is the source's to undo, and not twice."""
    return replace(entry, seq=seq, series=0, undo="", child=None)
