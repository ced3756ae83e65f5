"""Settings of a database under which the journal would be silently wrong: refused when used.

There may be system checks for them too, but a project may run without its checks.
"""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from django_hookflow.exceptions import ConfigurationError

UTC = (None, "UTC", "Etc/UTC")


def exact_only(connection: BaseDatabaseWrapper) -> None:
    """Refuse what would change moments or characters on their way into a column."""
    zone = connection.settings_dict["TIME_ZONE"]
    if zone not in UTC and not connection.features.supports_timezones:
        _refuse_zone(connection.alias, connection.display_name, zone)
    if connection.vendor == "mysql":
        # Asked, because the default differs between versions of Django and between backends.
        charset = connection.get_connection_params().get("charset", "utf8mb4")
        if charset != "utf8mb4":
            _refuse_charset(connection.alias, charset)


def _refuse_zone(alias: str, database: str, zone: str) -> None:
    # Local time goes back an hour every autumn: two moments, one wall clock.
    raise ConfigurationError(
        f'DATABASES["{alias}"]["TIME_ZONE"] is {zone!r}, and {database} would keep times without '
        "their zone: timers could not be compared. Take it away, or keep the journal on another "
        "alias (DJANGO_HOOKFLOW_DATABASE)"
    )


def _refuse_charset(alias: str, charset: str) -> None:
    # What does not fit is an error in strict mode, and else becomes a question mark.
    raise ConfigurationError(
        f"the connection of {alias!r} speaks {charset!r} (Django's default before 5.2), which "
        "has no place for many characters: write "
        f'"OPTIONS": {{"charset": "utf8mb4"}} into DATABASES["{alias}"]'
    )
