"""Identifiers made of what comes in: a time and random bytes."""

from __future__ import annotations

from uuid import UUID


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
