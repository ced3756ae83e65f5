"""What comes from outside of a run, and wake-ups, on drafts of the memory journal.

A few lines longer than the habit: one function for each transition, to be read beside the ORM's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Union
from uuid import UUID

from django_hookflow.core.codec import same_value
from django_hookflow.core.entries import (
    ACTIVE,
    DONE_WITH_CHILDREN,
    PAUSABLE,
    Kind,
    RunStatus,
)
from django_hookflow.core.transitions import (
    STEP,
    Cancel,
    Cancelled,
    Conflict,
    Over,
    Owed,
    Pause,
    Paused,
    Rearm,
    Resume,
    Resumed,
    SendEvent,
    Signal,
    Signalled,
    Trigger,
    Triggered,
    Unchanged,
    wait_for,
)
from django_hookflow.journals.memory_rows import (
    OPEN,
    Draft,
    MemoryEvent,
    MemoryRun,
    changed,
)

FIRST_NUDGE = timedelta(seconds=30)
LAST_NUDGE = timedelta(hours=1)


def trigger(draft: Draft, transition: Trigger) -> Union[Triggered, Conflict]:
    found = draft.run_named(transition.run_id)
    if found is not None:
        same = found.workflow_id == transition.workflow_id
        if not same or not same_value(found.data, transition.data):
            return Conflict(workflow_id=found.workflow_id)
        return Triggered(id=found.id, created=False)
    now = draft.now
    due = transition.not_before if transition.not_before is not None else now + transition.delay
    draft.put_run(
        MemoryRun(
            id=transition.id,
            run_id=transition.run_id,
            workflow_id=transition.workflow_id,
            version=transition.version,
            seed=transition.seed,
            data=transition.data,
            created_at=now,
            due_at=due,
            owed_at=now,
            deadline=None if transition.timeout is None else due + transition.timeout,
            parent=transition.parent,
            parent_step=transition.parent_step,
            depth=transition.depth,
        )
    )
    draft.put_tags(transition.id, transition.tags)
    return Triggered(id=transition.id, created=True)


def trigger_many(
    draft: Draft, transitions: Sequence[Trigger]
) -> Sequence[Union[Triggered, Conflict]]:
    answers = [trigger(draft, transition) for transition in transitions]
    if any(isinstance(answer, Conflict) for answer in answers):
        draft.discard()
    return answers


# --- SIGNAL


def with_signal(run: MemoryRun, now: datetime, wanted: bool) -> MemoryRun:
    """The mailbox moves; a wake-up is owed if somebody has to be told."""
    run = changed(run, signals=run.signals + 1)
    due = run.due_at is not None and run.due_at <= now
    if run.status not in ACTIVE or run.leased(now) or due or not wanted:
        return run
    return changed(run, wake_n=run.wake_n + 1, owed_at=now, due_at=now)


def signal(draft: Draft, transition: Signal) -> Signalled:
    run = draft.run(transition.id)
    if run is None or run.status not in OPEN:
        return Signalled(owed=False)
    run = with_signal(run, draft.now, transition.wait in run.waits)
    draft.put_run(run)
    for event in draft.events(run.id):
        if wait_for(event.source, event.name) == transition.wait and not event.seen:
            draft.put_event(replace(event, seen=True))
    return Signalled(owed=run.owed_at is not None)


def send_event(draft: Draft, transition: SendEvent) -> Union[Signalled, Over]:
    run = draft.run(transition.id)
    if run is None or run.status not in OPEN:
        return Over(status=None if run is None else run.status)
    sent = {(event.source, event.dedup_id) for event in draft.events(run.id)}
    once = transition.dedup_id is not None
    if once and (transition.source, transition.dedup_id) in sent:
        return Signalled(owed=False, stored=False)
    if _too_late(draft, run, transition):
        return Signalled(owed=False, stored=False)
    draft.put_event(
        MemoryEvent(
            number=draft.next_event(),
            run=run.id,
            name=transition.name,
            payload=transition.payload,
            dedup_id=transition.dedup_id,
            source=transition.source,
            seen=True,
        )
    )
    return signal(draft, Signal(id=run.id, wait=transition.wait))


def _too_late(draft: Draft, run: MemoryRun, transition: SendEvent) -> bool:
    """Whether this is an answer to what is decided, of another pass, or never asked again."""
    if transition.generation is None:
        return False
    if run.status is RunStatus.CANCELLING:
        return True
    decided = any(
        step.entry.kind is Kind.CALLBACK
        and step.entry.event == transition.name
        and step.entry.is_outcome
        and not step.superseded
        for (generation, _, _), step in draft.steps(run.id).items()
        if generation == transition.generation
    )
    return decided or run.generation != transition.generation


# --- CANCEL


def cancel(draft: Draft, transition: Cancel) -> Union[Cancelled, Over]:
    run = draft.run(transition.id)
    if run is None or run.status not in OPEN:
        return Over(status=None if run is None else run.status)
    if transition.compensate and run.status is RunStatus.CANCELLING:
        return Cancelled(owed=run.owed_at is not None)
    if transition.compensate and has_undo(draft, run):
        return _wind_up(draft, run)
    signal_parent(draft, run.parent, run.parent_step)
    draft.put_run(
        changed(
            run,
            epoch=run.epoch + 1,
            status=RunStatus.CANCELLED,
            lease_until=None,
            due_at=None,
            owed_at=None,
            waits=(),
            blocked="",
            blocked_n=0,
            finished_at=draft.now,
        )
    )
    return Cancelled()


def pause(draft: Draft, transition: Pause) -> Union[Paused, Unchanged]:
    run = draft.run(transition.id)
    if run is None or run.status not in PAUSABLE:
        return Unchanged(status=None if run is None else run.status)
    to_come = run.started_at is None and run.due_at is not None and run.due_at > draft.now
    due = run.due_at if to_come else None
    draft.put_run(changed(run, status=RunStatus.PAUSED, due_at=due, owed_at=None))
    return Paused()


def resume(draft: Draft, transition: Resume) -> Union[Resumed, Unchanged]:
    run, now = draft.run(transition.id), draft.now
    if run is None or run.status is not RunStatus.PAUSED:
        return Unchanged(status=None if run is None else run.status)
    due = max(now, run.due_at) if run.due_at is not None else now
    draft.put_run(
        changed(
            run,
            status=RunStatus.RUNNING if run.leased(now) else RunStatus.SUSPENDED,
            signals=run.signals + 1,
            wake_n=run.wake_n + 1,
            owed_at=now,
            due_at=run.lease_until if run.leased(now) else due,
        )
    )
    return Resumed()


def _wind_up(draft: Draft, run: MemoryRun) -> Cancelled:
    run = changed(
        run,
        status=RunStatus.CANCELLING,
        signals=run.signals + 1,
        deadline=None,
        waits=(),
        blocked="",
        blocked_n=0,
        deaths=0,
    )
    if run.leased(draft.now):
        draft.put_run(changed(run, due_at=run.lease_until))
        return Cancelled(owed=run.owed_at is not None)
    draft.put_run(changed(run, due_at=draft.now, wake_n=run.wake_n + 1, owed_at=draft.now))
    return Cancelled(owed=True)


def signal_parent(draft: Draft, id: Union[UUID, None], step: str) -> None:
    """The end of a child moves its parent's mailbox."""
    parent = None if id is None else draft.run(id)
    if parent is not None and parent.status in OPEN:
        wanted = wait_for(STEP, step) in parent.waits
        draft.put_run(with_signal(parent, draft.now, wanted))


def has_undo(draft: Draft, run: MemoryRun) -> bool:
    return any(
        generation == run.generation and not step.superseded and step.entry.undo
        for (generation, _, _), step in draft.steps(run.id).items()
    )


def orphans(draft: Draft, limit: int, of: Union[Sequence[UUID], None]) -> list[UUID]:
    found = []
    for run in draft.all_runs():
        if run.parent is None or run.status not in OPEN or run.status is RunStatus.CANCELLING:
            continue
        parent = draft.run(run.parent)
        ended = parent is not None and parent.status in DONE_WITH_CHILDREN
        if ended and (of is None or run.parent in of):
            found.append(run.id)
    return sorted(found)[:limit]


# --- wake-ups


def rearm(draft: Draft, transition: Rearm) -> bool:
    run = draft.run(transition.id)
    if run is None or run.status not in ACTIVE or run.leased(draft.now):
        return False
    if run.wake_n != transition.wake or run.due_at is None:
        return False
    draft.put_run(changed(run, wake_n=run.wake_n + 1, owed_at=draft.now))
    return True


def owed(draft: Draft, id: UUID) -> Union[Owed, None]:
    run = draft.run(id)
    if run is None or run.owed_at is None:
        return None
    delay = timedelta(0) if run.due_at is None else max(timedelta(0), run.due_at - draft.now)
    return Owed(run=id, number=run.wake_n, owed_at=run.owed_at, delay=delay)


def published(draft: Draft, wakes: Mapping[UUID, int]) -> None:
    for id, wake in wakes.items():
        run = draft.run(id)
        if run is not None and run.wake_n == wake:
            draft.put_run(changed(run, owed_at=None))


def find_owed(draft: Draft, older_than: timedelta, limit: int) -> list[UUID]:
    late = [
        (run.owed_at, run.id)
        for run in draft.all_runs()
        if run.owed_at is not None and run.owed_at < draft.now - older_than
    ]
    return [id for _, id in sorted(late)[:limit]]


def find_due(
    draft: Draft, limit: int, of: Union[Sequence[tuple[str, str]], None]
) -> list[tuple[UUID, int]]:
    due = [
        (run.due_at, run.id, run.wake_n)
        for run in draft.all_runs()
        if run.status in ACTIVE
        and not run.leased(draft.now)
        and run.due_at is not None
        and run.due_at <= draft.now
        and (of is None or (run.workflow_id, run.version) in of)
    ]
    return [(id, wake) for _, id, wake in sorted(due)[:limit]]


def ended(draft: Draft, older_than: timedelta, statuses: Sequence[RunStatus]) -> list[UUID]:
    old = [
        (run.finished_at, run.id)
        for run in draft.all_runs()
        if run.status in statuses
        and run.finished_at is not None
        and run.finished_at < draft.now - older_than
        and not _is_expected(draft, run)
    ]
    return [id for _, id in sorted(old)]


def _is_expected(draft: Draft, run: MemoryRun) -> bool:
    """Whether a parent may still have to collect its result."""
    parent = None if run.parent is None else draft.run(run.parent)
    return parent is not None and parent.status in OPEN


def overdue(draft: Draft, by: timedelta, limit: int) -> list[UUID]:
    late = [
        (run.due_at, run.id)
        for run in draft.all_runs()
        if run.status in ACTIVE
        and run.owed_at is None
        and run.due_at is not None
        and run.due_at < draft.now - by
        and (run.nudged_at is None or run.nudged_at < draft.now - back_off(run.nudges))
    ]
    return [id for _, id in sorted(late)[:limit]]


def back_off(nudges: int) -> timedelta:
    """30 s, doubling up to an hour."""
    return min(LAST_NUDGE, FIRST_NUDGE * (1 << min(nudges, 10)))


def nudge(draft: Draft, id: UUID) -> bool:
    """Under the journal's lock, so nothing can have moved since it was found."""
    run = draft.run(id)
    assert run is not None, "it was just found"
    now = draft.now
    draft.put_run(
        changed(run, wake_n=run.wake_n + 1, owed_at=now, nudges=run.nudges + 1, nudged_at=now)
    )
    return True


def unseen(draft: Draft, limit: int) -> list[tuple[UUID, str]]:
    active = {run.id for run in draft.all_runs() if run.status in ACTIVE}
    found = [
        (e.run, wait_for(e.source, e.name))
        for e in draft.events()
        if not e.seen and e.run in active
    ]
    return list(dict.fromkeys(found))[:limit]
