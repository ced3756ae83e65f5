"""Durable workflows for Django, woken by QStash.

A workflow is a plain function whose steps' outcomes are recorded in the application's own
database, so that a run survives crashes, deploys and retries and goes on where it stopped.
Importing this package touches no models.
"""

from django_hookflow.core.retry import RetryPolicy
from django_hookflow.engine.callbacks import Callback
from django_hookflow.engine.calls import CallResponse
from django_hookflow.engine.context import SyncWorkflowContext, WorkflowContext
from django_hookflow.engine.place import StepInfo, current_step
from django_hookflow.exceptions import HookflowError, RetryAfter, StepFailed, TerminalError
from django_hookflow.starts import Start
from django_hookflow.workflow import Workflow, workflow

__all__ = [
    "CallResponse",
    "Callback",
    "HookflowError",
    "RetryAfter",
    "RetryPolicy",
    "Start",
    "StepFailed",
    "StepInfo",
    "SyncWorkflowContext",
    "TerminalError",
    "Workflow",
    "WorkflowContext",
    "current_step",
    "workflow",
]
