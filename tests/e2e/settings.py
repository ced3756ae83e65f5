"""Settings of the server processes that end-to-end tests start: all of hookflow's own come
from the environment, as they would on a host."""

import json
import os

from tests.settings import *  # noqa: F403

for _name in (
    "QSTASH_TOKEN",
    "QSTASH_CURRENT_SIGNING_KEY",
    "QSTASH_NEXT_SIGNING_KEY",
    "DJANGO_HOOKFLOW_DOMAIN",
):
    del globals()[_name]

ROOT_URLCONF = "tests.urls"
ASGI_APPLICATION = "tests.e2e.servers.asgi"
WSGI_APPLICATION = "tests.e2e.servers.wsgi"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {
        "django_hookflow": {
            "handlers": ["console"],
            "level": os.environ.get("HOOKFLOW_LOG", "INFO"),
        }
    },
}

# What a test gives one deployment: changes of the journal's database, and other settings.
_database = DATABASES[os.environ.get("DJANGO_HOOKFLOW_DATABASE", "default")]  # noqa: F405
_changes = json.loads(os.environ.get("HOOKFLOW_E2E_DATABASE", "{}"))
_changes["OPTIONS"] = {**_database.get("OPTIONS", {}), **_changes.get("OPTIONS", {})}
_database.update(_changes)
globals().update(json.loads(os.environ.get("HOOKFLOW_E2E_SETTINGS", "{}")))
