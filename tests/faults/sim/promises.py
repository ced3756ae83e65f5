"""What events, children and compensations promise, looked at when a seed has come to its end."""

from datetime import timedelta
from typing import Any

from django_hookflow.core.codec import JSONCodec
from django_hookflow.core.entries import WINDING_UP, Entry, Kind, RunStatus
from django_hookflow.engine.calls import CallResponse
from django_hookflow.journals.memory_rows import MemoryRun
from tests.faults.sim.ledger import Violation
from tests.faults.sim.undos import ON_FAILURE, UNDO

#: What may let a holder live on that has lost its run: where it is, no journal can stop it.
ZOMBIES = ("freeze", "outage", "jump")
#: When the sweeper has come to the last of the children, whatever went wrong in between.
TOO_LATE = timedelta(hours=6)


def is_out_of_time(row: MemoryRun) -> bool:
    """Whether the run took longer than its workflow's timeout."""
    error = row.error if row.status is RunStatus.FAILED else None
    return error is not None and (error.type, error.step) == ("TimeoutError", None)


def entries_of(world: Any, row: MemoryRun) -> list[Entry]:
    return [step.entry for step in world.store.steps(row.id) if not step.superseded]


# --- events


def check_mail(world: Any, row: MemoryRun) -> None:
    """Each event is received at most once, in the order of arrival, and stored once."""
    mail = world.store.mail(row.id)
    marks = [each.dedup_id for each in mail if each.dedup_id is not None]
    if len(marks) != len(set(marks)):
        raise Violation(f"run {row.run_id} has an event twice: {marks}")
    received = sorted(
        (e for e in entries_of(world, row) if e.kind is Kind.EVENT and e.is_outcome),
        key=lambda entry: entry.seq or 0,
    )
    for name in {entry.event for entry in received} | {each.name for each in mail}:
        got = [(e.key, e.value) for e in received if e.event == name and not e.is_failed]
        posted = [(m.consumed_by, m.payload) for m in mail if m.name == name]
        if posted[: len(got)] != got or any(key for key, _ in posted[len(got) :]):
            raise Violation(f"run {row.run_id} received {got} of {name!r}, posted were {posted}")


# --- children


def check_children(world: Any, row: MemoryRun) -> None:
    """A step for each child, a child for each step, and of both the same end."""
    steps = [s.entry for s in world.store.steps(row.id) if s.entry.kind is Kind.CHILD]
    started = {entry.child for entry in steps if entry.child is not None}
    there = {run.id for run in world.runs if run.parent and run.parent.id == row.id}
    there = {id for id in there if world.store.row(id) is not None}
    if started != there:
        raise Violation(f"the steps of run {row.run_id} started {started}, there are {there}")
    for entry in steps:
        if entry.is_outcome:
            _check_collected(world, row, entry)
    for id in there:
        _check_left(row, world.store.row(id))


def _check_left(row: MemoryRun, child: MemoryRun) -> None:
    """One whose parent is over is cancelled before it comes to an end of its own, by and by.

    But not that of a failed parent, which may be retried.
    """
    if row.status is RunStatus.FAILED:
        return
    assert row.finished_at is not None
    assert child.finished_at is not None
    late = child.finished_at - row.finished_at > TOO_LATE
    if late and child.status is not RunStatus.CANCELLED:
        raise Violation(f"run {child.run_id} is {child.status}, long after its parent's end")


def _check_collected(world: Any, row: MemoryRun, entry: Entry) -> None:
    child = None if entry.child is None else world.store.row(entry.child)
    wanted = {RunStatus.FAILED, RunStatus.CANCELLED} if entry.is_failed else {RunStatus.COMPLETED}
    if child is None or child.status not in wanted:
        raise Violation(f"{entry.key} of run {row.run_id} is {entry.status}, its child is {child}")
    if not entry.is_failed and child.result != entry.value:
        raise Violation(f"{entry.key} of run {row.run_id} is {entry.value}, not {child.result}")


# --- what follows a failure or a cancel


def check_winding_up(world: Any, run: Any, row: MemoryRun) -> None:
    """Each step that took effect is undone once, newest first, and nothing is done after that."""
    entries = entries_of(world, row)
    wanted = [f"{entry.key}{UNDO}" for entry in to_undo(entries)]
    done = sorted((e for e in entries if e.kind is Kind.UNDO), key=lambda e: e.seq or 1 << 60)
    keys = [entry.key for entry in done]
    if row.status is RunStatus.COMPLETED:
        wanted = []
    begun = wanted  # what executes when a run is cancelled at once takes effect unrecorded
    if row.status is RunStatus.CANCELLED and run.dropped:
        wanted = wanted[: len(keys)]
    if keys != wanted:
        raise Violation(f"run {row.run_id} is {row.status}: undone {keys}, it should be {wanted}")
    if row.status is not RunStatus.CANCELLED and any(not e.is_outcome or e.is_failed for e in done):
        raise Violation(f"run {row.run_id} is {row.status}, and not undone: {done}")
    _check_told(run, row, entries)
    _check_nothing_after(row, entries, done)
    _check_lines(world, row, entries, begun)


def to_undo(entries: list[Entry]) -> list[Entry]:
    """By the protocol's words: unknown outcomes first, then by ``seq``, downwards."""
    took = [e for e in entries if e.undo and e.kind not in WINDING_UP and not e.is_failed]
    unknown = [e for e in took if not e.is_outcome and e.kind is not Kind.ATOMIC]
    known = [e for e in took if e.is_outcome]
    return [
        *sorted(unknown, key=lambda e: -e.requested_seq),
        *sorted(known, key=lambda e: -(e.seq or 0)),
    ]


def _check_told(run: Any, row: MemoryRun, entries: list[Entry]) -> None:
    told = [e.is_outcome and not e.is_failed for e in entries if e.kind is Kind.ON_FAILURE]
    if row.status is RunStatus.FAILED:
        fine = told == ([] if run.bodies.on_failure is None else [True])
    else:
        fine = row.status is RunStatus.CANCELLED or not told
    if not fine:
        raise Violation(f"run {row.run_id} is {row.status}, on_failure: {told}")


def _check_nothing_after(row: MemoryRun, entries: list[Entry], done: list[Entry]) -> None:
    first = min((e.seq for e in done if e.seq is not None), default=None)
    for entry in entries:
        if entry.kind in {Kind.UNDO, Kind.SLEEP}:
            continue  # a claim still fires what is due of a failing run; nobody is told
        if first is not None and (entry.seq or 0) > first:
            raise Violation(f"{entry.key} of run {row.run_id} was recorded after a compensation")


def _check_lines(world: Any, row: MemoryRun, entries: list[Entry], wanted: list[str]) -> None:
    """The same by what really happened."""
    lines = world.ledger.of(row.run_id)
    order = list(dict.fromkeys(line.key for line in lines))
    undone = [key for key in order if key.endswith(UNDO)]
    if undone != wanted[: len(undone)]:
        raise Violation(f"run {row.run_id} undid {undone}, it should be {wanted}")
    by_key = {f"{entry.key}{UNDO}": entry for entry in entries}
    began = False
    for line in lines:
        if line.key.endswith(UNDO):
            began = True
            if line.given != (wants := _given(by_key[line.key])):
                raise Violation(f"{line.key} of {row.run_id} was given {line.given}, not {wants}")
        elif began and not any(world.faults.happened[zombie] for zombie in ZOMBIES):
            what = "told" if line.key == ON_FAILURE else "executed"
            raise Violation(f"{line.key} of run {row.run_id} was {what} after a compensation")


def _given(entry: Entry) -> Any:
    if entry.value is None:
        return None
    value = JSONCodec().decode(entry.value)
    return CallResponse.from_plain(value).data if entry.kind is Kind.CALL else value
