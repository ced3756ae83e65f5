"""Django settings of the test suite: SQLite, and PostgreSQL and MariaDB where they are reachable.

Processes that a test starts see the same databases: the folder and the databases' names travel
in the environment, and with ``HOOKFLOW_TEST_CHILD=1`` a process takes the test databases for its
ordinary ones, without asking again whether their servers answer.

``HOOKFLOW_TEST_PG``, ``HOOKFLOW_TEST_MARIADB``: where they are
(``postgres://user:password@host:port/name``, ``mysql://...``), or ``off``. With ``CI=true``, or
when the variable names a server, its absence ends the run.
``HOOKFLOW_TEST_DATABASE``: ``sqlite``, ``postgres`` or ``mariadb``; only that one is used, as the
alias ``default``, so that every test runs on it.
"""

import os
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import django

# --- databases -------------------------------------------------------------------------------


def shared_folder() -> Path:
    """The folder of this test run, named by its first process; tests/conftest.py makes it."""
    if "HOOKFLOW_TEST_DIR" not in os.environ:
        os.environ["HOOKFLOW_TEST_ID"] = str(os.getpid())
        name = f"hookflow-tests-{os.getpid()}-{secrets.token_hex(4)}"
        os.environ["HOOKFLOW_TEST_DIR"] = str(Path(tempfile.gettempdir()) / name)
    return Path(os.environ["HOOKFLOW_TEST_DIR"])


def sqlite(folder: Path) -> dict[str, Any]:
    options: dict[str, Any] = {"timeout": 20}
    if django.VERSION >= (5, 1):
        options["transaction_mode"] = "IMMEDIATE"
        options["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
        "OPTIONS": options,
        # A file: threads and processes share it.
        "TEST": {"NAME": folder / "test.sqlite3"},
    }


def server(address: str) -> dict[str, Any]:
    """What a URL says of a server; the test database on it is named after this test run."""
    url = urlsplit(address)
    return {
        "NAME": url.path.lstrip("/"),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": url.hostname or "127.0.0.1",
        "PORT": url.port,
        "TEST": {"NAME": f"test_hookflow_{os.environ['HOOKFLOW_TEST_ID']}"},
    }


def postgres(address: str) -> dict[str, Any]:
    database = {"ENGINE": "django.db.backends.postgresql", **server(address)}
    return {
        **database,
        "NAME": database["NAME"] or "postgres",
        "USER": database["USER"] or "postgres",
        "PORT": database["PORT"] or 5432,
    }


def mariadb(address: str) -> dict[str, Any]:
    database = {"ENGINE": "django.db.backends.mysql", **server(address)}
    return {
        **database,
        "USER": database["USER"] or "root",
        "PORT": database["PORT"] or 3306,
        "OPTIONS": {"charset": "utf8mb4"},  # Django's default only from 5.2 on
        # The poorest default that a server may have: no column of ours may depend on it.
        "TEST": {**database["TEST"], "CHARSET": "latin1"},
    }


def answered(alias: str) -> bool:
    """Whether this is a child of a test run that found the server of that name.

    A busy server may answer a second question too late, and each question costs a start its time.
    """
    found = os.environ.get("HOOKFLOW_TEST_FOUND", "").split(",")
    return "HOOKFLOW_TEST_CHILD" in os.environ and alias in found


#: Where nobody listens, that is told at once: this is for servers that are asked by several test
#: processes while these start, on a machine that has no time for any of them.
ANSWER_SECONDS = 15


def why_no_postgres(database: dict[str, Any]) -> str:
    """'' if PostgreSQL answers there, else the reason in a few words."""
    if answered("postgres"):
        return ""
    try:
        import psycopg  # an extra, which may be missing
    except ImportError as error:
        return f"psycopg cannot be imported ({error})"
    try:
        psycopg.connect(
            host=database["HOST"],
            port=database["PORT"],
            user=database["USER"],
            password=database["PASSWORD"],
            dbname=database["NAME"],
            connect_timeout=ANSWER_SECONDS,
        ).close()
    except (OSError, psycopg.Error) as error:
        return no_answer(database, error)
    return ""


def why_no_mariadb(database: dict[str, Any]) -> str:
    """'' if MariaDB or MySQL answers there, else the reason in a few words."""
    try:
        import MySQLdb  # an extra, which cannot be built on every machine
    except ImportError:
        try:
            import pymysql  # its pure twin, good enough for tests
        except ImportError as error:
            return f"neither MySQLdb nor pymysql can be imported ({error})"
        pymysql.version_info = (2, 2, 8, "final", 0)  # what Django asks of mysqlclient
        pymysql.install_as_MySQLdb()
        import MySQLdb
    if answered("mariadb"):
        return ""
    try:
        MySQLdb.connect(
            host=database["HOST"],
            port=database["PORT"],
            user=database["USER"],
            password=database["PASSWORD"],
            connect_timeout=ANSWER_SECONDS,
        ).close()
    except MySQLdb.Error as error:
        return no_answer(database, error)
    return ""


def no_answer(database: dict[str, Any], error: Exception) -> str:
    return f"no answer at {database['HOST']}:{database['PORT']} ({' '.join(str(error).split())})"


@dataclass(frozen=True)
class Server:
    """A database server that may be there."""

    name: str
    variable: str
    address: str
    settings: Callable[[str], dict[str, Any]]
    why_absent: Callable[[dict[str, Any]], str]

    def find(self, *, wanted: bool) -> tuple[dict[str, Any], str]:
        """Its entry for DATABASES, and why it cannot be used; ends the run if it is asked for."""
        asked = os.environ.get(self.variable, "")
        if asked == "off" and not wanted:
            return {}, f"turned off by {self.variable}=off"
        database = self.settings(asked if asked not in ("", "off") else self.address)
        absent = self.why_absent(database)
        who = {
            "HOOKFLOW_TEST_DATABASE": wanted,
            self.variable: asked not in ("", "off"),
            "CI=true": os.environ.get("CI") == "true",
        }
        if absent and any(who.values()):
            asking = next(name for name, asks in who.items() if asks)
            raise SystemExit(
                f"{asking} asks for {self.name}, and there is none: {absent}.\n"
                f"Start one, or say where it is: {self.variable}={self.address}"
            )
        return database, absent


SERVERS = {
    "postgres": Server(
        "PostgreSQL",
        "HOOKFLOW_TEST_PG",
        "postgres://postgres@127.0.0.1:5432/postgres",
        postgres,
        why_no_postgres,
    ),
    "mariadb": Server(
        "MariaDB",
        "HOOKFLOW_TEST_MARIADB",
        "mysql://root@127.0.0.1:3306/test",
        mariadb,
        why_no_mariadb,
    ),
}

#: What is not run, and why; pytest's header says it.
NOT_RUN: dict[str, str] = {}
DATABASES: dict[str, dict[str, Any]] = {}
_found = []

_only = os.environ.get("HOOKFLOW_TEST_DATABASE", "")
if _only not in ("", "sqlite", *SERVERS):
    raise SystemExit(f"HOOKFLOW_TEST_DATABASE={_only} is none of sqlite, {', '.join(SERVERS)}")
if _only in ("", "sqlite"):
    DATABASES["default"] = sqlite(shared_folder())
else:
    shared_folder()
    NOT_RUN["SQLite"] = f"HOOKFLOW_TEST_DATABASE={_only}"
for _alias, _server in SERVERS.items():
    if _only in ("", _alias):
        _database, _absent = _server.find(wanted=_only == _alias)
    else:
        _database, _absent = {}, f"HOOKFLOW_TEST_DATABASE={_only}"
    if _absent:
        NOT_RUN[_server.name] = _absent
    else:
        DATABASES["default" if _only else _alias] = _database
        _found.append(_alias)

if "HOOKFLOW_TEST_CHILD" not in os.environ:
    os.environ["HOOKFLOW_TEST_FOUND"] = ",".join(_found)
else:
    for _database in DATABASES.values():
        _database["NAME"] = _database["TEST"]["NAME"]

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- project ---------------------------------------------------------------------------------

SECRET_KEY = "only-for-the-tests-and-known-to-everybody"
DEBUG = False
ALLOWED_HOSTS = ["app.example", "testserver", "localhost", "127.0.0.1"]
ROOT_URLCONF = "tests.urls"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django_hookflow",
    "tests.app",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- hookflow --------------------------------------------------------------------------------

QSTASH_TOKEN = "token-of-the-tests"
QSTASH_CURRENT_SIGNING_KEY = "sig_current_key_only_for_tests_1"
QSTASH_NEXT_SIGNING_KEY = "sig_next_key_only_for_the_tests2"
DJANGO_HOOKFLOW_DOMAIN = "https://app.example"
