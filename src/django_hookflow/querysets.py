"""What is asked of many runs at once, and done to them.

A control of many decides each run by its own row, as that of one does: what has moved on since
it was found is left as it is and not counted. Nothing here holds more than a page of keys.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, Union

from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import StrIndex
from django.db.models.lookups import GreaterThan
from django.utils import timezone

from django_hookflow.core import ports
from django_hookflow.core.entries import ACTIVE, RunStatus
from django_hookflow.core.requests import check_event_name
from django_hookflow.core.tags import check_tags
from django_hookflow.core.transitions import EVENT, wait_for

if TYPE_CHECKING:
    from typing_extensions import Self

M = TypeVar("M", bound=models.Model)
F_ = TypeVar("F_", bound=Callable[..., Any])

#: The sweeper takes a run for overdue after so long.
OVERDUE = timedelta(seconds=30)


def wait_line(wait: str) -> str:
    """A wait as the column has it: on a line of its own."""
    return wait.replace("\\", "\\\\").replace("\n", "\\n")


def waiting_for(wait: str) -> Q:
    """Runs that wait for exactly this. LIKE would ignore case on SQLite."""
    return Q(GreaterThan(StrIndex(F("waits"), Value(f"\n{wait_line(wait)}\n")), 0))


def alters(method: F_) -> F_:
    """Not to be called by a template that merely names it, nor to be had of a manager.

    A template calls what it can; of a manager it would mean every run there is.
    """
    method.alters_data = True  # type: ignore[attr-defined]
    method.queryset_only = True  # type: ignore[attr-defined]
    return method


class RunsQuerySet(models.QuerySet[M]):
    """Runs; the model's own queryset is made of it."""

    def active(self) -> Self:
        """Pending, running, suspended or cancelling: somebody will look at them again."""
        found: Self = self.filter(status__in=ACTIVE)
        return found

    def running(self) -> Self:
        """Those that a delivery executes right now; not those whose process went silent."""
        found: Self = self.filter(status=RunStatus.RUNNING.value, lease_until__gte=timezone.now())
        return found

    def waiting_for(self, event: str) -> Self:
        """Those that are asleep until an event of exactly this name comes, or are paused so."""
        asleep = (RunStatus.SUSPENDED.value, RunStatus.PAUSED.value)
        wait = wait_for(EVENT, check_event_name(event))
        found: Self = self.filter(waiting_for(wait), status__in=asleep)
        return found

    def blocked(self) -> Self:
        """Those that cannot go on, for the reason in ``blocked``."""
        found: Self = self.filter(status__in=(*ACTIVE, RunStatus.PAUSED)).exclude(blocked="")
        return found

    def overdue(self, by: timedelta = OVERDUE) -> Self:
        """Those that somebody should have looked at longer ago than ``by``, and nobody has."""
        found: Self = self.filter(status__in=ACTIVE, due_at__lt=timezone.now() - by)
        return found

    def tagged(self, **tags: Union[str, int]) -> Self:
        """Those that were started with all these tags: ``tagged(order="42", shop="eu")``.

        For keys that are no names in Python write ``tagged(**{"order-id": "42"})``.
        """
        found: Self = self
        for key, value in check_tags(tags):
            found = found.filter(tags__key=key, tags__value=value)
        return found

    @alters
    def cancel(self, compensate: bool = True) -> int:
        """Cancel each; how many were, and not had ended before."""
        return ports.controls().many("cancel", self, compensate=compensate)

    @alters
    async def acancel(self, compensate: bool = True) -> int:
        """:meth:`cancel` for async code."""
        return await ports.controls().amany("cancel", self, compensate=compensate)

    @alters
    def pause(self) -> int:
        """Pause each; how many were, and did not stand still or end already."""
        return ports.controls().many("pause", self)

    @alters
    async def apause(self) -> int:
        """:meth:`pause` for async code."""
        return await ports.controls().amany("pause", self)

    @alters
    def resume(self) -> int:
        """Resume each; how many of them were paused."""
        return ports.controls().many("resume", self)

    @alters
    async def aresume(self) -> int:
        """:meth:`resume` for async code."""
        return await ports.controls().amany("resume", self)

    @alters
    def retry(self) -> int:
        """Retry each; how many of them had failed."""
        return ports.controls().many("retry", self)

    @alters
    async def aretry(self) -> int:
        """:meth:`retry` for async code."""
        return await ports.controls().amany("retry", self)
