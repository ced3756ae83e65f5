"""The filters beside the list. None of them asks the database what there is to choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_hookflow.core.entries import ACTIVE, RunStatus
from django_hookflow.models import LOST, WorkflowRun
from django_hookflow.reading import standing
from django_hookflow.registry import registry
from django_hookflow.workflow import Workflow

if TYPE_CHECKING:
    Runs = QuerySet[WorkflowRun, WorkflowRun]
    Choices = list[tuple[str, Any]]

__all__ = ["STATUS_LABELS", "BlockedFilter", "StatusFilter", "WorkflowFilter"]

STATUS_LABELS: dict[str, Any] = {
    RunStatus.PENDING.value: _("pending"),
    RunStatus.RUNNING.value: _("running"),
    LOST: _("lost"),
    RunStatus.SUSPENDED.value: _("suspended"),
    RunStatus.PAUSED.value: _("paused"),
    RunStatus.CANCELLING.value: _("cancelling"),
    RunStatus.COMPLETED.value: _("completed"),
    RunStatus.FAILED.value: _("failed"),
    RunStatus.CANCELLED.value: _("cancelled"),
}


class StatusFilter(admin.SimpleListFilter):
    """By ``status_now``: "lost" is a running one whose process went silent."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Every status."""
        return list(STATUS_LABELS.items())

    def queryset(self, request: HttpRequest, queryset: Runs) -> Runs:
        """Runs of the chosen one."""
        status = self.value()
        if status is None:
            return queryset
        if status not in STATUS_LABELS:
            raise IncorrectLookupParameters(status)
        chosen: Runs = queryset.filter(standing([status], timezone.now()))
        return chosen


class WorkflowFilter(admin.SimpleListFilter):
    """By workflow: those that the code has, and the one that is asked for."""

    title = _("workflow")
    parameter_name = "workflow"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """The registered ones; to ask the table for its own would read all of it."""
        # The base class has taken the parameter up by now, under this name on every version.
        asked = self.value()
        known = {cast("Workflow[Any]", workflow).workflow_id for workflow in registry}
        return [(name, name) for name in sorted(known | ({asked} if asked else set()))]

    def queryset(self, request: HttpRequest, queryset: Runs) -> Runs:
        """Runs of the chosen one."""
        workflow = self.value()
        if workflow is None:
            return queryset
        if "\0" in workflow:  # which PostgreSQL has no text for
            raise IncorrectLookupParameters(workflow)
        chosen: Runs = queryset.filter(workflow_id=workflow)
        return chosen


class BlockedFilter(admin.SimpleListFilter):
    """Whether a run that is not over cannot go on."""

    title = _("blocked")
    parameter_name = "blocked"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Both."""
        return [("yes", _("Yes")), ("no", _("No"))]

    def queryset(self, request: HttpRequest, queryset: Runs) -> Runs:
        """Blocked runs, or all others."""
        if self.value() is None:
            return queryset
        if self.value() not in {"yes", "no"}:
            raise IncorrectLookupParameters(self.value())
        blocked = Q(status__in=ACTIVE) & ~Q(blocked="")
        chosen: Runs = queryset.filter(blocked if self.value() == "yes" else ~blocked)
        return chosen
