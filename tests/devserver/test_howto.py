"""The pages about the local QStash are true: their tests pass, their JavaScript runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from django_hookflow.devserver.config import DEFAULT_CURRENT_KEY, DEFAULT_NEXT_KEY, DEFAULT_TOKEN
from django_hookflow.devserver.server import DevServer
from tests.devserver.conftest import Destination

DOCS = Path(__file__).resolve().parents[2] / "docs" / "howto"
NODE_MODULES = Path(os.environ.get("HOOKFLOW_TEST_NODE_MODULES", "node_modules"))


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_the_tests_of_the_page_pass_in_a_project_without_django(tmp_path: Path) -> None:
    for block in blocks("local-qstash-tests.md", "python"):
        named = re.match(r"# (\w+\.py)\n", block)
        if named:
            (tmp_path / named[1]).write_text(block)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:django",
         "-p", "no:django_hookflow", str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        env={n: v for n, v in os.environ.items() if not n.startswith(("DJANGO", "PYTEST"))},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 passed" in ran.stdout


def test_the_javascript_of_the_page_runs(tmp_path: Path, destination: Destination) -> None:
    node = shutil.which("node")
    if node is None or not (NODE_MODULES / "@upstash" / "qstash").is_dir():
        pytest.skip(
            "NOT run: the JavaScript SDK. It needs node, and HOOKFLOW_TEST_NODE_MODULES naming a "
            "folder into which `npm install @upstash/qstash` has put it"
        )
    (tmp_path / "node_modules").symlink_to(NODE_MODULES.resolve())
    (block,) = blocks("local-qstash-elsewhere.md", "javascript")
    script = tmp_path / "orders.mjs"
    script.write_text(block)
    with DevServer() as server:
        ran = subprocess.run(
            [node, str(script), destination.url],
            capture_output=True, text=True, check=False, timeout=60,
            env=os.environ | server.environment,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        said = json.loads(ran.stdout)
        assert said["label"] == "orders"
        assert "CREATED" in said["states"]
        server.wait_for(lambda: len(destination.arrivals) == 3)
        bodies = {arrival.body for arrival in destination.arrivals}
        assert bodies == {b'{"order":41}', b'{"mail":1}', b'{"to":"all"}'}
        (schedule,) = server._service.schedules.all()
        assert schedule.is_paused


@pytest.mark.parametrize("page", ["local-qstash-elsewhere.md", "local-qstash-tests.md"])
def test_the_secrets_in_the_pages_are_those_of_the_server(page: str) -> None:
    text = (DOCS / page).read_text()
    assert set(re.findall(r"\bsig_\w+", text)) == {DEFAULT_CURRENT_KEY, DEFAULT_NEXT_KEY}
    assert set(re.findall(r"\beyJ[\w=]+", text)) == {DEFAULT_TOKEN}


def test_the_lines_for_ci_start_a_server(tmp_path: Path) -> None:
    (block,) = blocks("local-qstash-tests.md", "yaml")
    script = re.search(r"- run: \|\n((?:    .*\n)+)", block)
    assert script is not None
    # On a free port, as 8080 may be somebody's.
    lines = script[1].replace("devserver --time", "devserver --port 0 --time")
    lines = lines.replace("python -m", f"{sys.executable} -m") + "\ncat qstash.log\nkill $!\n"
    ran = subprocess.run(["sh", "-e", "-c", lines], cwd=tmp_path, capture_output=True, text=True,
                         check=False, timeout=60)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "running at http://127.0.0.1:" in ran.stdout
