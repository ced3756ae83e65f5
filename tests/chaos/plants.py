"""Bugs to plant, so that it can be seen that the checker catches them.

``HOOKFLOW_CHAOS_PLANT`` names one; every process of a chaos run plants it when it starts.
"""

import os
import time
from dataclasses import replace

from django.apps import apps
from django.utils import timezone
from django.utils.module_loading import import_string

from django_hookflow.conf import options
from django_hookflow.core.transitions import Atomic
from django_hookflow.runtime import JOURNAL, runtime

#: Seconds between the two commits of a torn atomic step: a kill is to hit some on any machine.
GAP = 0.6

PLANTS = {
    "outside": "the effect of a run's first step happens outside of it, in the workflow's body",
    "torn-atomic": "an atomic step's writes are committed before its record",
    "no-fence": "a holder whose lease was taken over writes nevertheless, and no constraint "
    "keeps a step from having two outcomes",
}


def planted() -> str:
    return os.environ.get("HOOKFLOW_CHAOS_PLANT", "")


def plant() -> None:
    """Give this process the journal with the bug."""
    if planted() in ("torn-atomic", "no-fence"):
        runtime.journal = broken_journal(planted())


def broken_journal(bug):
    # Not at import: the journal needs the models, and this module is read before them.
    correct = import_string(JOURNAL)

    class TornAtomic(correct):
        def commit(self, transition):
            if isinstance(transition, Atomic):
                value = transition.work()
                time.sleep(GAP)
                transition = replace(transition, work=lambda: value)
            return super().commit(transition)

    class NoFence(correct):
        def commit(self, transition):
            return super().commit(replace(transition, fence=self._newest(transition.fence)))

        def finish(self, transition):
            return super().finish(replace(transition, fence=self._newest(transition.fence)))

        def _newest(self, fence):
            rows = apps.get_model("django_hookflow", "WorkflowRun")._base_manager
            run = rows.using(options.database).filter(pk=fence.id)
            # Whoever holds it, or if it has ended.
            run.filter(lease_until=None).update(lease_until=timezone.now(), status="running")
            return replace(fence, epoch=run.values_list("epoch", flat=True).get())

    chosen = {"torn-atomic": TornAtomic, "no-fence": NoFence}[bug]
    return chosen(lambda: options.database)


def outside(ctx) -> None:
    """The planted effect of ``outside``: again in every delivery."""
    if planted() == "outside":
        from tests.chaos.ledger import send  # only this plant needs the ledger

        name = ctx.data["plan"][0]["id"]
        for kind in ("start", "effect", "end"):
            send([kind, ctx.run_id, f"{name}#1", 1, "outside", os.getpid(), f"out-{os.getpid()}"])
