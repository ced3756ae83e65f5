"""The documentation is true: its code runs, its tables are the code's, its links lead somewhere.

Longer than other modules, because a claim of every page is checked here.
"""

import argparse
import ast
import inspect
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import django
import django_qstash.callbacks
import django_qstash.settings
import pytest
import qstash
from asgiref.sync import async_to_sync
from django.core.management import CommandParser
from django.http import HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import include, path
from django.utils import timezone

import django_hookflow
from django_hookflow import answering, checks, exceptions, views, workflow
from django_hookflow.conf import SETTINGS, Setting
from django_hookflow.devserver.__main__ import _parser as devserver_parser
from django_hookflow.engine import driver
from django_hookflow.engine.context import BaseContext
from django_hookflow.engine.steps import Steps
from django_hookflow.engine.sync import SyncSteps
from django_hookflow.management.commands.hookflow import SUBCOMMANDS
from django_hookflow.models import WorkflowRun, WorkflowStep
from django_hookflow.registry import registry
from django_hookflow.workflow import Workflow
from tests.django.harness import hookflow_settings, messages, post
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in FENCE.findall(page.read_text()) if found == language]


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return FENCE.sub("", page.read_text())


def section(page: str, title: str) -> str:
    """What stands under a heading, up to the next of any level."""
    parts = re.split(r"^#+ (.+)$", (DOCS / page).read_text(), flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert title in found, f"docs/{page} has no section {title!r}"
    return found[title]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row but headings and rulers."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    bodies = [line for line in lines if not set(line) <= set("|- ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in bodies]


# --- the code blocks of each page run, in their order, and so does every workflow in them


@dataclass(frozen=True, kw_only=True)
class Ends:
    """How a workflow of the docs is started here and what comes of it.

    ``data`` is ``None`` where the page itself starts it.
    """

    data: Any
    result: Any = None
    fails: str = ""


ORDER = {"order_id": "12345"}
FULFILLED = ["fulfilled", "12345"]

WORKFLOWS: dict[str, dict[str, Ends]] = {
    "README.md": {
        "process_order": Ends(data=None, result={"status": "completed", "result": FULFILLED}),
        "process_order_async": Ends(data=None, result=FULFILLED),
    },
    "docs/index.md": {"process_order": Ends(data=None, result=FULFILLED)},
    "docs/tutorial.md": {
        "process_order": Ends(data={"order_id": "A-1"}, result="receipt for A-1 (ch_19.90)")
    },
    "docs/explanation/suspension.md": {
        "careful": Ends(data={}, result="charged"),
        "foreign": Ends(data={}, fails="WorkflowDefinitionError"),
    },
    # Its tests are run by tests/django/test_testing_plugin.py.
    "docs/howto/callbacks.md": {
        "approve_order": Ends(data=ORDER, result="nobody approved 12345"),
        "remind_until_approved": Ends(data=ORDER, result="nobody approved 12345"),
    },
    # As are theirs.
    "docs/howto/events.md": {
        "send_order": Ends(data=ORDER, result="parcel of 12345 is still here"),
        "collect": Ends(data={"parts": 2}, result=[]),
    },
    "docs/howto/child-workflows.md": {
        "ship_parcel": Ends(data={"number": 7, "kilos": 5}, result="parcel 7"),
        "ship_order": Ends(data={"kilos": 5}, result="parcel 1"),
        "ship_order (heavy)": Ends(data={"kilos": 50}, result="by lorry"),
        "ship_all": Ends(data={"parcels": 3}, result=["parcel 0", "parcel 1", "parcel 2"]),
        "order_and_forget": Ends(data={}, result=re.compile(r".+\.parcel")),
    },
    "docs/howto/compensation.md": {"place_order": Ends(data=ORDER, fails="ValueError")},
    "docs/howto/many-items.md": {
        "resize_all": Ends(data={"names": ["a", "b"]}, result=["small-a", "small-b"]),
        "resize_most": Ends(data={"names": ["a", "b.txt"]}, result=["small-a", None]),
        "fulfil": Ends(data=ORDER, result=["parcel of 12345", "receipt for 12345"]),
    },
    "docs/howto/changing-workflows.md": {
        "fulfil_order": Ends(data=ORDER, result="packed"),
        "fulfil_order_2": Ends(data=ORDER, result="reserved 12345"),
    },
    "docs/howto/controlling-runs.md": {
        "process_order": Ends(data=None, result="parcel of 12345"),
    },
    "docs/howto/finding-runs.md": {"process_order": Ends(data=None, result="2 packed")},
    "docs/howto/http-calls.md": {
        "charge_order": Ends(data=ORDER, result="ch_1"),
        "charge_or_decline": Ends(data=ORDER, result="declined"),
    },
    "docs/howto/parallel-steps.md": {
        "fulfil": Ends(data=ORDER, result=["parcel of 12345", "receipt for 12345"]),
        "resize_all": Ends(
            data={"names": ["a", "b", "c", "d"]},
            result=["a.small", "b.small", "c.small", "d.small"],
        ),
        "find_stock": Ends(data=ORDER, result=re.compile("(north|south) has 12345")),
        "impatient": Ends(data=ORDER, result="north has 12345"),
        "fulfil_in_group": Ends(data=ORDER, result="parcel of 12345"),
    },
    "docs/howto/retries.md": {
        "order": Ends(data=ORDER, result="reserved 12345"),
        "pay": Ends(data={"card": "stolen"}, result=None),
        "pay (busy)": Ends(data={"card": "busy"}, result="charged busy"),
        "nightly": Ends(data={}, result=re.compile(r"report of \d{4}-\d\d-\d\d")),
        "checkout": Ends(data={"cents": 1990}, result="ch_1990"),
    },
    # Its tests are run by tests/django/test_testing_plugin.py.
    "docs/howto/testing.md": {"sign_up": Ends(data={"name": "ada"}, result="reminded ada")},
    "docs/howto/transactions.md": {
        "sign_up": Ends(data={"name": "linus"}, result="welcome, linus"),
        "refused": Ends(data={"pk": 1}, fails="WorkflowDefinitionError"),
        "greet": Ends(data=None, result=re.compile("welcome, (ada|grace)")),
        "remind": Ends(data={"customer": "ada"}, result="dear ada"),
    },
}

NEEDS_311 = {"fulfil_in_group"}


def is_settings(block: str) -> bool:
    return bool(re.match(r"# (\w+/)?settings\.py", block))


def is_urlconf(block: str) -> bool:
    return bool(re.match(r"# (\w+/)?urls\.py", block))


def is_test_module(block: str) -> bool:
    """One that pytest runs: tests/devserver/test_howto.py."""
    return bool(re.match(r"# (conftest|test_\w+)\.py", block))


def code_blocks(page: Path) -> list[str]:
    """What runs as the code of a project's app; settings and URLconfs have tests of their own."""
    others = (is_settings, is_urlconf, is_test_module)
    found = [b for b in blocks(page, "python") if not any(is_other(b) for is_other in others)]
    if sys.version_info < (3, 11):
        found = [block for block in found if "TaskGroup" not in block]
    return found


@pytest.fixture
def api() -> Iterator[str]:
    """Stands for whatever the docs call: takes every charge, declines at /declined."""

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b'{"id": "ch_1"}'
            self.send_response(402 if self.path == "/declined" else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def module(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[types.ModuleType]:
    """The module that a page's blocks are the text of; a tutorial's own imports find it."""
    made = types.ModuleType(f"docs_{re.sub(r'[^a-z]', '_', request.node.name)}")
    made.__dict__.update(
        validate_order=lambda order_id: order_id,
        fulfill_order=lambda order_id, *seen: ["fulfilled", order_id],
    )
    for name in (made.__name__, "orders.workflows"):
        monkeypatch.setitem(sys.modules, name, made)
    monkeypatch.setitem(sys.modules, "orders", types.ModuleType("orders"))
    yield made
    for value in vars(made).values():
        if isinstance(value, qstash.QStash):  # it has no way of its own to close its connections
            value.http._client.close()


def execute(block: str, module: types.ModuleType, api: str) -> None:
    text = re.sub(r"https://api\.(stripe|example)\.com(/\.\.\.)?", api, block)
    code = compile(text, module.__name__, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    awaited = eval(code, module.__dict__)
    if code.co_flags & inspect.CO_COROUTINE:

        async def finish() -> None:
            await awaited

        async_to_sync(finish)()


def pass_time() -> bool:
    """Let what sleeps fall due; whether anything did."""
    past = timezone.now() - timedelta(seconds=1)
    WorkflowStep.objects.filter(status="pending").update(wake_at=past)
    # A run that waits for another one is not due: the other's end wakes it.
    return bool(WorkflowRun.objects.active().filter(due_at__isnull=False).update(due_at=past))


def finish_all(client: Client) -> None:
    for _ in range(20):
        waiting = messages()
        if not waiting and not pass_time():
            return
        for message in waiting:
            pass_time()
            answer = post(client, message.body.encode())
            assert answer.status_code == 200, answer.content
    raise AssertionError("runs without end")


PAGES_WITH_CODE = [page for page in PAGES if code_blocks(page)]


@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=name_of)
@pytest.mark.django_db(transaction=True)
def test_the_code_of_a_page_runs_and_its_workflows_finish(
    page: Path, module: types.ModuleType, api: str
) -> None:
    with hookflow_settings():
        messages()
        try:
            for block in code_blocks(page):
                execute(block, module, api)
            run_workflows(page, module)
        finally:
            for known in list(registry):
                if known.fn.__module__ == module.__name__:
                    registry.remove(known.workflow_id, "")  # type: ignore[attr-defined]
            messages()


def run_workflows(page: Path, module: types.ModuleType) -> None:
    found = {name for name, value in vars(module).items() if isinstance(value, Workflow)}
    expected = WORKFLOWS.get(name_of(page), {})
    absent = NEEDS_311 if sys.version_info < (3, 11) else set()
    named = {name.partition(" ")[0] for name in expected}
    assert found == named - absent, "every workflow is run here"
    started: dict[str, list[str]] = {}
    for name, ends in expected.items():
        if name in absent:
            continue
        flow = vars(module)[name.partition(" ")[0]]
        if ends.data is None:
            started[name] = list(flow.runs.values_list("run_id", flat=True))
            assert started[name], f"{name} is to be triggered by the page itself"
        else:
            started[name] = [flow.trigger(data=ends.data)]
    finish_all(Client())
    for name, run_ids in started.items():
        for run_id in run_ids:
            check_end(WorkflowRun.objects.get(run_id=run_id), expected[name])


def check_end(run: Any, ends: Ends) -> None:
    if ends.fails:
        assert run.status == "failed", (run.status, run.result)
        assert run.error["type"].rpartition(".")[2] == ends.fails
        return
    assert run.status == "completed", (run.workflow_id, run.error, run.blocked)
    if isinstance(ends.result, re.Pattern):
        assert ends.result.fullmatch(run.result), run.result
    else:
        assert run.result == ends.result


def test_no_page_is_forgotten() -> None:
    assert set(WORKFLOWS) <= {name_of(page) for page in PAGES_WITH_CODE}


# Of django-qstash, which reads some where it needs them.
FOREIGN = set(django_qstash.settings.DEFAULTS) | set(
    re.findall(r"DJANGO_QSTASH_[A-Z_]+", inspect.getsource(django_qstash.callbacks))
)

SETTINGS_BLOCKS = [
    pytest.param(block, id=f"{name_of(page)}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks(page, "python"))
    if is_settings(block)
]


@pytest.mark.parametrize("block", SETTINGS_BLOCKS)
def test_settings_in_the_docs_are_settings_that_are_accepted(block: str) -> None:
    known = {setting.name: setting for setting in SETTINGS}
    module: dict[str, Any] = {"INSTALLED_APPS": [], "DATABASES": {"default": {}}}
    exec(block, module)
    assert "django_hookflow" in module["INSTALLED_APPS"] or "INSTALLED_APPS" not in block
    for name in re.findall(r"^([A-Z_]+) =", block, flags=re.MULTILINE):
        setting = known.get(name)
        if setting is None:
            foreign = hasattr(django.conf.global_settings, name) or name in FOREIGN
            assert foreign, f"{name} is no setting"
        elif module[name] is not None:
            setting.parse(module[name])


URLCONFS = [
    pytest.param(block, id=name_of(page))
    for page in PAGES
    for block in blocks(page, "python")
    if is_urlconf(block)
]


@pytest.mark.parametrize("block", URLCONFS)
def test_urlconfs_in_the_docs_lead_to_the_webhook(
    block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = types.ModuleType("orders")
    orders.views = types.SimpleNamespace(place=HttpResponse, status=HttpResponse)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "orders", orders)
    urlconf = types.ModuleType("docs_urls")
    urlconf.__dict__.update(path=path, include=include)
    # The README shows the one line that goes into the list.
    if "urlpatterns" not in block:
        block = re.sub(r"^path.*$", r"urlpatterns = [\g<0>]", block, flags=re.MULTILINE)
    exec(block, urlconf.__dict__)
    with override_settings(ROOT_URLCONF=urlconf):
        assert not [found for found in checks.check_settings() if found.id.endswith("W002")]


# --- tables and signatures


def written_default(setting: Setting[Any]) -> str:
    value = setting.default
    if setting.required:
        return "required"
    if value is None:
        return "unset"
    if isinstance(value, timedelta):
        return f"`timedelta(days={value.days})`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return '`"' + value + '"`' if isinstance(value, str) else f"`{short(value)}`"


def short(value: Any) -> str:
    """A policy without the arguments that it has anyway."""
    return "RetryPolicy()" if value == django_hookflow.RetryPolicy() else repr(value)


def test_the_page_of_settings_is_the_table_of_settings() -> None:
    expected = "\n\n".join(
        f"`{setting.name}` ({setting.kind}, {written_default(setting)})\n: {setting.help}"
        for setting in SETTINGS
    )
    page = (DOCS / "reference/settings.md").read_text()
    assert expected in page, f"docs/reference/settings.md wants this list:\n{expected}"


def test_settings_named_anywhere_in_the_docs_exist() -> None:
    known = {setting.name for setting in SETTINGS} | {setting.fallback for setting in SETTINGS}
    known |= FOREIGN | {"QSTASH_DEV"}  # the JavaScript SDK's
    ours = re.compile(r"\b(?:DJANGO_HOOKFLOW|DJANGO_QSTASH|QSTASH)_[A-Z_]+\b")
    for page in PAGES:
        named = set(ours.findall(page.read_text()))
        assert named <= known, f"{name_of(page)}: {named - known}"


def test_the_page_of_checks_has_every_check() -> None:
    table = rows((DOCS / "reference/checks.md").read_text())
    written = [cells[0].strip("`") for cells in table if cells[0] != "id"]
    listed = re.compile(r"^(django_hookflow\.[EW]\d{3}) ", re.MULTILINE)
    used = {f"{checks.TAG}.{n}" for n in re.findall(r"[EW]\d{3}\b", inspect.getsource(checks))}
    assert written == listed.findall(checks.__doc__ or "")
    assert set(written) == used


def test_the_page_of_errors_has_every_error() -> None:
    page = (DOCS / "reference/errors.md").read_text()
    tree = blocks(DOCS / "reference/errors.md", "text")[0]
    in_code = (exceptions.__doc__ or "").partition("::\n")[2].partition("\nThis module")[0]
    assert tree.strip() == textwrap.dedent(in_code).strip()
    named = [cells[0].strip("`") for cells in rows(page) if cells[0] != "error"]
    assert sorted(named) == sorted(exceptions.__all__)


@pytest.mark.parametrize("name", exceptions.__all__)
def test_the_tree_of_errors_is_that_of_the_classes(name: str) -> None:
    above: list[str] = []
    for line in blocks(DOCS / "reference/errors.md", "text")[0].splitlines():
        if (match := re.match(r"^([│├└─ ]*)([A-Z]\w+)  ?", line + "  ")) and "(" not in match[0]:
            del above[len(match[1]) // 4 :]
            if match[2] == name and above:
                assert issubclass(getattr(exceptions, name), getattr(exceptions, above[-1]))
                assert getattr(exceptions, name).__bases__[0].__name__ == above[-1]
            above.append(match[2])
            if match[2] == name:
                return
    raise AssertionError(f"{name} is not in the tree")


def parameters(fn: Callable[..., Any]) -> str:
    """``(a, b=1)`` as the docs write it: without self and annotations."""
    signature = inspect.signature(fn)
    kept = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
        if parameter.name != "self"
    ]
    text = str(inspect.Signature(kept))
    return text.replace("<class 'Exception'>", "Exception").replace(
        "datetime.timedelta", "timedelta"
    )


SIGNATURES: dict[str, Callable[..., Any]] = {
    **{name: fn for name, fn in vars(Steps).items() if inspect.isfunction(fn) and name[0] != "_"},
    "trigger": Workflow.trigger,
    "gather": SyncSteps.gather,
    "current_step": django_hookflow.current_step,
    "RetryPolicy": django_hookflow.RetryPolicy,
    "get_result": WorkflowRun.get_result,
    "cancel": WorkflowRun.cancel,
    "pause": WorkflowRun.pause,
    "resume": WorkflowRun.resume,
    "fork": WorkflowRun.fork,
    "retry": WorkflowRun.retry,
    "send_event": WorkflowRun.send_event,
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_written_as_they_are(name: str) -> None:
    written = FENCE.search(section("reference/steps.md", name))
    assert written is not None
    # A long one stands on several lines.
    assert "".join(written[2].split()) == "".join((name + parameters(SIGNATURES[name])).split())


def test_the_decorator_is_written_as_it_is() -> None:
    written = FENCE.search(section("reference/steps.md", "workflow"))
    assert written is not None
    options = parameters(workflow).replace("(fn=None, /, *, ", "(*, ")
    assert written[2].strip() == "workflow" + options


@pytest.mark.parametrize("name", [n for n in vars(Steps) if n in SIGNATURES])
def test_steps_have_one_signature_in_both_colours(name: str) -> None:
    assert parameters(getattr(Steps, name)) == parameters(getattr(SyncSteps, name))


def test_the_context_is_written_whole() -> None:
    text = section("reference/steps.md", "The context")
    public = set(re.findall(r"self\.([a-z]\w+)(?::| =)", inspect.getsource(BaseContext)))
    methods = [name for name, fn in vars(BaseContext).items() if inspect.isfunction(fn)]
    public |= {name for name in methods if name[0] != "_"}
    assert set(re.findall(r"`ctx\.(\w+)", text)) == public | {"step"}


def test_fields_in_the_docs_are_fields_of_the_models() -> None:
    text = section("reference/steps.md", "Runs")
    for cells in rows(text):
        for name in re.findall(r"`(\w+)`", cells[0]):
            assert hasattr(WorkflowRun, name), name
    listed = text.partition("`WorkflowStep`s:")[2].partition("|")[0]
    for name in re.findall(r"`(\w+)`", listed):
        assert hasattr(WorkflowStep, name), name


def test_the_rooms_in_the_docs_are_those_of_the_import_contracts() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    layers = re.findall(r"^layers = \[\n(.*?)^\]", pyproject, re.MULTILINE | re.DOTALL)[0]
    in_contracts = [set(re.findall(r"\w+", line)) for line in layers.splitlines()]
    table = rows(section("explanation/architecture.md", "Rooms"))
    in_docs: dict[str, set[str]] = {}
    for level, modules, *_ in table[1:]:
        in_docs.setdefault(level, set()).update(re.findall(r"`(\w+)`", modules))
    assert list(in_docs.values()) == in_contracts


# --- commands


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Long options but for help and those of Django, which are suppressed."""
    return {
        option
        for action in parser._actions
        if action.help != argparse.SUPPRESS
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }


def parser_of(subcommand: str) -> argparse.ArgumentParser:
    parser = CommandParser(prog=subcommand)
    SUBCOMMANDS[subcommand].add_arguments(parser)
    return parser


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_a_subcommand_is_written_with_its_options(name: str) -> None:
    table = rows(section("reference/commands.md", f"hookflow {name}"))
    written = {cells[0].strip("`") for cells in table if cells[0] != "option"}
    assert written == options_of(parser_of(name))


def test_there_is_no_further_subcommand_in_the_page() -> None:
    page = (DOCS / "reference/commands.md").read_text()
    assert re.findall(r"^## hookflow (\w+)", page, flags=re.MULTILINE) == list(SUBCOMMANDS)


def test_the_devserver_is_written_with_its_options() -> None:
    table = rows(section("reference/commands.md", "python -m django_hookflow.devserver"))
    written = {cells[0].strip("`") for cells in table if cells[0] != "option"}
    assert written == options_of(devserver_parser())


HOOKFLOW = r"(python3? manage\.py |manage\.py )?hookflow \w"
DEVSERVER = r"python -m django_hookflow\.devserver"


def command_lines() -> Iterator[Any]:
    for page in PAGES:
        lines = "".join([*blocks(page, ""), *blocks(page, "console")]).splitlines()
        spans = re.findall(r"`([^`\n]+)`", prose(page))
        for line in (*lines, *spans):
            words = line.removeprefix("$ ")
            if re.match(f"{HOOKFLOW}|{DEVSERVER}", words):
                yield pytest.param(words, id=f"{name_of(page)}: {words}")


#: Named in the docs as what comes later.
LATER = {"schedules", "verify"}


@pytest.mark.parametrize("line", list(command_lines()))
def test_commands_in_the_docs_are_accepted(line: str) -> None:
    words = shlex.split(line, comments=True)
    if "devserver" in line:
        parser, arguments = devserver_parser(), words[3:]
    else:
        name, *arguments = words[words.index("hookflow") + 1 :]
        if name in LATER:
            assert name not in SUBCOMMANDS, f"{name} is there now: say so in the docs"
            return
        parser = parser_of(name)
        # A span may name a subcommand only, as one names a function.
        if not arguments and name in {"show", "trigger", "cancel", "retry", "prune"}:
            return
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            parser.parse_args(arguments)
    except (SystemExit, Exception) as refused:
        raise AssertionError(f"{line}: {told.getvalue() or refused}") from None


# --- the webhook's answers


def answers() -> dict[str, str]:
    return {cells[0]: cells[1] for cells in rows((DOCS / "reference/webhook.md").read_text())}


def written_answer(status: int, retry_after: int | None = None) -> str:
    if status == 489:
        return "489, `Upstash-NonRetryable-Error: true`"
    return str(status) if retry_after is None else f"{status}, `Retry-After: {retry_after}`"


@pytest.mark.parametrize(
    ("finding", "answer"),
    [
        ("body over 16 KiB", views.TOO_LARGE),
        ("signature missing or wrong", views.UNSIGNED),
        ("signing keys cannot be had", views.NO_KEYS),
        ("signed, but of a newer version", views.NEWER),
        ("signed, but no message of this library", views.NOT_OURS),
        ("this process was told to end", views.ENDING),
        ("database not to be had", driver.UNAVAILABLE),
        ("unknown run", driver.GONE),
        ("workflow not registered", driver.DEPLOYING),
        ("token that this project has not signed", answering.FORGED),
        ("expired", answering.EXPIRED),
        ("neither JSON nor", answering.NO_CONTENT_TYPE_OF_OURS),
        ("larger than", answering.TOO_LARGE),
        ("not JSON", answering.NOT_JSON),
        ("database not there", driver.UNAVAILABLE),
        ("answered already", answering.LATE),
        ("stored", answering.ACCEPTED),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_table_of_answers_is_that_of_the_code(finding: str, answer: driver.Answer) -> None:
    (written,) = [text for name, text in answers().items() if name.startswith(finding)]
    assert written.startswith(written_answer(answer.status, answer.retry_after))


def test_what_is_not_post_is_answered_as_written() -> None:
    response = async_to_sync(views.webhook)(RequestFactory().get("/hookflow/"))
    assert str(response.status_code) == answers()["not POST"]


# --- links


def slug(heading: str) -> str:
    """A heading's anchor, as GitHub and MyST make it."""
    plain = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower())
    return plain.strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#{1,3} (.+)$", prose(page), flags=re.MULTILINE)
    targets = re.findall(r"^\(([\w-]+)\)=$", prose(page), flags=re.MULTILINE)
    return {*map(slug, headings), *targets}


def links() -> Iterator[Any]:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
            if not re.match(r"https?:|mailto:", target):
                yield pytest.param(page, target, id=f"{name_of(page)}: {target}")


@pytest.mark.parametrize(("page", "target"), list(links()))
def test_links_lead_somewhere(page: Path, target: str) -> None:
    file, _, anchor = target.partition("#")
    found = (page.parent / file).resolve() if file else page
    assert found.is_file(), f"{name_of(page)} links to {target}"
    assert not anchor or anchor in anchors(found), f"{name_of(page)} links to {target}"


def test_every_page_is_in_one_toctree() -> None:
    pages = [page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")]
    trees = TOCTREE.findall((DOCS / "index.md").read_text())
    listed = [line for tree in trees for line in tree.splitlines() if line and line[0] != ":"]
    assert sorted([*listed, "index"]) == sorted(pages)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_path_of_a_machine_is_in_the_docs(page: Path) -> None:
    assert not re.search(r"/(home|Users|root|work|tmp)/", page.read_text())


# --- the tutorial, as its reader does it


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.load(response)


def make_project(folder: Path) -> None:
    """The tutorial's project: what its commands make and its blocks contain."""
    steps = [["startproject", "shop", "."], ["startapp", "orders"]]
    for step in steps:
        subprocess.run([sys.executable, "-m", "django", *step], cwd=folder, check=True)
    for block in blocks(DOCS / "tutorial.md", "python"):
        name = block.partition("\n")[0].removeprefix("# ")
        if name.endswith("settings.py"):
            if django.VERSION < (5, 1):
                block = re.sub(r'    "(transaction_mode|init_command)".*\n', "", block)
            block = (folder / name).read_text() + block
        # Nobody has to wait ten seconds to see that it waits.
        (folder / name).write_text(block.replace("seconds=10", "seconds=3"))


@pytest.mark.slow
def test_the_tutorial_works_as_written(tmp_path: Path) -> None:
    make_project(tmp_path)
    ours = ("DJANGO_", "QSTASH_", "HOOKFLOW_", "PYTHON")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    manage = [sys.executable, "manage.py"]
    lines = "\n".join(blocks(DOCS / "tutorial.md", "console"))
    assert "python manage.py migrate --skip-checks" in lines
    subprocess.run(
        [*manage, "migrate", "--skip-checks", "-v0"], cwd=tmp_path, env=environment, check=True
    )
    port = free_port()
    ports = ["--port", str(port), "--qstash-port", str(free_port())]
    log = tmp_path / "log"
    with log.open("wb") as output:
        dev = subprocess.Popen(
            [*manage, "hookflow", "dev", *ports],
            cwd=tmp_path, env=environment, stdout=output, stderr=output,
        )  # fmt: skip
        try:
            base = f"http://127.0.0.1:{port}"
            wait_until(lambda: b"Ctrl-C ends all" in log.read_bytes(), log)
            for number in range(1, 4):
                run_id = get(f"{base}/orders/A-{number}/place/")["run_id"]
                seen: list[str] = []

                def look(run_id: str = run_id, seen: list[str] = seen) -> str:
                    seen.append(get(f"{base}/runs/{run_id}/")["status"])
                    return seen[-1]

                wait_until(lambda look=look: look() == "completed", log)
                result = get(f"{base}/runs/{run_id}/")["result"]
                assert result == f"receipt for A-{number} (ch_19.90)"
                assert log.read_text().count("charging 19.90") == number
                if "suspended" in seen:
                    break  # else a busy machine kept us from looking while it slept
            assert "suspended" in seen
            for command in ("runs", "show"):
                arguments = [run_id] if command == "show" else []
                shown = subprocess.run(
                    [*manage, "hookflow", command, *arguments],
                    cwd=tmp_path, env=environment, check=True, capture_output=True, text=True,
                )  # fmt: skip
                assert "completed" in shown.stdout
        finally:
            dev.send_signal(signal.SIGINT)
            dev.wait(60)
    assert dev.returncode == 0, log.read_text()


def wait_until(condition: Callable[[], bool], log: Path, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)
