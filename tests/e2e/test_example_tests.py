"""The example's own tests pass: they are what users copy."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "example_asgi"
OURS = ("DJANGO_", "QSTASH_", "HOOKFLOW_", "ORDERS_")

pytestmark = pytest.mark.slow


def test_the_examples_tests_pass_without_qstash(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    # As `manage.py test` does, but in this very environment.
    ended = subprocess.run(
        [sys.executable, "-m", "django", "test", "orders", "wholesale"],
        cwd=EXAMPLE,
        env={
            **environment,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "ORDERS_VAR": str(tmp_path),
            "ORDERS_LOG_LEVEL": "ERROR",
            # Nobody listens there: what would be sent is seen to fail.
            "QSTASH_URL": "http://127.0.0.1:9",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    ran = re.search(r"^Ran (\d+) tests", ended.stderr, re.MULTILINE)
    assert ran is not None
    assert int(ran[1]) >= 17
