from typing import Any

from django.core.management.commands import flush
from django.db import connections, transaction


class Command(flush.Command):
    """What ends a test with transactions of its own: its rows go, in one transaction.

    Django's command empties the tables of the migrations' own rows too and then makes those anew,
    a commit for each; on PostgreSQL it cuts each table off, which is made for large ones. That
    took longer than most tests.
    """

    #: Filled after a migration, by Django itself.
    KEPT = frozenset({"auth_permission", "django_content_type"})

    def handle(self, *arguments: Any, **options: Any) -> None:
        connection = connections[options["database"]]
        tables = connection.introspection.django_table_names(
            only_existing=True, include_views=False
        )
        with (
            connection.constraint_checks_disabled(),
            transaction.atomic(using=connection.alias),
            connection.cursor() as cursor,
        ):
            for table in sorted(set(tables) - self.KEPT):
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")
