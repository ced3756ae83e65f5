"""Settings of the example project.

Made for a laptop: with nothing set it runs on SQLite against the local QStash server
(``python -m django_hookflow.devserver``). What differs in production is read from the
environment; every variable is named beside its setting.
"""

import os
from pathlib import Path

import django

BASE_DIR = Path(__file__).resolve().parent.parent
# Everything that the project writes: database, mails, ledger, logs.
VAR_DIR = Path(os.environ.get("ORDERS_VAR") or BASE_DIR / "var")
VAR_DIR.mkdir(parents=True, exist_ok=True)

# --- Django ----------------------------------------------------------------------------------

DEBUG = os.environ.get("DJANGO_DEBUG", "1") == "1"
# With DEBUG=False there is no default: Django says that the key is missing.
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "only-for-your-own-machine" if DEBUG else "")
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "127.0.0.1,localhost").split(",")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_hookflow",
    "orders",
    "payments",
    "wholesale",
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

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Seconds to wait for another writer, of which SQLite has one at a time.
SQLITE_OPTIONS = {"timeout": 20}
if django.VERSION >= (5, 1):
    SQLITE_OPTIONS |= {
        # Take the write lock at BEGIN: two transactions that read first and write later would
        # otherwise end in "database is locked", whatever the timeout.
        "transaction_mode": "IMMEDIATE",
        # Readers (the home page) do not wait for writers.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": VAR_DIR / "orders.sqlite3",
        "OPTIONS": SQLITE_OPTIONS,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

USE_TZ = True  # django-hookflow compares moments, not wall clocks
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
STATIC_URL = "static/"

# Mails become files, so that nobody gets one.
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = VAR_DIR / "mail"
DEFAULT_FROM_EMAIL = "shop@example.com"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {
        # One line per recorded step, retry and wait.
        "django_hookflow": {
            "handlers": ["console"],
            "level": os.environ.get("ORDERS_LOG_LEVEL", "INFO"),
        },
    },
}

# --- django-hookflow -------------------------------------------------------------------------
# The defaults are the local server's own, published and therefore secret to nobody:
# `manage.py check` refuses them with DEBUG=False. On hosted QStash set the variables to what
# its console shows; nothing else changes.

QSTASH_URL = os.environ.get("QSTASH_URL", "http://127.0.0.1:8080")
QSTASH_TOKEN = os.environ.get(
    "QSTASH_TOKEN", "eyJVc2VySUQiOiJkZWZhdWx0VXNlciIsIlBhc3N3b3JkIjoiZGVmYXVsdFBhc3N3b3JkIn0="
)
QSTASH_CURRENT_SIGNING_KEY = os.environ.get(
    "QSTASH_CURRENT_SIGNING_KEY", "sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r"
)
QSTASH_NEXT_SIGNING_KEY = os.environ.get(
    "QSTASH_NEXT_SIGNING_KEY", "sig_5ZB6DVzB1wjE8S6rZ7eenA8Pdnhs"
)
# Where QStash reaches this project: part of what it signs, so it has to be exact.
DJANGO_HOOKFLOW_DOMAIN = os.environ.get("DJANGO_HOOKFLOW_DOMAIN", "http://127.0.0.1:8000")
# Every other DJANGO_HOOKFLOW_... setting is left out here on purpose: what is absent is looked
# up in the environment variable of the same name. The demo sets DJANGO_HOOKFLOW_LEASE_SECONDS.

# --- the shop --------------------------------------------------------------------------------

# The payment provider. This project serves a small one itself (the app `payments`).
ORDERS_PAYMENTS_URL = os.environ.get("ORDERS_PAYMENTS_URL", f"{DJANGO_HOOKFLOW_DOMAIN}/payments/")
# How long parcels are packed and payments awaited: an hour or days in a real shop. A sleep holds
# nothing, so its length costs nothing; it is short because somebody is watching.
ORDERS_PACKING_SECONDS = float(os.environ.get("ORDERS_PACKING_SECONDS", "2"))
ORDERS_PAYMENT_WAIT_SECONDS = float(os.environ.get("ORDERS_PAYMENT_WAIT_SECONDS", "3"))
# How long the carrier and the payment provider take to answer.
ORDERS_CARRIER_SECONDS = float(os.environ.get("ORDERS_CARRIER_SECONDS", "0.4"))
PAYMENTS_ANSWER_SECONDS = float(os.environ.get("PAYMENTS_ANSWER_SECONDS", "0.5"))
# One line per body of a step that ran. Not in the database on purpose: it has to know of bodies
# whose transaction was rolled back or whose process was killed.
ORDERS_LEDGER = VAR_DIR / "ledger.jsonl"
