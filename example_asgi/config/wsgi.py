"""For gunicorn: ``gunicorn --chdir example_asgi config.wsgi``. Async workflows run there too."""

import os

from django.conf import settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_wsgi_application()
if settings.DEBUG:
    # The admin's style sheets, which only `runserver` would serve by itself.
    application = StaticFilesHandler(application)
