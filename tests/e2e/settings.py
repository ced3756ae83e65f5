"""Settings of the server processes that end-to-end tests start: all of hookflow's own come
from the environment, as they would on a host."""

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
