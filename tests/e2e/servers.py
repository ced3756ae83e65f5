"""The applications that the server processes of end-to-end tests serve.

``HOOKFLOW_CRASH=point:visit`` ends the process by SIGKILL at that visit of that crash point;
``HOOKFLOW_CRASH_ONCE`` is a file that remembers that it happened.
"""

import os
import signal
from pathlib import Path

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.utils.module_loading import import_string

from django_hookflow.conf import options
from django_hookflow.runtime import JOURNAL, runtime


class KillAt:
    """Ends this process at the n-th visit of one crash point, once per marker file."""

    def __init__(self, point: str, visit: int, marker: Path) -> None:
        self._point, self._left, self._marker = point, visit, marker

    def __call__(self, point: str) -> None:
        if point != self._point or self._marker.exists():
            return
        self._left -= 1
        if self._left == 0:
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def install_crash() -> None:
    """Give the process's journal the crash point that the environment names."""
    named = os.environ.get("HOOKFLOW_CRASH")
    if named:
        point, _, visit = named.rpartition("@")
        marker = Path(os.environ["HOOKFLOW_CRASH_ONCE"])
        # By its path: its models can be imported only once the apps are loaded.
        journal = import_string(JOURNAL)
        runtime.journal = journal(lambda: options.database, crash=KillAt(point, int(visit), marker))


asgi = get_asgi_application()
wsgi = get_wsgi_application()
install_crash()
