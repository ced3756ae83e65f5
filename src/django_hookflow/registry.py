"""Which workflows this process knows, by id and version."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.module_loading import autodiscover_modules

from django_hookflow.engine.driver import Runnable
from django_hookflow.exceptions import WorkflowDefinitionError

MAX_WORKFLOW_ID = 255


class Registry:
    """Workflows by (id, version)."""

    def __init__(self) -> None:
        self._workflows: dict[tuple[str, str], Runnable] = {}

    def add(self, workflow_id: str, version: str, workflow: Runnable) -> None:
        """Register; a second, different function under one identity is a definition error.

        The same function again (a module imported twice, a reload) takes the old one's place.
        """
        known = self._workflows.get((workflow_id, version))
        if known is not None and _source(known) != _source(workflow):
            raise WorkflowDefinitionError(
                f"two workflows are called {workflow_id!r}: {_source(known)} and "
                f"{_source(workflow)}; give one of them another workflow_id"
            )
        self._workflows[workflow_id, version] = workflow

    def find(self, workflow_id: str, version: str) -> Runnable | None:
        """The workflow that runs of this identity go on with."""
        return self._workflows.get((workflow_id, version))

    def identities(self) -> list[tuple[str, str]]:
        """The (id, version) of each."""
        return list(self._workflows)

    def remove(self, workflow_id: str, version: str) -> None:
        """Forget one; tests that define workflows on the fly clean up with it."""
        self._workflows.pop((workflow_id, version), None)

    def __iter__(self) -> Iterator[Runnable]:
        return iter(self._workflows.values())


def _source(workflow: Runnable) -> str:
    code = getattr(workflow.fn, "__code__", None)
    place = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
    return f"{workflow.fn.__module__}.{workflow.fn.__qualname__}{place}"


#: The workflows of this process.
registry = Registry()


def autodiscover() -> None:
    """Import the module ``workflows`` of every installed app."""
    autodiscover_modules("workflows")
