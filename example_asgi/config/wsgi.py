"""For gunicorn: ``gunicorn --chdir example_asgi --threads 8 config.wsgi``.

Async workflows run there too. Threads, because a run calls the payment API, which the same process
serves: with a single one it would wait for itself. (``python3 example_asgi --wsgi`` takes sync
workers, which have one thread each, and serves the payment API by a process of its own.)
"""

import os

from django.conf import settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_wsgi_application()
if settings.DEBUG:
    # The admin's style sheets, which only `runserver` would serve by itself.
    application = StaticFilesHandler(application)
