"""The application that ``hookflow dev`` serves: the project's own, with static files and logs.

The project's ``ASGI_APPLICATION`` if the setting is there, else Django's. For development only.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.process import BaseProcess
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.utils.module_loading import import_string

from django_hookflow.conf import DEV_OVERRIDES, options

__all__ = ["application", "end_with_reloader", "let_deliveries_in", "show_logs"]

ROOT = "django_hookflow"

#: What an empty ALLOWED_HOSTS stands for under DEBUG.
_THIS_MACHINE = (".localhost", "127.0.0.1", "[::1]")


def _application() -> Any:
    developing = bool(os.environ.get(DEV_OVERRIDES)) and settings.DEBUG is True
    if developing:
        end_with_reloader()
        let_deliveries_in()
    path = getattr(settings, "ASGI_APPLICATION", None)
    served = import_string(path.replace(":", ".")) if path else get_asgi_application()
    if developing:
        # After that: whatever sets Django up applies the project's LOGGING, and may do so twice.
        show_logs()
    if settings.DEBUG and apps.is_installed("django.contrib.staticfiles"):
        return ASGIStaticFilesHandler(served)
    return served


def end_with_reloader() -> None:
    """End when the reloader that started this process was killed; nobody else would look."""
    reloader = multiprocessing.parent_process()
    if reloader is not None:
        threading.Thread(target=_end_after, args=(reloader,), daemon=True).start()


def _end_after(reloader: BaseProcess) -> None:
    reloader.join()
    os.kill(os.getpid(), signal.SIGTERM)


def let_deliveries_in() -> None:
    """Admit what comes over plain http from this machine in the name of the public domain.

    A delivery carries that domain's Host header, as it does in production. Only this process's
    settings change.
    """
    host = urlsplit(options.domain).hostname or ""
    settings.ALLOWED_HOSTS = [*settings.ALLOWED_HOSTS, *_THIS_MACHINE, host]
    settings.SECURE_SSL_REDIRECT = False


def show_logs() -> None:
    """Make this package's INFO lines appear, and the server's, whatever ``LOGGING`` says."""
    logger = logging.getLogger(ROOT)
    for name, known in logging.root.manager.loggerDict.items():
        # They were made before the project's LOGGING was applied, which disables every logger
        # that exists unless it says otherwise.
        if isinstance(known, logging.Logger) and name.partition(".")[0] in (ROOT, "uvicorn"):
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
