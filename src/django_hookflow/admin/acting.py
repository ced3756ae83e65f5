"""Cancel, pause, resume, retry: what is asked before, what is done, what is said and logged after.

One run's refusal is a message; the other runs are still done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import methodcaller
from typing import Any

from django.contrib import messages
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from django_hookflow.core.entries import PAUSABLE, TERMINAL, RunStatus
from django_hookflow.core.transitions import JournalUnavailable
from django_hookflow.exceptions import HookflowError
from django_hookflow.models import WorkflowRun

__all__ = ["AT_ONCE", "CANCEL", "PAUSE", "RESUME", "RETRY", "VERBS", "Verb", "act", "too_many"]

#: Runs of one action: each is a transaction, or a message to be sent, within one request.
AT_ONCE = 500

#: Refusals that are told one by one.
MOST_TOLD = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """Something that is done to a run; ``name`` is also the URL's, and the permission's if no
    ``right`` is given.
    """

    name: str
    do: Callable[[WorkflowRun], None]
    fits: Callable[[WorkflowRun], bool]
    button: Any
    question: Any
    done: Any
    logged: Any
    right: str = ""

    def permission(self, app_label: str) -> str:
        """The permission's full name."""
        return f"{app_label}.{self.right or self.name}_workflowrun"


CANCEL = Verb(
    name="cancel",
    do=methodcaller("cancel"),
    fits=lambda run: run.status not in TERMINAL,
    button=gettext_lazy("Cancel"),
    question=ngettext_lazy(
        "Cancel this run? No further step of it starts, and it cannot be taken up again.",
        "Cancel these %(count)d runs? No further step of them starts, and they cannot be "
        "taken up again.",
        "count",
    ),
    done=ngettext_lazy("%(count)d run was cancelled.", "%(count)d runs were cancelled.", "count"),
    logged=gettext_lazy("Cancelled the run."),
)

PAUSE = Verb(
    name="pause",
    do=methodcaller("pause"),
    fits=lambda run: run.status in PAUSABLE,
    button=gettext_lazy("Pause"),
    question=ngettext_lazy(
        "Pause this run? No further step of it starts until it is resumed.",
        "Pause these %(count)d runs? No further step of them starts until they are resumed.",
        "count",
    ),
    done=ngettext_lazy("%(count)d run is paused.", "%(count)d runs are paused.", "count"),
    logged=gettext_lazy("Paused the run."),
)

RESUME = Verb(
    name="resume",
    do=methodcaller("resume"),
    fits=lambda run: run.status == RunStatus.PAUSED,
    button=gettext_lazy("Resume"),
    question=ngettext_lazy(
        "Resume this run? What fell due while it was paused happens now.",
        "Resume these %(count)d runs? What fell due while they were paused happens now.",
        "count",
    ),
    done=ngettext_lazy("%(count)d run goes on.", "%(count)d runs go on.", "count"),
    logged=gettext_lazy("Resumed the run."),
    right="pause",
)

RETRY = Verb(
    name="retry",
    do=methodcaller("retry"),
    fits=lambda run: run.status == RunStatus.FAILED,
    button=gettext_lazy("Retry"),
    question=ngettext_lazy(
        "Retry this run? What failed it is executed again; recorded steps stay.",
        "Retry these %(count)d runs? What failed them is executed again; recorded steps stay.",
        "count",
    ),
    done=ngettext_lazy("%(count)d run goes on.", "%(count)d runs go on.", "count"),
    logged=gettext_lazy("Retried the run."),
)

VERBS = (CANCEL, PAUSE, RESUME, RETRY)


def act(model_admin: Any, request: HttpRequest, verb: Verb, runs: Iterable[WorkflowRun]) -> None:
    """Do it to each; say how many were done and why others were not."""
    done, refused = 0, []
    for run in runs:
        refusal = _refusal(verb, run)
        if refusal is None:
            model_admin.log_change(request, run, str(verb.logged))
            done += 1
        else:
            refused.append(f"{run.run_id}: {refusal}")
    if done:
        model_admin.message_user(request, verb.done % {"count": done}, messages.SUCCESS)
    for text in refused[:MOST_TOLD]:
        model_admin.message_user(request, text, messages.ERROR)
    if (more := len(refused) - MOST_TOLD) > 0:
        told = ngettext("%(count)d more was refused.", "%(count)d more were refused.", more)
        model_admin.message_user(request, told % {"count": more}, messages.ERROR)


def _refusal(verb: Verb, run: WorkflowRun) -> Exception | None:
    try:
        verb.do(run)
    except (HookflowError, JournalUnavailable, WorkflowRun.DoesNotExist) as error:
        return error
    return None


def too_many() -> str:
    """What is said instead of acting on more than ``AT_ONCE`` runs."""
    return _("Choose at most %(most)d runs at a time.") % {"most": AT_ONCE}
