"""Values that JSON has no word for, each as a tagged object ``{"$": tag, "v": ...}`` and back.

Rules: a writer is looked up by the exact type and a reader by its tag, both in tables of this
module, so no name out of stored text is ever imported. A writer raises :class:`Unstorable`
with what is wrong and what to do; a reader of broken text raises whatever it raises, and the
codec translates. Pure.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

TAG = "$"

# Every Python reads ints of 640 digits, whatever sys.set_int_max_str_digits() says: 640 is the
# lowest limit it takes. Larger ones travel as hexadecimal digits, which no limit applies to.
MAX_PLAIN_INT = 10**600

# Two lone surrogates side by side would come back from JSON as the one character they encode.
_SPLIT_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")

_MICROSECOND = timedelta(microseconds=1)

Tagged = dict[str, Any]


class Unstorable(Exception):
    """A value of a storable type that cannot be stored all the same; the text says why."""


def is_plain_text(value: str) -> bool:
    """Whether JSON gives the same text back."""
    return value.isascii() or _SPLIT_PAIR.search(value) is None


def is_plain_int(value: int) -> bool:
    """Whether JSON gives the same number back, whatever the interpreter's limit."""
    return -MAX_PLAIN_INT < value < MAX_PLAIN_INT


def _write_str(value: str) -> str | Tagged:
    if is_plain_text(value):
        return value
    return {TAG: "str", "v": value.encode("utf-8", "surrogatepass").hex()}


def _read_str(stored: Mapping[str, Any]) -> str:
    return bytes.fromhex(stored["v"]).decode("utf-8", "surrogatepass")


def _write_int(value: int) -> int | Tagged:
    return value if is_plain_int(value) else {TAG: "int", "v": hex(value)}


def _read_int(stored: Mapping[str, Any]) -> int:
    return int(stored["v"], 16)


def _write_float(value: float) -> float | Tagged:
    return value if math.isfinite(value) else {TAG: "float", "v": repr(value)}


def _read_float(stored: Mapping[str, Any]) -> float:
    return float(stored["v"])


def _write_decimal(value: Decimal) -> Tagged:
    return {TAG: "decimal", "v": str(value)}


def _read_decimal(stored: Mapping[str, Any]) -> Decimal:
    return Decimal(stored["v"])


def _write_uuid(value: UUID) -> Tagged:
    return {TAG: "uuid", "v": str(value)}


def _read_uuid(stored: Mapping[str, Any]) -> UUID:
    return UUID(stored["v"])


def _write_bytes(value: bytes) -> Tagged:
    return {TAG: "bytes", "v": base64.b64encode(value).decode("ascii")}


def _read_bytes(stored: Mapping[str, Any]) -> bytes:
    return base64.b64decode(stored["v"], validate=True)


def _write_timedelta(value: timedelta) -> Tagged:
    return {TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds]}


def _read_timedelta(stored: Mapping[str, Any]) -> timedelta:
    days, seconds, microseconds = stored["v"]
    return timedelta(days=days, seconds=seconds, microseconds=microseconds)


def _write_date(value: date) -> Tagged:
    return {TAG: "date", "v": value.isoformat()}


def _read_date(stored: Mapping[str, Any]) -> date:
    return date.fromisoformat(stored["v"])


def _write_datetime(value: datetime) -> Tagged:
    return _write_clock("datetime", value)


def _read_datetime(stored: Mapping[str, Any]) -> datetime:
    naive = datetime.fromisoformat(stored["v"])
    return naive.replace(tzinfo=_read_zone(stored), fold=stored.get("fold", 0))


def _write_time(value: time) -> Tagged:
    return _write_clock("time", value)


def _read_time(stored: Mapping[str, Any]) -> time:
    naive = time.fromisoformat(stored["v"])
    return naive.replace(tzinfo=_read_zone(stored), fold=stored.get("fold", 0))


def _write_clock(tag: str, value: datetime | time) -> Tagged:
    # The wall clock is kept as it is written, not turned into UTC: a conversion would lose
    # fold and break for times at the edges of the calendar.
    stored: Tagged = {TAG: tag, "v": value.replace(tzinfo=None).isoformat()}
    if value.fold:
        stored["fold"] = value.fold
    if value.tzinfo is not None:
        stored.update(_write_zone(value.tzinfo))
    return stored


def _write_zone(zone: tzinfo) -> Tagged:
    if type(zone) is timezone:
        offset = zone.utcoffset(None)
        stored: Tagged = {"offset": offset // _MICROSECOND}
        if (name := zone.tzname(None)) != timezone(offset).tzname(None):
            stored["name"] = _write_str(name)
        return stored
    if type(zone) is ZoneInfo and zone.key is not None:
        return {"zone": zone.key}
    raise Unstorable(
        f"has a tzinfo of type {type(zone).__module__}.{type(zone).__qualname__}; "
        'use zoneinfo.ZoneInfo("Area/City") or datetime.timezone.utc'
    )


def _read_zone(stored: Mapping[str, Any]) -> tzinfo | None:
    if "zone" in stored:
        return ZoneInfo(stored["zone"])
    if "offset" not in stored:
        return None
    offset = timedelta(microseconds=stored["offset"])
    if "name" not in stored:
        return timezone(offset)
    name = stored["name"]
    return timezone(offset, name if isinstance(name, str) else _read_str(name))


#: What a scalar is stored as, by exact type.
WRITERS: Mapping[type, Callable[[Any], Any]] = {
    str: _write_str,
    int: _write_int,
    float: _write_float,
    Decimal: _write_decimal,
    UUID: _write_uuid,
    bytes: _write_bytes,
    timedelta: _write_timedelta,
    date: _write_date,
    datetime: _write_datetime,
    time: _write_time,
}

#: How a tagged scalar is read, by tag.
READERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "str": _read_str,
    "int": _read_int,
    "float": _read_float,
    "decimal": _read_decimal,
    "uuid": _read_uuid,
    "bytes": _read_bytes,
    "timedelta": _read_timedelta,
    "date": _read_date,
    "datetime": _read_datetime,
    "time": _read_time,
}
