"""The quick start of the README, pasted into a new ``django-admin startproject``.

Only the charge's URL and the length of the sleep are changed; ``HOOKFLOW_QUICK_START_SLEEP=60``
leaves the latter as it is written. What a newcomer writes himself is added: the two functions,
and views with the lines that start the runs.
"""

import http.server
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from tests.ports import free_port

from .processes import listens, wait_until

ROOT = Path(__file__).resolve().parents[2]
SLEEP = float(os.environ.get("HOOKFLOW_QUICK_START_SLEEP", "2"))

pytestmark = pytest.mark.slow

FUNCTIONS = """

def validate_order(order_id):
    return order_id == "12345"


async def fulfill_order_async(order_id, payment):
    return fulfill_order(order_id, payment)


def fulfill_order(order_id, payment):
    return f"{order_id} was charged by {payment.data['id']}"
"""

VIEWS = """
from django.http import HttpResponse

from app.workflows import process_order, process_order_async


def sync(request):
    {sync}
    return HttpResponse(run_id)


async def asynchronous(request):
    {asynchronous}
    return HttpResponse(run_id)
"""

URLS = """
from django.contrib import admin
from django.urls import include, path

from app import views

urlpatterns = [
    path("admin/", admin.site.urls),
    {hookflow},
    path("sync/", views.sync),
    path("async/", views.asynchronous),
]
"""

RESULTS = {
    "sync": {"status": "completed", "result": "12345 was charged by ch_1"},
    "async": "12345 was charged by ch_1",
}


def quick_start():
    """The blocks of the README's quick start, in order: settings, URLs, workflows, two starts."""
    text = (ROOT / "README.md").read_text().split("## Quick start")[1].split("###")[0]
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 5
    return [block.strip() for block in blocks]


class Charges(http.server.BaseHTTPRequestHandler):
    """The payment provider; it notes the idempotency keys."""

    def do_POST(self):
        self.server.keys.append(self.headers["Idempotency-Key"])
        body = json.dumps({"id": "ch_1"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def charges():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Charges)
    server.keys = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Project:
    """A new project with the quick start pasted in, and the processes that run it."""

    def __init__(self, folder, charge_url):
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes = []
        # Nothing of this test run's own: a newcomer has none of it.
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DJANGO_", "QSTASH_", "HOOKFLOW_"))
        }
        self.run("-m", "django", "startproject", "shop", ".")
        self.manage("startapp", "app")
        self.paste(charge_url)

    def paste(self, charge_url):
        settings, urls, workflows, sync, asynchronous = quick_start()
        workflows = workflows.replace("https://api.stripe.com/...", charge_url)
        workflows = workflows.replace("seconds=60", f"seconds={SLEEP:g}")
        assert charge_url in workflows
        with (self.folder / "shop/settings.py").open("a") as file:
            file.write(f'\nINSTALLED_APPS += ["app"]\n{settings}\n')
        hookflow = urls.removeprefix("# urls.py\n")
        (self.folder / "shop/urls.py").write_text(URLS.format(hookflow=hookflow))
        (self.folder / "app/workflows.py").write_text(workflows + FUNCTIONS)
        (self.folder / "app/views.py").write_text(
            VIEWS.format(sync=sync, asynchronous=asynchronous)
        )

    def setting(self, name, value):
        """What he writes in the place of the quick start's own."""
        path = self.folder / "shop/settings.py"
        line = re.compile(rf"^{name} = .*$", re.MULTILINE)
        text, count = line.subn(f"{name} = {value!r}", path.read_text())
        assert count == 1
        path.write_text(text)

    def run(self, *arguments):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env=self.environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def manage(self, *arguments):
        return self.run("manage.py", *arguments)

    def start(self, port, *arguments):
        with (self.folder / f"process-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments], cwd=self.folder, env=self.environment,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        wait_until(lambda: listens(port) or process.poll() is not None, 90, self.logs)
        assert process.poll() is None, self.logs()

    def end(self):
        for process in self.processes:
            process.send_signal(signal.SIGINT)
        with suppress(AssertionError):  # whoever does not end is killed
            wait_until(lambda: all(each.poll() is not None for each in self.processes), 60)
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def logs(self):
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def place(self, colour):
        return httpx.get(f"{self.url}/{colour}/", timeout=60).raise_for_status().text

    def row(self, run_id):
        with closing(sqlite3.connect(self.folder / "db.sqlite3", timeout=20)) as database:
            query = "SELECT status, result, error FROM django_hookflow_workflowrun WHERE run_id = ?"
            return database.execute(query, [run_id]).fetchone()

    def finish(self, *colours):
        runs = {self.place(colour): colour for colour in colours}
        for run_id, colour in runs.items():
            wait_until(
                lambda run_id=run_id: self.row(run_id)[0] in ("completed", "failed"),
                SLEEP + 60,
                lambda run_id=run_id: f"{self.row(run_id)}\n{self.logs()}",
            )
            status, result, error = self.row(run_id)
            assert status == "completed", (error, self.logs())
            assert json.loads(result) == RESULTS[colour]


@pytest.fixture
def project(tmp_path, charges):
    made = Project(tmp_path, f"http://127.0.0.1:{charges.server_port}/charge")
    yield made
    made.end()


def test_it_runs_to_its_end_with_hookflow_dev_and_no_further_setting(project, charges):
    said = project.manage("migrate")
    assert "django_hookflow.0001_initial... OK" in said
    # Errors would have stopped it; that SQLite is not IMMEDIATE is only a warning.
    assert "django_hookflow.W003" in project.manage("check")
    arguments = ["--port", str(project.port), "--qstash-port", str(free_port())]
    project.start(project.port, "manage.py", "hookflow", "dev", *arguments)
    project.finish("sync", "async")
    assert len(charges.keys) == len(set(charges.keys)) == 2


SERVERS = {
    "uvicorn": ["-m", "uvicorn", "shop.asgi:application", "--port"],
    "gunicorn": ["-m", "gunicorn", "shop.wsgi", "--workers", "2", "--bind"],
}


@pytest.mark.parametrize("server", list(SERVERS))
def test_it_runs_to_its_end_by_hand_against_the_devserver(project, charges, server):
    """QSTASH_URL from the environment, the domain the local server, a token that fits."""
    qstash = free_port()
    project.start(
        qstash, "-m", "django_hookflow.devserver", "--port", str(qstash), "--token", "..."
    )
    project.environment["QSTASH_URL"] = f"http://127.0.0.1:{qstash}"
    project.setting("DJANGO_HOOKFLOW_DOMAIN", project.url)
    project.manage("migrate")
    where = str(project.port) if server == "uvicorn" else f"127.0.0.1:{project.port}"
    project.start(project.port, *SERVERS[server], where)
    project.finish("sync", "async")
    assert len(charges.keys) == len(set(charges.keys)) == 2
