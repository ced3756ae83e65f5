"""The pytest plugin, as pytest finds it: by its entry point, in projects of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parents[2] / "docs" / "howto"
SETTINGS = """
SECRET_KEY = "only for this test"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django_hookflow"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
TEST = """
from datetime import timedelta

from django_hookflow import workflow


@workflow(workflow_id="plugin.nap")
def nap(ctx):
    ctx.step.sleep("nap", timedelta(days=7))
    return ctx.step.run("wake", int, 5)


def test_nap(hookflow):
    run = hookflow.run(nap)
    assert (run.status, run.result) == ("completed", 5)


async def untested(hookflow):
    pass
"""
OURS = ("DJANGO_", "QSTASH_", "HOOKFLOW_", "PYTEST_", "PYTHON", "COVERAGE")


def run_pytest(folder: Path, *arguments: str, **files: str) -> subprocess.CompletedProcess[str]:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_fixture_is_there_without_any_setting_of_ours(tmp_path: Path) -> None:
    pytest.importorskip("pytest_django")
    done = run_pytest(
        tmp_path, "--ds=its_settings", "-W", "error", its_settings=SETTINGS, test_nap=TEST
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_without_pytest_django_the_fixture_says_what_to_install(tmp_path: Path) -> None:
    test = "def test_it(hookflow): ...\n\ndef test_other(): ..."
    done = run_pytest(tmp_path, "-p", "no:django", test_it=test)
    assert "needs pytest-django: pip install pytest-django" in done.stdout
    assert "1 passed, 1 error" in done.stdout


def test_loading_the_plugin_needs_no_settings_and_touches_no_models(tmp_path: Path) -> None:
    conftest = (
        "import sys\n\n"
        "def pytest_configure(config):\n"
        "    assert 'django_hookflow.pytest_plugin' in sys.modules\n"
        "    assert 'django_hookflow.models' not in sys.modules\n"
        "    assert 'django_hookflow.testing' not in sys.modules\n"
        "    from django.conf import settings\n"
        "    assert not settings.configured\n"
    )
    done = run_pytest(
        tmp_path, "-p", "no:django", "-W", "error", conftest=conftest, test_it="def test_it(): ..."
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("page", "passing"),
    [
        ("testing", 5),
        ("callbacks", 2),
        ("events", 2),
        ("child-workflows", 2),
        ("compensation", 1),
    ],
)
def test_the_tests_of_the_docs_pass(tmp_path: Path, page: str, passing: int) -> None:
    pytest.importorskip("pytest_django")
    blocks = re.findall(
        r"^```python\n# (\S+)\n(.*?)^```$",
        (PAGES / f"{page}.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "__init__.py").touch()
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    settings = SETTINGS.replace('"django_hookflow"', '"django_hookflow", "django.contrib.auth"')
    done = run_pytest(
        tmp_path,
        "--ds=its_settings",
        "-W",
        "error",
        *("-o", "python_files=test_*.py tests.py"),
        its_settings=settings,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{passing} passed" in done.stdout
