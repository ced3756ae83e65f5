import atexit
import inspect
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import connections


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder of the databases, and remove it when this run ends."""
    if config.getoption("dist", "no") != "no":
        # Each worker of pytest-xdist is a run with a folder and databases of its own, which its
        # children find as those of any other run: it must not inherit what this process chose.
        del os.environ["HOOKFLOW_TEST_DIR"], os.environ["HOOKFLOW_TEST_ID"]
        return
    folder = Path(os.environ["HOOKFLOW_TEST_DIR"])
    owner = os.getpid()
    if os.environ["HOOKFLOW_TEST_ID"] != str(owner):
        return  # a child of the run that made it
    folder.mkdir(mode=0o700)

    @atexit.register
    def remove() -> None:
        if os.getpid() == owner:  # not in a fork
            shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Open, and flush, for a test of one database that one only.

    All of them for each test would take three times as long. ``other_databases`` marks the
    tests that are about more than one.
    """
    for item in items:
        marker = item.get_closest_marker("django_db")
        params = item.callspec.params if hasattr(item, "callspec") else {}
        chosen = params.get("alias") or params.get("bench")
        known = chosen == "memory" or chosen in settings.DATABASES
        everything = marker is not None and marker.kwargs.get("databases") == "__all__"
        if known and everything and item.get_closest_marker("other_databases") is None:
            aliases = {"default", chosen} & set(settings.DATABASES)
            facts = {**marker.kwargs, "databases": sorted(aliases)}
            item.add_marker(pytest.mark.django_db(*marker.args, **facts), append=False)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test as Django's own TestCase would.

    Its database work comes back to the thread of the test, so it sees the rows of the fixtures
    and is rolled back with them. What looks at ``connection`` itself belongs in `sync_to_async`.
    """
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    async_to_sync(pyfuncitem.obj)(**arguments)
    return True


def pytest_report_header() -> str:
    engines = {alias: db["ENGINE"].rpartition(".")[2] for alias, db in settings.DATABASES.items()}
    line = "databases: " + ", ".join(f"{alias} ({name})" for alias, name in engines.items())
    absent = [f"; {name} NOT run: {why}" for name, why in settings.NOT_RUN.items()]
    return line + "".join(absent)


@pytest.fixture(params=list(settings.DATABASES))
def alias(request: pytest.FixtureRequest) -> str:
    """Each database in turn; the test carries ``django_db(databases="__all__")``."""
    return request.param


@pytest.fixture(scope="session")
def django_db_modify_db_settings_parallel_suffix() -> None:
    """Leave the databases' names as tests/settings.py made them: each run's are its own already.

    pytest-django's suffix for a worker would be unknown to the processes that the tests start.
    """


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None) -> None:
    """Drop what killed test runs on this machine left on its servers."""
    drop: dict[str, Callable[[dict[str, Any]], None]] = {
        "postgresql": drop_orphans_on_postgres,
        "mysql": drop_orphans_on_mariadb,
    }
    for database in settings.DATABASES.values():
        engine = database["ENGINE"].rpartition(".")[2]
        # Whether the run still lives is known by its process id: of this machine, on POSIX.
        local = database.get("HOST") in {"127.0.0.1", "::1", "localhost"} and os.name == "posix"
        if local and engine in drop:
            drop[engine](database)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """End what the last tests' threads have open: PostgreSQL drops no database that is in use."""
    yield
    others = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with django_db_blocker.unblock():
        for connection in connections.all():
            ours = str(connection.settings_dict["NAME"]).startswith("test_hookflow_")
            if connection.vendor == "postgresql" and ours:  # else this run has made none there
                with connection.cursor() as cursor:
                    cursor.execute(others)


def drop_orphans_on_postgres(database: dict[str, Any]) -> None:
    import psycopg  # an extra: only there if PostgreSQL is used

    with psycopg.connect(
        host=database["HOST"],
        port=database["PORT"],
        user=database["USER"],
        password=database["PASSWORD"],
        dbname=database["NAME"],
        autocommit=True,
    ) as connection:
        names = connection.execute(
            "SELECT datname FROM pg_database d WHERE datname LIKE 'test_hookflow_%'"
            " AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)"
        ).fetchall()
        for (name,) in names:
            if orphaned(name):
                connection.execute(f'DROP DATABASE IF EXISTS "{name}"')


def drop_orphans_on_mariadb(database: dict[str, Any]) -> None:
    import MySQLdb  # an extra: only there if MariaDB is used

    connection = MySQLdb.connect(
        host=database["HOST"],
        port=database["PORT"],
        user=database["USER"],
        password=database["PASSWORD"],
    )
    with closing(connection), closing(connection.cursor()) as cursor:
        cursor.execute(
            "SELECT schema_name FROM information_schema.schemata"
            " WHERE schema_name LIKE 'test_hookflow_%' AND schema_name NOT IN"
            " (SELECT db FROM information_schema.processlist WHERE db IS NOT NULL)"
        )
        for (name,) in cursor.fetchall():
            if orphaned(name):
                cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")


def orphaned(name: str) -> bool:
    """Whether the test run that made this database is over."""
    owner = re.match(r"test_hookflow_(\d+)", name)
    return owner is not None and not alive(int(owner[1]))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
