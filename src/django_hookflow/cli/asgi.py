"""The application that ``hookflow dev`` serves: the project's own, with static files and logs.

The project's ``ASGI_APPLICATION`` if the setting is there, else Django's. For development only.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import django
from django.apps import apps
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.utils.module_loading import import_string

__all__ = ["application"]

ROOT = "django_hookflow"


def _application() -> Any:
    django.setup()
    if os.environ.get("HOOKFLOW_DEV_OVERRIDES") and settings.DEBUG is True:
        show_logs()
    path = getattr(settings, "ASGI_APPLICATION", None)
    served = import_string(path.replace(":", ".")) if path else get_asgi_application()
    if settings.DEBUG and apps.is_installed("django.contrib.staticfiles"):
        return ASGIStaticFilesHandler(served)
    return served


def show_logs() -> None:
    """Make this package's INFO lines appear, whatever the project's ``LOGGING`` says of them."""
    logger = logging.getLogger(ROOT)
    for name, known in logging.root.manager.loggerDict.items():
        # Our modules were imported before the project's LOGGING was applied, which disables
        # every logger that exists unless it says otherwise.
        if isinstance(known, logging.Logger) and (name + ".").startswith(f"{ROOT}."):
            known.disabled = False
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)
    if not _is_printed(logger):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        logger.addHandler(handler)


def _is_printed(logger: logging.Logger) -> bool:
    """Whether an INFO line reaches the terminal already; twice would be once too often."""
    found: logging.Logger | None = logger
    while found is not None:
        for handler in found.handlers:
            printing = isinstance(handler, logging.StreamHandler)
            file = isinstance(handler, logging.FileHandler)
            if printing and not file and handler.level <= logging.INFO:
                return True
        found = found.parent if found.propagate else None
    return False


application = _application()
