"""The command line, as a process."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import django_hookflow
from django_hookflow.devserver.__main__ import main
from django_hookflow.devserver.config import DEFAULT_CURRENT_KEY, DEFAULT_NEXT_KEY, DEFAULT_TOKEN

SOURCE = Path(next(iter(django_hookflow.__path__))).parent


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if "DJANGO" not in name}
    return subprocess.Popen(
        [sys.executable, "-m", "django_hookflow.devserver", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {"PYTHONPATH": str(SOURCE)},
    )


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = start("--port", "0", *arguments)
    try:
        line = process.stdout.readline()
        found = re.search(r"running at (http://127\.0\.0\.1:\d+)$", line.strip())
        assert found, (line, process.stderr.read() if process.poll() is not None else "")
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_announces_itself_and_ends_promptly(number):
    with running() as (process, url):
        answer = httpx.get(
            f"{url}/v2/keys", headers={"Authorization": f"Bearer {DEFAULT_TOKEN}"}, trust_env=False
        )
        assert answer.json() == {"current": DEFAULT_CURRENT_KEY, "next": DEFAULT_NEXT_KEY}
        started = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - started < 8
        assert "Traceback" not in errors


def test_settings_reach_the_server():
    keys = ["--signing-key", "sig_" + "a" * 28, "--next-signing-key", "sig_" + "b" * 28]
    with running("--token", "mine", *keys, "--time-scale", "5") as (_, url):
        answer = httpx.get(f"{url}/v2/keys?qstash_token=mine", trust_env=False)
        assert answer.json() == {"current": keys[1], "next": keys[3]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "no folder"), (b"text " * 200, "is no SQLite database")],
)
def test_a_file_that_cannot_be_used(tmp_path, content, problem):
    path = tmp_path / "missing" / "file"
    if content:
        path = tmp_path / "file"
        path.write_bytes(content)
    process = start("--port", "0", "--db", str(path))
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (2, "")
    assert errors.count("\n") == 1
    assert problem in errors


def test_taken_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = start("--port", port)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (2, "")
    assert errors.count("\n") == 1
    assert port in errors
    assert "choose another port with --port" in errors


@pytest.fixture
def refused(capsys):
    def run(*arguments: str) -> str:
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code
        assert code == 2
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    "secrets",
    [[], ["--token", "mine"], ["--signing-key", "k" * 32, "--next-signing-key", "n" * 32]],
)
def test_public_secrets_stay_on_loopback(refused, secrets):
    assert "public" in refused("--host", "0.0.0.0", "--port", "0", *secrets)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--rewrite", "prod.example"], "FROM=TO"),
        (["--rewrite", "prod.example=http://127.0.0.1"], "not an http(s) URL"),
        (["--time-scale", "0"], "time scale"),
        (["--signing-key", "short"], "16 characters"),
        (["--port", "99999"], "not a port number"),
        (["--host", "no such host", "--token", "x"], "refusing"),
    ],
)
def test_bad_arguments(refused, arguments, problem):
    assert problem in refused(*arguments)
