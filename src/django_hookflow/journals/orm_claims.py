"""CLAIM: take the lease of a due run, read its journal, fire the sleeps that are due."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Union

from django.db.models import F, Value, When
from django.db.models.functions import Coalesce

from django_hookflow.core.entries import ACTIVE, Entry, Kind, RunStatus, StepStatus
from django_hookflow.core.transitions import Claim, Claimed, NotClaimed
from django_hookflow.journals.orm_rows import (
    becomes,
    number,
    read_journal,
    read_run,
    run_view,
    runs,
    steps,
)
from django_hookflow.journals.orm_transactions import Transactions

#: A run that is due this soon is due: the rest is awaited by its holder.
EARLY = timedelta(seconds=2)


def claim(tx: Transactions, transition: Claim) -> Union[Claimed, NotClaimed]:
    made: list[Claimed] = []

    def body() -> Union[Claimed, None]:
        answer = _claim(tx, transition)
        if isinstance(answer, NotClaimed):
            return None
        made.append(answer)
        return answer

    return tx.run("claim", body, landed=partial(_ours, tx, made)) or NotClaimed()


def _ours(tx: Transactions, made: list[Claimed]) -> Union[Claimed, None]:
    """Which of our claims of unknown outcome the row holds, if one.

    Without this look the run would stand still until its lease, which nobody holds, ran out.
    """
    row = read_run(tx.alias, made[0].run.id, datetime.min)
    held = row is not None and (row["epoch"], row["lease_until"])
    # Somebody else's claim has another epoch, or replaced a state in which ours was not
    # committed: then its lease ends at another microsecond.
    mine = (claimed for claimed in made if (claimed.run.epoch, claimed.run.lease_until) == held)
    return next(mine, None)


def _claim(tx: Transactions, transition: Claim) -> Union[Claimed, NotClaimed]:
    now, lease = tx.now(), transition.lease
    due = runs(tx.alias).filter(pk=transition.id, status__in=ACTIVE, due_at__lte=now + EARLY)
    taken: dict[str, Any] = {
        "epoch": F("epoch") + 1,
        "lease_until": now + lease,
        "due_at": now + lease,
        "lease_w": transition.wake,
        "status": becomes(RunStatus.RUNNING),
        "started_at": Coalesce(F("started_at"), now),
    }
    # Two statements, because only the statement itself can tell whose lease it replaced.
    found_dead = False
    if not due.filter(lease_until__isnull=True).update(**taken):
        dead = due.filter(lease_until__lt=now)
        if not dead.update(deaths=F("deaths") + 1, **taken):
            return NotClaimed()
        found_dead = True
    row = read_run(tx.alias, transition.id, datetime.min)
    assert row is not None, "it was just updated"
    row["now"] = row["lease_until"] - lease
    journal = steps(tx.alias).filter(workflow_run=transition.id, generation=row["generation"])
    entries, series = read_journal(journal)
    if row["status"] != RunStatus.CANCELLING:
        entries = _fire_due(tx, row, entries)
    return Claimed(run=run_view(row), entries=tuple(entries), found_dead=found_dead, series=series)


def _fire_due(tx: Transactions, row: dict[str, Any], entries: list[Entry]) -> list[Entry]:
    """Complete the sleeps whose time has come; ``row["seq"]`` moves with them."""
    now = row["now"]
    due = [
        (entry.ready_at, entry.requested_seq, entry.key)
        for entry in entries
        if entry.kind is Kind.SLEEP
        and not entry.is_outcome
        and entry.ready_at is not None
        and entry.ready_at <= now
    ]
    if not due:
        return entries
    seqs = {key: row["seq"] + n for n, (_, _, key) in enumerate(sorted(due), start=1)}
    row["seq"] += len(due)
    runs(tx.alias).filter(pk=row["id"]).update(seq=row["seq"])
    pending = steps(tx.alias).filter(
        workflow_run=row["id"], generation=row["generation"], status=StepStatus.PENDING.value
    )
    pending.filter(key__in=seqs, superseded=False).update(
        seq=number(*(When(key=key, then=Value(seq)) for key, seq in seqs.items())),
        status=StepStatus.COMPLETED.value,
        epoch=row["epoch"],
        finished_at=now,
    )
    done = {"status": StepStatus.COMPLETED, "finished_at": now}
    return [replace(e, seq=seqs[e.key], **done) if e.key in seqs else e for e in entries]
