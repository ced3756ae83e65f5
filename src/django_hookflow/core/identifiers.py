"""Identifiers: what a caller may name a run, and what we make of a time and random bytes."""

from __future__ import annotations

import re
from uuid import UUID

from django_hookflow.core.showing import show

RUN_ID = re.compile(r"[A-Za-z0-9._:@/-]{1,128}", re.ASCII)


def check_run_id(run_id: object) -> str:
    """Return ``run_id``, or raise ``ValueError`` or ``TypeError`` saying what is allowed."""
    if not isinstance(run_id, str):
        raise TypeError(f"run_id is a str, not {show(run_id)}")
    if not RUN_ID.fullmatch(run_id):
        raise ValueError(
            f"run_id has 1 to 128 characters out of letters, digits and ._:@/- ; got {show(run_id)}"
        )
    return run_id


def uuid7(milliseconds: int, randomness: bytes) -> UUID:
    """A version 7 UUID: 48 bits of Unix milliseconds, then 10 bytes of randomness.

    In time order, so that new rows are neighbours in the primary key.
    """
    if len(randomness) != 10:
        raise ValueError(f"uuid7 takes 10 random bytes, not {len(randomness)}")
    number = (milliseconds & ((1 << 48) - 1)) << 80 | int.from_bytes(randomness, "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=number)
