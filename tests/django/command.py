"""Rows for the tests of the command, and calling it."""

import json
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

from django.core.management import call_command
from django.utils import timezone

from django_hookflow.core.identifiers import uuid7
from django_hookflow.models import WorkflowRun, WorkflowStep

MEMORY = "django_hookflow.transports.memory.MemoryTransport"


def hookflow(*arguments: str, **options: Any) -> str:
    """What ``manage.py hookflow …`` prints."""
    out = StringIO()
    call_command("hookflow", *arguments, stdout=out, **options)
    return out.getvalue()


def hookflow_json(*arguments: str) -> Any:
    return json.loads(hookflow(*arguments, "--json"))


def ago(seconds: float) -> datetime:
    return timezone.now() - timedelta(seconds=seconds)


class Rows:
    """Makes runs, each newer than the one before."""

    def __init__(self) -> None:
        self.made = 0

    def run(self, run_id: str, status: str = "completed", **columns: Any) -> WorkflowRun:
        self.made += 1
        columns = {
            "workflow_id": "shop.workflows.process_order",
            "created_at": ago(60),
            "data": {"order_id": "12345"},
            **columns,
        }
        id = uuid7(1_700_000_000_000 + self.made, bytes(10))
        return WorkflowRun.objects.create(id=id, run_id=run_id, status=status, **columns)

    def step(
        self, run: WorkflowRun, step_id: str, status: str = "completed", **columns: Any
    ) -> WorkflowStep:
        columns = {"kind": "run", "occurrence": 1, **columns}
        key = f"{step_id}#{columns['occurrence']}"
        return WorkflowStep.objects.create(
            workflow_run=run, key=key, step_id=step_id, status=status, **columns
        )
