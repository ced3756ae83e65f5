"""What the replay check answers to a request; consumed by ``match``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Union

from django_hookflow.core.entries import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The outcome is in the journal; it is handed over when its turn comes."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Execute:
    """Nothing is recorded but failed attempts: run it, at the earliest at ``ready_at``."""

    key: str
    occurrence: int
    args_sha: str
    attempt: int
    series: int
    ready_at: datetime | None
    pending: Entry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """A wait. ``pending`` is its row if an earlier delivery already wrote one."""

    key: str
    occurrence: int
    args_sha: str
    series: int
    pending: Entry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Code and journal do not fit; nothing may be executed any more in this delivery."""

    reason: str


Decision = Union[Recorded, Execute, Park, Mismatch]
