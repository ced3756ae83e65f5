"""What becomes of a wait in the journal: its row, its beginning and its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Union

from django_hookflow.core.entries import Entry, ErrorRecord, idempotency_key
from django_hookflow.core.transitions import Collect, Fence, Fire, Invoke, Receive, RunView
from django_hookflow.engine.outcomes import timeout_error
from django_hookflow.engine.plans import Child, Mailbox, Wait


def ending(fence: Fence, wait: Wait, *, after: int) -> Union[Fire, Receive, Collect]:
    """The commit that ends it, if its time has come or something has.

    ``after`` is the ``seq`` of the last outcome that the body was told.
    """
    entry, work = wait_entry(wait), wait.plan.work
    if isinstance(work, Child):
        return Collect(fence=fence, entry=entry)
    if not isinstance(work, Mailbox):
        return Fire(fence=fence, entry=entry)
    return Receive(
        fence=fence,
        entry=entry,
        source=work.source,
        after=after,
        timeout_error=timeout_error(wait.plan.request.step_id, work),
    )


def invocation(run: RunView, fence: Fence, wait: Wait, work: Child) -> Invoke:
    """The commit that starts a child and writes the row of the wait for it.

    A child without a name is named by its step, so that a repeat of it is the same run.
    """
    step = wait.plan.request.step_id
    key = idempotency_key(str(run.id), run.generation, wait.series, wait.key)
    child = replace(
        work.start,
        run_id=work.start.run_id or f"child:{key[:32]}",
        parent=run.id,
        parent_step=wait.key,
        depth=run.depth + 1,
    )
    conflict = ErrorRecord(
        type="RunConflict",
        message=(
            f"run {child.run_id!r} exists already and was not started by this step; "
            "give the child a run_id of its own, or none"
        ),
        step=step,
        raises="ChildFailed",
        classes=("django_hookflow.exceptions.RunConflict",),
    )
    return Invoke(fence=fence, entry=wait_entry(wait), child=child, conflict=conflict)


def wait_entry(wait: Wait) -> Entry:
    """The journal's row of a wait."""
    request, work = wait.plan.request, wait.plan.work
    return Entry(
        key=wait.key,
        step_id=request.step_id,
        occurrence=wait.occurrence,
        kind=request.kind,
        call=request.call,
        args_sha=wait.args_sha,
        requested_seq=wait.requested,
        series=wait.series,
        ready_at=wait.ready_at,
        started_at=wait.started_at,
        event=work.name if isinstance(work, Mailbox) else "",
        undo=wait.plan.undo,
    )
