"""``manage.py hookflow dev``: a fresh project, one terminal, no account."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError

from django_hookflow.cli import dev
from django_hookflow.cli.children import GRACE
from django_hookflow.cli.local import PUBLIC_KEYS, PUBLIC_TOKEN, make_plan
from django_hookflow.conf import options
from django_hookflow.devserver import config as devserver
from django_hookflow.exceptions import ConfigurationError
from tests.django.command import hookflow
from tests.ports import free_port

posix = pytest.mark.skipif(os.name != "posix", reason="signals and process groups")

WORKFLOWS = """
from django_hookflow import workflow


def validate_order(order_id):
    return order_id


def fulfill_order(order_id, payment):
    return f"{order_id} paid by {payment['data']['by']}"


@workflow
def process_order(ctx):
    order_id = ctx.data.get("order_id")
    validated = ctx.step.run("validate", validate_order, order_id)
    ctx.step.sleep("wait-for-payment", seconds=1)
    payment = ctx.step.call("charge", url="STUB", method="POST")
    result = ctx.step.run("fulfill", fulfill_order, order_id, payment)
    return {"status": "completed", "result": result}
"""

URLS = """
from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls), path("hookflow/", include("django_hookflow.urls"))]
"""

TRIGGER = """
from shop.workflows import process_order
print("RUN", process_order.trigger(data={"order_id": "12345"}))
"""


class Charge(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = b'{"by": "card"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Charge) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Project:
    """What ``django-admin startproject`` and the quick start make."""

    def __init__(self, folder: Path, stub: str) -> None:
        self.folder = folder
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("QSTASH", "DJANGO", "HOOKFLOW"))
        }
        self.run("-m", "django", "startproject", "site_", str(folder))
        (folder / "shop").mkdir()
        (folder / "shop" / "__init__.py").touch()
        (folder / "shop" / "workflows.py").write_text(WORKFLOWS.replace("STUB", stub))
        (folder / "site_" / "urls.py").write_text(URLS)
        self.set('INSTALLED_APPS += ["django_hookflow", "shop"]')

    def set(self, line: str) -> None:
        with (self.folder / "site_" / "settings.py").open("a") as settings:
            settings.write(line + "\n")

    def run(self, *arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout + done.stderr

    def manage(self, *arguments: str, **environment: str) -> str:
        return self.run("manage.py", *arguments, **environment)

    @contextmanager
    def dev(self, *arguments: str) -> Iterator["Dev"]:
        with Dev(self, arguments) as running:
            yield running


class Dev:
    """A terminal in which ``hookflow dev`` runs."""

    def __init__(self, project: Project, arguments: tuple[str, ...]) -> None:
        self.log = project.folder / "dev.log"
        self.port = free_port()
        command = [sys.executable, "manage.py", "hookflow", "dev", "--port", str(self.port)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                cwd=project.folder,
                env=project.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> "Dev":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    @property
    def text(self) -> str:
        return self.log.read_text()

    def until(self, pattern: str, seconds: float = 90) -> re.Match[str]:
        found: list[re.Match[str]] = []

        def search() -> bool:
            if match := re.search(pattern, self.text):
                found.append(match)
            return bool(found)

        wait(search, seconds, lambda: f"no {pattern!r} in\n{self.text}")
        return found[0]

    def pasted(self) -> dict[str, str]:
        """The environment of another terminal after the printed line was pasted there."""
        line = self.until(r"export HOOKFLOW_DEV_OVERRIDES=.*")[0]
        shown = subprocess.run(
            ["sh", "-c", f'{line}; printf %s "$HOOKFLOW_DEV_OVERRIDES"'],
            capture_output=True,
            text=True,
            check=True,
        )
        return {"HOOKFLOW_DEV_OVERRIDES": shown.stdout}


def wait(condition: Callable[[], object], seconds: float, told: Callable[[], str]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.05)


def ps(*arguments: str) -> str:
    listed = subprocess.run(["ps", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    return listed.stdout


def descendants(pid: int) -> set[int]:
    parents = dict(map(int, line.split()) for line in ps("-A", "-o", "pid=,ppid=").splitlines())
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in {pid, *found}} - found:
        found |= more
    return found


def alive(pid: int) -> bool:
    state = ps("-p", str(pid), "-o", "stat=").strip()
    # Nobody may be there to collect an orphan in a container: dead is what counts.
    return bool(state) and not state.startswith("Z")


@posix
@pytest.mark.slow
def test_a_fresh_project_runs_a_workflow_without_an_account(tmp_path: Path, stub: str) -> None:
    project = Project(tmp_path, stub)
    assert "run python manage.py migrate --skip-checks" in project.manage("hookflow", "dev")
    project.manage("migrate", "--skip-checks")
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, project.dev("--qstash-port", str(taken.getsockname()[1])) as terminal:
        terminal.until("Ctrl-C ends all")
        assert "is taken: QStash is on another one" in terminal.text
        assert f"http://127.0.0.1:{terminal.port}/admin/" in terminal.text
        assert f"http://127.0.0.1:{terminal.port}/hookflow/" in terminal.text

        # Another terminal: without the line it says what is missing, with it the run completes.
        assert "QSTASH_TOKEN is missing" in project.manage("shell", "-c", TRIGGER)
        told = project.manage("shell", "-c", TRIGGER, **terminal.pasted())
        run = re.search(r"RUN (\S+)", told)
        assert run, told
        terminal.until(rf"{run[1]} completed")
        for step in ("validate", "charge", "fulfill"):
            assert re.search(rf"app .*{run[1]} '{step}#1' recorded in", terminal.text)

        second = project.manage("hookflow", "dev", "--port", str(terminal.port))
        assert f"CommandError: Port {terminal.port} is taken" in second
        shown = json.loads(project.manage("hookflow", "show", run[1], "--json"))
        assert shown["result"] == {"status": "completed", "result": "12345 paid by card"}
        assert [step["kind"] for step in shown["steps"]] == ["run", "sleep", "call", "run"]

        (tmp_path / "shop" / "views.py").write_text("")
        (tmp_path / "shop" / "workflows.py").write_text(WORKFLOWS.replace("STUB", stub) + "\n")
        terminal.until("Reloading")
        children = descendants(terminal.process.pid)
        assert len(children) >= 4  # the reloader has a child of its own
        began = time.monotonic()
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(60) == 0
        assert time.monotonic() - began < 20
    wait(lambda: not any(map(alive, children)), 30, lambda: f"alive: {children}")
    assert "Traceback" not in terminal.text


@posix
@pytest.mark.slow
def test_a_project_s_own_settings_stay_and_are_led_here(tmp_path: Path, stub: str) -> None:
    project = Project(tmp_path, stub)
    project.set('QSTASH_TOKEN = "token-of-the-project"')
    project.set('QSTASH_URL = "http://127.0.0.1:9"')
    project.set('QSTASH_CURRENT_SIGNING_KEY = "sig_of_the_project_current"')
    project.set('QSTASH_NEXT_SIGNING_KEY = "sig_of_the_project_next"')
    project.set('DJANGO_HOOKFLOW_DOMAIN = "https://your-app.com"')
    project.set('ALLOWED_HOSTS = ["somewhere.else"]')
    project.set("SECURE_SSL_REDIRECT = True")
    # It disables every logger that exists, and has nobody print ours.
    project.set('LOGGING = {"version": 1, "root": {"level": "ERROR"}}')
    project.set('ASGI_APPLICATION = "site_.asgi.application"')
    project.manage("migrate")
    with project.dev("--qstash-port", str(free_port()), "--no-reload") as terminal:
        terminal.until("Ctrl-C ends all")
        assert "Deliveries for https://your-app.com come to http://127.0.0.1:" in terminal.text
        assert "token-of-the-project" not in terminal.text
        told = project.manage("shell", "-c", TRIGGER, **terminal.pasted())
        run = re.search(r"RUN (\S+)", told)
        assert run, told
        terminal.until(rf"{run[1]} completed")
        assert "POST https://your-app.com/hookflow/ retried=0: 200" in terminal.text
        assert "token-of-the-project" not in ps("-A", "-o", "args=")

        # A child that dies takes the others along, and its exit code is told.
        children = descendants(terminal.process.pid)
        server = int(terminal.until(r"Started server process \[(\d+)\]")[1])
        assert server in children
        os.kill(server, signal.SIGKILL)
        assert terminal.process.wait(60) == 1
    assert "CommandError: app ended with exit code -9, so the others were ended" in terminal.text
    wait(lambda: not any(map(alive, children)), 30, lambda: f"alive: {children}")


@posix
@pytest.mark.slow
def test_killed_it_takes_all_along_and_its_file_is_taken_up(tmp_path: Path, stub: str) -> None:
    project = Project(tmp_path, stub)
    project.manage("migrate", "--skip-checks")
    qstash = free_port()
    arguments = ("--qstash-port", str(qstash), "--db", "local.db")
    with project.dev(*arguments) as terminal:
        terminal.until("Ctrl-C ends all")
        assert f"QStash       http://127.0.0.1:{qstash}, kept in local.db" in terminal.text
        link = terminal.until(r"Dead letters (http://\S+)")[1]
        request = urllib.request.Request(
            f"http://127.0.0.1:{qstash}/v2/publish/http://127.0.0.1:9/nobody",
            headers={"Authorization": f"Bearer {PUBLIC_TOKEN}", "Upstash-Retries": "0"},
            method="POST",
        )
        message = json.load(urllib.request.urlopen(request))["messageId"]
        terminal.until(rf"qstash .*{message} is a dead letter now")
        (letter,) = json.load(urllib.request.urlopen(link))["messages"]
        assert letter["messageId"] == message
        children = descendants(terminal.process.pid)
        assert len(children) >= 4
        terminal.process.kill()
        terminal.process.wait(60)
        wait(lambda: not any(map(alive, children)), 40, lambda: f"alive: {children}")
    # Ports and file are free again.
    with project.dev(*arguments) as terminal:
        terminal.until("Ctrl-C ends all")
        assert "1 dead letter(s)" in terminal.text
        (again,) = json.load(urllib.request.urlopen(link))["messages"]
        assert again == letter


def held(code: str, folder: Path) -> "subprocess.Popen[str]":
    """A module with that code, started as ``hookflow dev`` starts its children."""
    (folder / "held.py").write_text(code)
    return subprocess.Popen(
        [sys.executable, "-m", "django_hookflow.cli.child", "held", "--option"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_child_runs_as_if_started_alone_with_nothing_to_read(tmp_path: Path) -> None:
    code = "import sys\nprint(__name__, sys.argv[1:], [sys.stdin.read()])"
    with held(code, tmp_path) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "__main__ ['--option'] ['']\n"
        assert child.wait(40) == 0


@posix
def test_a_child_ends_as_if_asked_to_when_its_parent_is_gone(tmp_path: Path) -> None:
    code = """
import signal, sys, time
def end(*_):
    print("asked", flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(60)
"""
    with held(code, tmp_path) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.stdin.close()
        assert child.stdout.readline() == "asked\n"
        assert child.wait(40) == 3


@posix
@pytest.mark.slow
def test_a_child_that_does_not_end_is_killed_with_what_it_started(tmp_path: Path) -> None:
    code = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
own = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(own.pid, flush=True)
time.sleep(60)
"""
    with held(code, tmp_path) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        own = int(child.stdout.readline())
        child.stdin.close()
        assert child.wait(GRACE + 30) == -signal.SIGKILL
    wait(lambda: not alive(own), 30, lambda: f"alive: {own}")


@posix
@pytest.mark.slow
def test_the_application_ends_when_its_reloader_is_killed(tmp_path: Path, stub: str) -> None:
    project = Project(tmp_path, stub)
    project.manage("migrate", "--skip-checks")
    with project.dev("--qstash-port", str(free_port())) as terminal:
        terminal.until("Ctrl-C ends all")
        reloader = int(terminal.until(r"Started reloader process \[(\d+)\]")[1])
        application = int(terminal.until(r"Started server process \[(\d+)\]")[1])
        # With the one that looks after both.
        for pid in (terminal.process.pid, reloader):
            os.kill(pid, signal.SIGKILL)
        wait(lambda: not alive(application), 40, lambda: f"alive: {application}")


def test_a_file_is_handed_on_and_the_project_s_own_token_is_not_shown(settings: Any) -> None:
    ports = {"port": free_port(), "qstash_port": free_port(), "reload": False}
    assert "--db" not in make_plan(**ports).qstash_command()
    plan = make_plan(**ports, db=Path("local.db"))
    command = plan.qstash_command()
    assert command[command.index("--db") + 1] == "local.db"
    assert settings.QSTASH_TOKEN not in plan.dead_letters_url


def test_only_under_debug(settings: Any) -> None:
    settings.DEBUG = False
    with pytest.raises(CommandError, match="DEBUG = True"):
        hookflow("dev")


def test_a_missing_extra_is_named(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DEBUG = True
    monkeypatch.setattr(dev, "_EXTRA", ("starlette", "no_such_package"))
    with pytest.raises(CommandError, match=r'pip install "django-hookflow\[devserver\]"'):
        hookflow("dev")


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1"])
def test_a_port_is_a_number(port: str) -> None:
    with pytest.raises(CommandError, match="port"):
        hookflow("dev", f"--qstash-port={port}")


def test_a_wrong_setting_is_told_before_anything_starts(settings: Any) -> None:
    settings.DJANGO_HOOKFLOW_DOMAIN = "ftp://nowhere"
    with pytest.raises(CommandError, match="DJANGO_HOOKFLOW_DOMAIN"):
        make_plan(port=free_port(), qstash_port=free_port(), reload=False)


def test_the_public_token_and_keys_are_the_local_server_s() -> None:
    assert PUBLIC_TOKEN == devserver.DEFAULT_TOKEN
    assert PUBLIC_KEYS == (devserver.DEFAULT_CURRENT_KEY, devserver.DEFAULT_NEXT_KEY)


def test_the_children_s_settings_win_over_the_project_s(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.QSTASH_URL = "https://eu.example"
    settings.DJANGO_HOOKFLOW_LEASE_SECONDS = 60
    plan = make_plan(port=free_port(), qstash_port=free_port(), reload=True)
    variable = plan.environment()["HOOKFLOW_DEV_OVERRIDES"]
    monkeypatch.setenv("HOOKFLOW_DEV_OVERRIDES", variable)
    # Left over in a deployment it changes nothing; "True" is not True.
    for debug in (False, "True"):
        settings.DEBUG = debug
        assert (options.qstash_url, options.lease_seconds) == ("https://eu.example", 60)
    settings.DEBUG = True
    assert (options.qstash_url, options.lease_seconds) == (plan.qstash_url, 5)
    assert options.current_signing_key == PUBLIC_KEYS[0]
    assert options.token == settings.QSTASH_TOKEN
    assert options.domain == settings.DJANGO_HOOKFLOW_DOMAIN
    # What it does not name is the project's.
    assert options.webhook_path == "/hookflow/"


@pytest.mark.parametrize("text", ["{", "[]", "1"])
def test_a_line_that_was_pasted_in_part_says_so(
    settings: Any, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    settings.DEBUG = True
    monkeypatch.setenv("HOOKFLOW_DEV_OVERRIDES", text)
    with pytest.raises(ConfigurationError, match="paste the whole line"):
        _ = options.token
