"""Which options suit which step: one that would be ignored without a word is refused."""

from __future__ import annotations

from django_hookflow.core.showing import show
from django_hookflow.engine.plans import AtomicFunction, Child, Mailbox, StepOptions, Timer, Work
from django_hookflow.exceptions import WorkflowDefinitionError


def check_suits(options: StepOptions, step_id: str, work: Work) -> None:
    """Raise unless the step does what the options ask for, saying what does it instead.

    A ``retry`` is let pass where nothing is ever repeated: what is asked for holds.
    """
    name = f"step {show(step_id)}"
    if options.undo is not None and isinstance(work, (Timer, Mailbox)):
        raise WorkflowDefinitionError(f"{name} only waits: there is nothing to compensate")
    if options.timeout is not None:
        if isinstance(work, AtomicFunction):
            raise ValueError(f"{name} takes no timeout: a transaction is not cut")
        if isinstance(work, Mailbox):
            raise ValueError(
                f"{name}: options(timeout=…) limits the attempts of what is executed; "
                "how long a wait lasts is its own argument, wait_for_…(…, timeout=…)"
            )
        if isinstance(work, Timer):
            raise ValueError(f"{name} takes no timeout: a sleep lasts as long as it says")
    if isinstance(work, Child) and (options.timeout is not None or options.retry is not None):
        raise ValueError(
            f"{name} starts a run, which its workflow's own options hold for: write "
            "@workflow(retry=…, timeout=…) there"
        )
