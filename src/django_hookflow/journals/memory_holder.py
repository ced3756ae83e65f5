"""The transitions of a holder, on drafts of the memory journal.

A few lines longer than the habit: one function for each transition, to be read beside the ORM's.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Union
from uuid import UUID

from django_hookflow.core.entries import ACTIVE, Entry, Kind, RunStatus, StepStatus
from django_hookflow.core.transitions import (
    Atomic,
    Attempted,
    Beat,
    Begin,
    Claim,
    Claimed,
    Collect,
    Commit,
    Committed,
    Conflict,
    Fail,
    Failing,
    Fence,
    Fenced,
    Finish,
    Finished,
    Fire,
    Invoke,
    NotClaimed,
    NotYet,
    Receive,
    Record,
    Release,
    SignalsMoved,
    StaysPaused,
    Stopped,
    Suspend,
    Suspended,
)
from django_hookflow.journals.collecting import collected
from django_hookflow.journals.memory_outside import signal_parent, trigger
from django_hookflow.journals.memory_rows import OPEN, Draft, MemoryRun, MemoryStep, changed

EARLY = timedelta(seconds=2)


# --- CLAIM


def claim(draft: Draft, transition: Claim) -> Union[Claimed, NotClaimed]:
    now, run = draft.now, draft.run(transition.id)
    if run is None or run.status not in ACTIVE or run.leased(now):
        return NotClaimed()
    if run.due_at is None or run.due_at > now + EARLY:
        return NotClaimed()
    found_dead = run.lease_until is not None
    run = changed(
        run,
        deaths=run.deaths + 1 if found_dead else run.deaths,
        epoch=run.epoch + 1,
        lease_until=now + transition.lease,
        due_at=now + transition.lease,
        lease_w=transition.wake,
        status=_becomes(run, RunStatus.RUNNING),
        started_at=run.started_at or now,
    )
    run = _fire_due(draft, run)
    draft.put_run(run)
    return Claimed(
        run=run.view(now),
        entries=current(draft, run),
        found_dead=found_dead,
        series=_next_series(draft, run),
    )


def current(draft: Draft, run: MemoryRun) -> tuple[Entry, ...]:
    return tuple(
        step.entry
        for (generation, _, _), step in draft.steps(run.id).items()
        if generation == run.generation and not step.superseded
    )


def _next_series(draft: Draft, run: MemoryRun) -> dict[str, int]:
    series: dict[str, int] = {}
    for (generation, key, number), step in draft.steps(run.id).items():
        if generation == run.generation and step.superseded:
            series[key] = max(series.get(key, 0), number + 1)
    return series


def _fire_due(draft: Draft, run: MemoryRun) -> MemoryRun:
    if run.status is RunStatus.CANCELLING:
        return run
    due = [
        (entry.ready_at, entry.requested_seq, entry.key, entry)
        for entry in current(draft, run)
        if entry.kind is Kind.SLEEP
        and not entry.is_outcome
        and entry.ready_at is not None
        and entry.ready_at <= draft.now
    ]
    for seq, (*_, entry) in enumerate(sorted(due, key=lambda row: row[:3]), start=run.seq + 1):
        done = replace(entry, seq=seq, status=StepStatus.COMPLETED, finished_at=draft.now)
        draft.put_step(run.id, run.generation, MemoryStep(entry=done, epoch=run.epoch))
    return changed(run, seq=run.seq + len(due))


def _becomes(run: MemoryRun, status: RunStatus) -> RunStatus:
    return RunStatus.CANCELLING if run.status is RunStatus.CANCELLING else status


# --- COMMIT


def commit(draft: Draft, transition: Commit, value: str = "") -> Union[Committed, NotYet]:
    """``value`` is what an atomic step's work returned."""
    fence, entry = transition.fence, transition.entry
    run = draft.run(fence.id)
    if run is None or run.status not in OPEN or not run.holds(fence.epoch):
        raise Fenced
    if run.status is RunStatus.CANCELLING and not isinstance(transition, (Record, Attempted)):
        raise Stopped
    if run.status is RunStatus.PAUSED and isinstance(transition, (Begin, Invoke)):
        raise Stopped
    there = draft.step(run.id, (run.generation, entry.key, entry.series))
    if there is not None and there.entry.is_outcome:
        raise Fenced("another holder recorded this step")
    pending = None if there is None else there.entry
    if isinstance(transition, Receive) and transition.after not in (None, run.seq):
        return NotYet(now=draft.now, moved=True)
    written = _entry_of(draft, transition, pending, value)
    if written is None:
        return NotYet(now=draft.now)
    run = _passed(run, fence, draft.now, outcome=written.is_outcome)
    if isinstance(transition, Invoke) and _was_there(transition, there, written):
        run = changed(run, signals=run.signals + 1)  # it may be over, and has told nobody
    if written.is_outcome:
        written = replace(written, seq=run.seq, finished_at=draft.now)
    draft.put_run(run)
    draft.put_step(run.id, run.generation, MemoryStep(entry=written, epoch=fence.epoch))
    return Committed(entry=written, now=draft.now, status=run.status, signals=run.signals)


def _was_there(invoke: Invoke, row: Union[MemoryStep, None], written: Entry) -> bool:
    """Whether the child had been started before, by a step of this key in an earlier series."""
    return row is None and written.child not in (None, invoke.child.id)


def _told(fence: Fence) -> dict[str, Any]:
    """What the body has told since the row was read, as columns."""
    state = fence.state()
    return {} if state is None else {"state": state.text, "state_n": state.calls}


def _passed(run: MemoryRun, fence: Fence, now: datetime, *, outcome: bool) -> MemoryRun:
    return changed(
        run,
        **_told(fence),
        lease_until=now + fence.lease,
        due_at=None if run.status is RunStatus.PAUSED else now + fence.lease,
        nudges=0,
        blocked="",
        blocked_n=0,
        seq=run.seq + 1 if outcome else run.seq,
        deaths=0 if outcome else run.deaths,
    )


def _entry_of(
    draft: Draft, transition: Commit, pending: Union[Entry, None], value: str
) -> Union[Entry, None]:
    """The row to write, without its seq; ``None`` if it is not time yet."""
    now, entry = draft.now, transition.entry
    if pending is not None and isinstance(transition, (Fire, Receive, Collect)):
        entry = replace(
            entry,
            ready_at=pending.ready_at,
            started_at=pending.started_at,
            child=pending.child,
            undo=pending.undo,
        )
    entry = replace(entry, started_at=entry.started_at or now)
    if isinstance(transition, (Record, Begin)):
        return entry
    if isinstance(transition, Invoke):
        return pending or _with_child(draft, transition)
    if isinstance(transition, Collect):
        child = None if entry.child is None else draft.run(entry.child)
        if child is None:
            return collected(entry, None, None)
        return collected(entry, child.view(now), child.result)
    if isinstance(transition, Attempted):
        again = now + transition.retry_in
        return replace(entry, status=StepStatus.PENDING, seq=None, ready_at=again, finished_at=None)
    if isinstance(transition, Atomic):
        return replace(entry, status=StepStatus.COMPLETED, value=value)
    if isinstance(transition, Fire):
        if entry.ready_at is not None and entry.ready_at > now:
            return None
        return replace(entry, status=StepStatus.COMPLETED)
    return _received(draft, transition, entry)


def _with_child(draft: Draft, transition: Invoke) -> Entry:
    """The row of the wait, once the child is there; an outcome if its name is taken."""
    child, now = transition.child, draft.now
    entry = replace(transition.entry, started_at=transition.entry.started_at or now)
    there = draft.run_named(child.run_id)
    ours = there is not None and (there.parent, there.parent_step) == (
        transition.fence.id,
        entry.key,
    )
    stored = trigger(draft, child)
    if isinstance(stored, Conflict) or not (stored.created or ours):
        return replace(entry, status=StepStatus.FAILED, error=transition.conflict)
    return replace(entry, child=stored.id)


def _received(draft: Draft, transition: Receive, entry: Entry) -> Union[Entry, None]:
    for event in draft.events(transition.fence.id):
        named = (event.source, event.name) == (transition.source, entry.event)
        if named and event.consumed_by is None:
            draft.put_event(replace(event, consumed_by=entry.key, seen=True))
            return replace(entry, status=StepStatus.COMPLETED, value=event.payload)
    if entry.ready_at is None or entry.ready_at > draft.now:
        return None
    return replace(entry, status=StepStatus.FAILED, error=transition.timeout_error)


# --- SUSPEND and the other ends


def _held(draft: Draft, fence: Fence) -> MemoryRun:
    run = draft.run(fence.id)
    if run is None or run.status not in OPEN or not run.holds(fence.epoch):
        raise Fenced
    return run


def suspend(draft: Draft, transition: Suspend) -> Union[Suspended, SignalsMoved, StaysPaused]:
    run = _held(draft, transition.fence)
    if run.status is RunStatus.PAUSED:
        _write_pending(draft, run, transition)
        return _leave_paused(draft, changed(run, waits=transition.waits), transition.fence)
    if run.signals != transition.seen:
        cancelling = run.status is RunStatus.CANCELLING
        return SignalsMoved(seen=run.signals, cancelling=cancelling)
    due = transition.due
    at = draft.now + due if isinstance(due, timedelta) else due
    if run.deadline is not None:
        at = run.deadline if at is None else min(at, run.deadline)
    draft.put_run(
        changed(
            run,
            status=_becomes(run, RunStatus.SUSPENDED),
            lease_until=None,
            waits=transition.waits,
            due_at=at,
            wake_n=run.wake_n if at is None else run.wake_n + 1,
            owed_at=run.owed_at if at is None else draft.now,
            nudges=0,
            blocked=transition.blocked,
            blocked_n=run.blocked_n + 1 if transition.blocked else 0,
            **_told(transition.fence),
        )
    )
    _write_pending(draft, run, transition)
    return Suspended(owed=at is not None)


def _write_pending(draft: Draft, run: MemoryRun, transition: Suspend) -> None:
    for entry in transition.pending:
        if draft.step(run.id, (run.generation, entry.key, entry.series)) is None:
            entry = replace(entry, started_at=entry.started_at or draft.now)
            step = MemoryStep(entry=entry, epoch=transition.fence.epoch)
            draft.put_step(run.id, run.generation, step)


def _leave_paused(draft: Draft, run: MemoryRun, fence: Fence) -> StaysPaused:
    draft.put_run(changed(run, lease_until=None, **_told(fence)))
    return StaysPaused()


def release(draft: Draft, transition: Release) -> None:
    run = _held(draft, transition.fence)
    if run.status is RunStatus.PAUSED:
        _leave_paused(draft, run, transition.fence)
        return
    status = _becomes(run, RunStatus.SUSPENDED)
    draft.put_run(changed(run, status=status, lease_until=None, due_at=draft.now))


def fail(draft: Draft, transition: Fail) -> Union[Failing, StaysPaused, SignalsMoved]:
    run = _held(draft, transition.fence)
    if run.status is RunStatus.PAUSED:
        return _leave_paused(draft, run, transition.fence)
    if run.status is RunStatus.CANCELLING:
        return SignalsMoved(seen=run.signals, cancelling=True)
    run = _passed(run, transition.fence, draft.now, outcome=False)
    draft.put_run(changed(run, error=transition.error, deadline=None, deaths=0))
    return Failing()


def finish(draft: Draft, transition: Finish) -> Union[Finished, StaysPaused, SignalsMoved]:
    run = _held(draft, transition.fence)
    if run.status is RunStatus.PAUSED:
        return _leave_paused(draft, run, transition.fence)
    if run.status is RunStatus.CANCELLING and transition.status is not RunStatus.CANCELLED:
        return SignalsMoved(seen=run.signals, cancelling=True)
    signal_parent(draft, transition.parent, transition.parent_step)
    draft.put_run(
        changed(
            run,
            status=transition.status,
            lease_until=None,
            due_at=None,
            owed_at=None,
            waits=(),
            blocked="",
            blocked_n=0,
            finished_at=draft.now,
            error=transition.error or run.error,
            result=run.result if transition.result is None else transition.result,
            **_told(transition.fence),
        )
    )
    return Finished()


def beat(draft: Draft, transition: Beat) -> list[UUID]:
    lost, until = [], draft.now + transition.lease
    for id, epoch in transition.held.items():
        run = draft.run(id)
        if run is None or run.status not in OPEN or not run.holds(epoch):
            lost.append(id)
            continue
        due_at = None if run.status is RunStatus.PAUSED else until
        draft.put_run(changed(run, lease_until=until, due_at=due_at))
    return lost
