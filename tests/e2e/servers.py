"""The applications that the server processes of end-to-end tests serve.

``HOOKFLOW_CRASH=point:visit`` ends the process by SIGKILL at that visit of that crash point;
``HOOKFLOW_CRASH_ONCE`` is a file that remembers that it happened, and to whom.
``HOOKFLOW_DELIVER_AT_IMPORT`` names a run that is delivered when this module is imported, which
under ``--preload`` is before the fork. ``/state`` tells what the process holds open.
"""

import asyncio
import gc
import json
import os
import re
import signal
import threading
from collections import Counter
from pathlib import Path

from asgiref.sync import async_to_sync
from django.apps import apps
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.db import connections
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
            self._marker.write_text(str(os.getpid()))
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


def deliver_at_import() -> None:
    """Do what makes this process's pool, clients and keeper, and leave no connection open."""
    named = os.environ.get("HOOKFLOW_DELIVER_AT_IMPORT")
    if named:
        runs = apps.get_model("django_hookflow", "WorkflowRun").objects
        run = runs.using(options.database).get(run_id=named)
        async_to_sync(runtime.driver.deliver)(run.id, 1, lasting_loop=False)
        connections.close_all()


def state() -> bytes:
    """What this process holds open: loops, pending tasks, threads by their names."""
    gc.collect()
    kept = gc.get_objects()
    names = Counter(re.sub(r"[-_]\d.*", "", thread.name) for thread in threading.enumerate())
    told = {
        "pid": os.getpid(),
        "loops": sum(
            isinstance(each, asyncio.AbstractEventLoop) and not each.is_closed() for each in kept
        ),
        "tasks": sum(isinstance(each, asyncio.Task) and not each.done() for each in kept),
        "named": names,
    }
    return json.dumps(told).encode()


django_asgi = get_asgi_application()
django_wsgi = get_wsgi_application()
install_crash()
deliver_at_import()


async def asgi(scope, receive, send):
    if scope.get("path") != "/state":
        await django_asgi(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": state()})


def wsgi(environ, start_response):
    if environ["PATH_INFO"] != "/state":
        return django_wsgi(environ, start_response)
    start_response("200 OK", [])
    return [state()]
