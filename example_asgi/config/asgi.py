"""For uvicorn: ``uvicorn --app-dir example_asgi config.asgi:application``."""

import os

from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_asgi_application()
if settings.DEBUG:
    # The admin's style sheets, which only `runserver` would serve by itself.
    application = ASGIStaticFilesHandler(application)
