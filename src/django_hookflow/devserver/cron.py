"""Cron expressions as QStash takes them: five fields, perhaps behind ``CRON_TZ=<IANA name>``.

``cronsim`` reads and follows the fields; here is the time zone, and what is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from django_hookflow.devserver.answers import Refused

__all__ = ["Cron", "parse_cron"]

_PREFIXES = ("CRON_TZ=", "TZ=")
_LONGEST_TEXT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """A parsed expression; ``text`` is how it was given."""

    text: str
    _fields: str = field(repr=False)
    _zone: tzinfo = field(repr=False)

    def after(self, now: float) -> float | None:
        """The first instant after ``now`` (Unix seconds), ``None`` if there is none to come.

        A wall-clock time that a change of the clocks skips comes right after it; one that it
        repeats comes once, as with Debian's cron.
        """
        # A minute is the resolution, and cronsim wants its start in whole seconds.
        start = datetime.fromtimestamp(now, timezone.utc).replace(microsecond=0)
        try:
            for found in CronSim(self._fields, start.astimezone(self._zone)):
                instant = found.timestamp()
                if instant > now:
                    return instant
        except (OverflowError, ValueError):
            pass  # the calendar ends
        return None


def parse_cron(text: str) -> Cron:
    """Parse an expression. Raises ``Refused`` (400) that names it."""
    given = text.strip()
    refused = Refused(400, f"invalid cron {given[:_LONGEST_TEXT]!r}")
    zone: tzinfo = timezone.utc
    rest = given
    for prefix in _PREFIXES:
        if given.startswith(prefix):
            name, _, rest = given[len(prefix) :].partition(" ")
            zone = _zone(name)
    fields = rest.split()
    if len(given) > _LONGEST_TEXT or len(fields) != 5:
        raise Refused(400, f"invalid cron {given[:_LONGEST_TEXT]!r}: five fields, perhaps behind "
                           "CRON_TZ=<time zone>")  # fmt: skip
    try:
        CronSim(" ".join(fields), datetime.now(timezone.utc))
    except CronSimError:
        raise refused from None
    cron = Cron(text=given, _fields=" ".join(fields), _zone=zone)
    if cron.after(datetime.now(timezone.utc).timestamp()) is None:
        raise Refused(400, f"invalid cron {given!r}: there is no such day")
    return cron


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    # A name can be none in many ways: unknown, a path, a folder, not text for a file system.
    except (KeyError, ValueError, OSError):
        raise Refused(400, f"invalid cron: unknown time zone {name[:40]!r}") from None
