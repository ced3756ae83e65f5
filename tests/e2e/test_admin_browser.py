"""The admin's pages in a real browser: they are styled, keep a strict CSP, and run nobody's script.

Driven by Chromium's command line; without a Chromium the tests are skipped and say so.
"""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.urls import reverse

from django_hookflow.core.entries import ErrorRecord
from django_hookflow.models import WorkflowRun
from tests.django.command import Rows, ago

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path"),
]

LIST = "/admin/django_hookflow/workflowrun/"
HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "</pre><svg onload=\"document.title='owned'\">",
)


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def signed_in(get_response: Callable) -> Callable:
    """Middleware: the browser has no way to log in from its command line."""

    def middleware(request):
        request.user = User.objects.get()
        return get_response(request)

    return middleware


def strict(get_response: Callable) -> Callable:
    """Middleware: nothing inline, nothing from elsewhere."""

    def middleware(request):
        response = get_response(request)
        response["Content-Security-Policy"] = "default-src 'self'"
        return response

    return middleware


@pytest.fixture
def serve(settings) -> Iterator[Callable[..., str]]:
    """Serve the project with further middleware; gives the address."""
    User.objects.create_superuser("root")
    servers: list[ThreadedWSGIServer] = []

    def start(*middleware: str) -> str:
        here = [f"{__name__}.{name}" for name in ("signed_in", *middleware)]
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, *here]
        server = ThreadedWSGIServer(("127.0.0.1", 0), Quiet)
        server.set_app(StaticFilesHandler(WSGIHandler()))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def browser(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Open an address; gives the page after its scripts, and what the console said."""

    def visit(address: str, *options: str) -> tuple[str, str]:
        command = [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--disable-dev-shm-usage", "--enable-logging=stderr", "--window-size=1400,1000",
            f"--user-data-dir={tmp_path / 'profile'}", *options, address,
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            page, log = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        assert process.returncode == 0, log
        return page, "\n".join(line for line in log.splitlines() if "CONSOLE" in line)

    return visit


def url(run: WorkflowRun, verb: str = "change") -> str:
    return reverse(f"admin:django_hookflow_workflowrun_{verb}", args=[run.pk])


def failed_run(rows: Rows, text: str, run_id: str = "order-1") -> WorkflowRun:
    run = rows.run(
        run_id, "failed", workflow_id=text, data={text: text}, result=text, state=[text],
        blocked=text, error={"type": text, "message": text, "step": text}, finished_at=ago(1),
    )  # fmt: skip
    error = ErrorRecord(type=text, message=text, response={text: text})
    rows.step(run, text, "failed", event=text, error=error, result=text, started_at=ago(2))
    return run


def test_the_pages_keep_a_strict_policy_and_are_styled(serve, browser, tmp_path) -> None:
    run = failed_run(Rows(), "out of stock")
    address = serve("strict")
    for path, wanted in (
        (LIST, "hookflow-failed"),
        (url(run), "hookflow-row-failed"),
        (url(run, "retry"), "Retry this run?"),
    ):
        page, console = browser(address + path, "--dump-dom")
        assert wanted in page
        assert console == ""

    pictures = []
    # Chromium counts dark as 0 and light as 1.
    for scheme in (0, 1):
        picture = tmp_path / f"{scheme}.png"
        browser(
            address + url(run),
            f"--screenshot={picture}",
            f"--blink-settings=preferredColorScheme={scheme}",
        )
        pictures.append(picture.read_bytes())
    assert pictures[0] != pictures[1]
    css, _ = browser(f"{address}/static/django_hookflow/admin.css", "--dump-dom")
    assert ".hookflow-status" in css


def test_no_text_of_a_row_runs_as_a_script(serve, browser) -> None:
    rows = Rows()
    runs = [failed_run(rows, text, f"order-{n}") for n, text in enumerate(HOSTILE)]
    address = serve()
    for path in (LIST, *map(url, runs), url(runs[0], "retry")):
        page, _ = browser(address + path, "--dump-dom")
        assert "<title>" in page
        assert "<title>owned" not in page
