"""The rooms stand: import contracts hold and break when violated, imports are where they belong."""

import ast
import io
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "django_hookflow"

LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint_imports(source: Path) -> subprocess.CompletedProcess[str]:
    """Check the package in ``source`` by the project's contracts, in a process of its own."""
    # The current folder comes first on the path, before the installed package.
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache", "--no-logo"],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    leave_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "django_hookflow", ignore=leave_out)
    return tmp_path


def test_import_contracts_hold(copy: Path) -> None:
    result = lint_imports(copy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core/_violation.py", "import django_hookflow.journals.base", "Imports point"),
        ("journals/_violation.py", "import django_hookflow.transports.base", "Imports point"),
        ("engine/_violation.py", "import django_hookflow.conf", "Imports point"),
        ("roomless.py", "", "Imports point"),
        ("core/_violation.py", "from django.utils import timezone", "The core decides"),
        ("core/_violation.py", "import asyncio", "The core decides"),
        ("core/_violation.py", "def f():\n    import threading", "The core decides"),
        ("engine/_violation.py", "from django.db import connection", "The engine knows"),
        ("engine/_violation.py", "import qstash", "The engine knows"),
        ("engine/_violation.py", "import django_hookflow.models", "The engine knows"),
        ("devserver/_violation.py", "import django.conf", "The local QStash server"),
        ("devserver/_violation.py", "import django_hookflow.models", "The local QStash server"),
    ],
)
def test_an_import_contract_breaks_when_violated(
    copy: Path, module: str, line: str, contract: str
) -> None:
    (copy / "django_hookflow" / module).write_text(line + "\n")
    result = lint_imports(copy)
    assert result.returncode == 1, result.stdout + result.stderr
    broken = [shown for shown in result.stdout.splitlines() if " BROKEN" in shown]
    assert any(shown.startswith(contract) for shown in broken), result.stdout


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts)


def comments(text: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {
        token.start[0]: token.string.lstrip("# ")
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def inner_imports(tree: ast.AST) -> Iterator[ast.stmt]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    found = {
        node.lineno: node
        for function in ast.walk(tree)
        if isinstance(function, functions)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    yield from found.values()


def unexplained(text: str) -> list[int]:
    """Lines that import inside a function with no reason on the line or on the one above it."""
    notes = comments(text)
    return [
        node.lineno
        for node in inner_imports(ast.parse(text))
        if not any(
            note and not note.startswith(("noqa", "type: ignore", "pragma"))
            for note in (notes.get(node.lineno, ""), notes.get(node.lineno - 1, ""))
        )
    ]


def test_imports_inside_functions_have_a_reason_beside_them() -> None:
    bad = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in modules()
        for line in unexplained(path.read_text(encoding="utf-8"))
    ]
    assert bad == []


def test_an_import_inside_a_function_without_a_reason_is_found() -> None:
    assert unexplained("def f():\n    import os\n") == [2]
    assert unexplained("def f():\n    import os  # noqa: PLC0415\n") == [2]
    assert unexplained("async def f():\n    import os  # heavy, and rarely needed\n") == []
    assert unexplained("def f():\n    # Heavy, and rarely needed.\n    import os\n") == []
    assert unexplained("import os\n") == []


def test_exceptions_take_only_one_name_from_django() -> None:
    tree = ast.parse((PACKAGE / "exceptions.py").read_text(encoding="utf-8"))
    taken = [
        (node.module, [name.name for name in node.names])
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        if str(node.module).split(".")[0] not in sys.stdlib_module_names
    ]
    plain = [n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names]
    assert taken == [("django.core.exceptions", ["ImproperlyConfigured"])]
    assert [name for name in plain if name.split(".")[0] not in sys.stdlib_module_names] == []


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_the_top_level_holds_only_what_belongs_there() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    top = {path.split("/")[0] for path in listed}
    allowed = {"pyproject.toml", "README.md", "src", "tests", "example_asgi", "docs"}
    allowed |= {"LICENSE", "uv.lock"}
    assert {name for name in top if not name.startswith(".")} <= allowed


def test_the_lock_names_no_index_but_the_public_one() -> None:
    lock = (ROOT / "uv.lock").read_text(encoding="utf-8")
    addresses = {word.split("/")[2] for word in lock.replace('"', " ").split() if "://" in word}
    assert addresses == {"pypi.org", "files.pythonhosted.org"}
