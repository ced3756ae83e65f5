"""The public names, and how they look to a type checker and to a bare interpreter."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import django_hookflow
from django_hookflow import exceptions, testing

ROOT = Path(__file__).parents[1]


def test_the_names_are_there():
    for name in django_hookflow.__all__:
        assert getattr(django_hookflow, name) is not None
    assert set(exceptions.__all__) == {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and value.__module__ == exceptions.__name__
    }


def test_the_names_of_the_test_kit_are_there():
    assert set(testing.__all__) == {"Hookflow", "HookflowMixin", "HookflowTestError"}
    for name in testing.__all__:
        assert getattr(testing, name).__name__ == name


def test_sync_and_async_methods_of_the_test_kit_take_the_same():
    kit = testing.Hookflow
    for name in ("run", "trigger", "advance", "drain", "answer"):
        twin = getattr(kit, f"a{name}")
        assert inspect.iscoroutinefunction(twin)
        assert inspect.signature(twin) == inspect.signature(getattr(kit, name))


@pytest.mark.parametrize("name", exceptions.__all__)
def test_every_error_is_one_of_ours_and_drawn_in_the_tree(name):
    assert issubclass(getattr(exceptions, name), exceptions.HookflowError)
    assert name in (exceptions.__doc__ or "")


def test_importing_the_package_needs_no_settings_and_touches_no_models():
    code = (
        "import sys, django_hookflow\n"
        "assert 'django_hookflow.models' not in sys.modules\n"
        "assert 'django_qstash' not in sys.modules\n"
        "from django.conf import settings\n"
        "assert not settings.configured"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": ""})


def test_two_workflows_of_one_name_are_refused():
    make = "from django_hookflow import workflow\n@workflow(workflow_id='twice')\ndef {}(ctx): ..."
    code = "\n".join(make.format(name) for name in ("one", "two"))
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "WorkflowDefinitionError: two workflows are called 'twice'" in done.stderr


DEFINITIONS = {
    "colour async": "@workflow\nasync def w(ctx: SyncWorkflowContext): ...",
    "colour sync": "@workflow\ndef w(ctx: WorkflowContext[dict]): ...",
    "arguments": "@workflow\ndef w(ctx, more): ...",
    "generator": "@workflow\ndef w(ctx): yield 1",
    "class": "@workflow\nclass w: ...",
    "empty id": "@workflow(workflow_id='')\ndef w(ctx): ...",
    "long id": "@workflow(workflow_id='x' * 256)\ndef w(ctx): ...",
    "retry": "@workflow(retry=3)\ndef w(ctx): ...",
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_wrong_definitions_fail_at_import(name):
    names = {
        "workflow": django_hookflow.workflow,
        "WorkflowContext": django_hookflow.WorkflowContext,
        "SyncWorkflowContext": django_hookflow.SyncWorkflowContext,
        "__name__": "tests.definitions",
    }
    with pytest.raises(exceptions.WorkflowDefinitionError):
        exec(DEFINITIONS[name], names)  # the table above, nothing else


def test_users_code_is_typed_as_it_should_be():
    pytest.importorskip("mypy", reason="mypy is in the lint group")
    command = [sys.executable, "-m", "mypy", "--strict", "tests/typing/api.py"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
