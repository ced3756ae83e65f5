"""A page of the list: what its rows show, in as many queries for one row as for all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Count
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property

from django_hookflow.admin.values import hidden
from django_hookflow.conf import options
from django_hookflow.core.entries import StepStatus
from django_hookflow.models import WorkflowRun, WorkflowStep
from django_hookflow.reading import pending_of
from django_hookflow.wording import length, why

if TYPE_CHECKING:
    Pages = Paginator[WorkflowRun]
else:
    Pages = Paginator

__all__ = ["BoundedPaginator", "Listed", "RunChangeListMixin", "sentence"]

#: Rows that are counted; counting millions takes the database seconds for one number.
MOST = 10_000


class BoundedPaginator(Pages):
    """Counts, and can turn to, the first ``MOST`` rows; filters and the search lead to others."""

    @cached_property
    def count(self) -> int:
        """At most ``MOST``."""
        rows: Any = self.object_list
        counted: int = rows.order_by()[:MOST].count()
        return counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What a row shows beside its columns."""

    sentence: str
    age: str
    steps_done: int


class RunChangeListMixin(ChangeList):
    """Gives the runs of the page that is shown their ``listed``."""

    def get_results(self, request: HttpRequest) -> None:
        """The page's rows."""
        super().get_results(request)
        # The same objects are handed out when the list is rendered.
        runs: list[Any] = list(self.result_list)
        shown_by: Any = self.model_admin
        may_read: bool = shown_by.has_payload_permission(request)
        pending, done, now = pending_of(runs), _steps_done(runs), timezone.now()
        for run in runs:
            run.listed = Listed(
                sentence=sentence(run, pending[run.pk], now, may_read=may_read),
                age=length(now - run.created_at),
                steps_done=done.get(run.pk, 0),
            )


def sentence(
    run: WorkflowRun, pending: list[WorkflowStep], now: datetime, *, may_read: bool
) -> str:
    """Why the run waits or how it ended; without the words of errors for who may not read them."""
    if not may_read:
        run.error = hidden(run.error)
        for step in pending:
            step.error = hidden(step.error)
    return why(run, pending, now)


def _steps_done(runs: list[WorkflowRun]) -> dict[UUID, int]:
    steps = WorkflowStep.objects.using(options.database).filter(
        workflow_run__in=[run.pk for run in runs],
        status=StepStatus.COMPLETED.value,
        superseded=False,
    )
    counted = steps.order_by().values_list("workflow_run").annotate(Count("pk"))
    return dict(counted)
