"""Moments that a user names, as every database can keep them. Pure.

The limits are dates and not lengths of time, so that a replay judges as the first run did.
"""

from __future__ import annotations

from datetime import datetime, timezone

from django_hookflow.core.showing import show

EARLIEST = datetime(1970, 1, 1, tzinfo=timezone.utc)
LATEST = datetime(9000, 1, 1, tzinfo=timezone.utc)


def check_moment(name: str, moment: object) -> datetime:
    """The moment to wait for; one that is long past counts as 1970.

    Raises :class:`TypeError` or :class:`ValueError` saying what is allowed.
    """
    if not isinstance(moment, datetime):
        raise TypeError(f"{name} is an aware datetime, not {show(moment)}")
    if moment.utcoffset() is None:
        raise ValueError(
            f"{name} is an aware datetime; {moment!r} has no time zone: "
            "use django.utils.timezone.make_aware()"
        )
    if moment >= LATEST:
        raise ValueError(f"{name} is a moment before the year 9000, not {moment!r}")
    return max(moment, EARLIEST)
