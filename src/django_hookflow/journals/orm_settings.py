"""A setting of the database under which the journal would be silently wrong: refused when used.

There is a system check for it too, but a project may run without its checks.
"""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from django_hookflow.exceptions import ConfigurationError

UTC = (None, "UTC", "Etc/UTC")


def utc_only(connection: BaseDatabaseWrapper) -> None:
    """Refuse wall clocks where a column has no zone: they go back an hour every autumn."""
    zone = connection.settings_dict["TIME_ZONE"]
    if zone not in UTC and not connection.features.supports_timezones:
        alias = connection.alias
        raise ConfigurationError(
            f'DATABASES["{alias}"]["TIME_ZONE"] is {zone!r}, and {connection.display_name} would '
            "keep times without their zone: timers could not be compared. Take it away, or keep "
            "the journal on another alias (DJANGO_HOOKFLOW_DATABASE)"
        )
