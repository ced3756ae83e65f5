"""PAUSE and RESUME. Both join a transaction of the caller, as the other controls do.

Neither touches the epoch or the lease: what executes is recorded, and a holder that learns of
the pause gives the lease back by itself. RESUME moves the mailbox, so that a holder which has
learned of a pause that is over by now looks again instead of leaving.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Union

from django.db.models import Case, F, Q, Value, When

from django_hookflow.core.entries import PAUSABLE, RunStatus
from django_hookflow.core.transitions import Pause, Paused, Resume, Resumed, Unchanged
from django_hookflow.journals.orm_outside import status_of
from django_hookflow.journals.orm_rows import moment, runs
from django_hookflow.journals.orm_transactions import Transactions


def pause(tx: Transactions, transition: Pause) -> Union[Paused, Unchanged]:
    def landed() -> Union[Paused, None]:
        return Paused() if status_of(tx, transition.id) is RunStatus.PAUSED else None

    body = partial(_pause, tx, transition)
    return tx.run("pause", body, durable=False, landed=landed)


def _pause(tx: Transactions, transition: Pause) -> Union[Paused, Unchanged]:
    # A start that was asked for later stays later: no timer is early, whatever happens meanwhile.
    to_come = When(started_at__isnull=True, due_at__gt=tx.now(), then=F("due_at"))
    going = runs(tx.alias).filter(pk=transition.id, status__in=PAUSABLE)
    still: dict[str, Any] = {
        "status": RunStatus.PAUSED.value,
        "due_at": moment(to_come, default=Value(None)),
        "owed_at": None,
    }
    return Paused() if going.update(**still) else _unchanged(tx, transition)


def resume(tx: Transactions, transition: Resume) -> Union[Resumed, Unchanged]:
    def landed() -> Union[Resumed, None]:
        # Who else resumed it meanwhile has owed the same wake-up.
        return None if status_of(tx, transition.id) is RunStatus.PAUSED else Resumed()

    body = partial(_resume, tx, transition)
    return tx.run("resume", body, durable=False, landed=landed)


def _resume(tx: Transactions, transition: Resume) -> Union[Resumed, Unchanged]:
    now = tx.now()
    leased, to_come = Q(lease_until__gte=now), Q(due_at__gt=now)
    running, suspended = Value(RunStatus.RUNNING.value), Value(RunStatus.SUSPENDED.value)
    paused = runs(tx.alias).filter(pk=transition.id, status=RunStatus.PAUSED.value)
    going: dict[str, Any] = {
        "status": Case(When(leased, then=running), default=suspended),
        "signals": F("signals") + 1,
        "wake_n": F("wake_n") + 1,
        "owed_at": now,
        "due_at": moment(
            When(leased, then=F("lease_until")), When(to_come, then=F("due_at")), default=now
        ),
    }
    return Resumed() if paused.update(**going) else _unchanged(tx, transition)


def _unchanged(tx: Transactions, transition: Union[Pause, Resume]) -> Unchanged:
    return Unchanged(status=status_of(tx, transition.id))
