"""Django settings of the test suite: SQLite always, PostgreSQL when one can be reached.

Processes that a test starts see the same databases: the folder and the databases' names travel
in the environment, and with ``HOOKFLOW_TEST_CHILD=1`` a process takes the test databases for its
ordinary ones.

``HOOKFLOW_TEST_PG``: where PostgreSQL is (``postgres://user:password@host:port/name``), or
``off``. With ``CI=true``, or when the variable names a server, its absence ends the run.
"""

import os
import secrets
import socket
import tempfile
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


def postgres(address: str) -> dict[str, Any]:
    url = urlsplit(address)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.path.lstrip("/") or "postgres",
        "USER": unquote(url.username or "postgres"),
        "PASSWORD": unquote(url.password or ""),
        "HOST": url.hostname or "127.0.0.1",
        "PORT": url.port or 5432,
        "TEST": {"NAME": f"test_hookflow_{os.environ['HOOKFLOW_TEST_ID']}"},
    }


def why_unreachable(database: dict[str, Any]) -> str:
    """'' if PostgreSQL answers there, else the reason in a few words."""
    try:
        import psycopg  # an extra, which may be missing
    except ImportError as error:
        return f"psycopg cannot be imported ({error})"
    place = (database["HOST"], int(database["PORT"]))
    try:
        # libpq takes no limit below two seconds; a socket does.
        socket.create_connection(place, timeout=1).close()
        psycopg.connect(
            host=database["HOST"],
            port=database["PORT"],
            user=database["USER"],
            password=database["PASSWORD"],
            dbname=database["NAME"],
            connect_timeout=2,
        ).close()
    except (OSError, psycopg.Error) as error:
        return f"no answer at {place[0]}:{place[1]} ({' '.join(str(error).split())})"
    return ""


DATABASES: dict[str, dict[str, Any]] = {"default": sqlite(shared_folder())}
#: Why PostgreSQL is not among the databases; pytest's header says it.
POSTGRES_ABSENT = "turned off by HOOKFLOW_TEST_PG=off"

_asked = os.environ.get("HOOKFLOW_TEST_PG", "")
if _asked != "off":
    _candidate = postgres(_asked or "postgres://postgres@127.0.0.1:5432/postgres")
    POSTGRES_ABSENT = why_unreachable(_candidate)
    if not POSTGRES_ABSENT:
        DATABASES["postgres"] = _candidate
    elif _asked or os.environ.get("CI") == "true":
        _who = "HOOKFLOW_TEST_PG" if _asked else "CI=true"
        raise SystemExit(
            f"{_who} asks for PostgreSQL, and there is none: {POSTGRES_ABSENT}.\n"
            "Start one, or say where it is: HOOKFLOW_TEST_PG=postgres://user:password@host:port/name"
        )

if os.environ.get("HOOKFLOW_TEST_CHILD"):
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
