"""The answer table's rows 5 to 12, from the row alone."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from uuid import UUID

import pytest

from django_hookflow.core import admission as table
from django_hookflow.core.entries import RunStatus
from django_hookflow.core.transitions import RunView

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
S = timedelta(seconds=1)
RUN = RunView(
    id=UUID(int=1), run_id="r", workflow_id="w", version="", seed=1, generation=0,
    status=RunStatus.SUSPENDED, epoch=1, lease_until=None, lease_w=0, due_at=NOW, deadline=None,
    wake_n=3, owed_at=None, signals=0, seq=0, deaths=0, blocked="", blocked_n=0, data="{}",
    error=None, parent=None, parent_step="", depth=0, state=None, created_at=NOW, now=NOW,
)  # fmt: skip
LEASED = {"status": RunStatus.RUNNING, "lease_until": NOW + 7.2 * S, "lease_w": 3}


@pytest.mark.parametrize(
    ("changes", "wake", "expected"),
    [
        ({}, 3, table.Proceed()),
        ({}, 1, table.Proceed()),  # the row decides, not the number
        ({"due_at": NOW + 2 * S}, 3, table.Proceed()),
        ({"due_at": NOW + 3 * S}, 3, table.Early()),
        ({"due_at": NOW + 3 * S}, 2, table.Stale()),
        ({"due_at": None}, 3, table.Stale()),
        (LEASED, 3, table.Busy(retry_after=9)),
        (LEASED, 2, table.Covered()),
        ({**LEASED, "lease_until": NOW}, 3, table.Busy(retry_after=1)),
        ({**LEASED, "lease_until": NOW - S}, 3, table.Proceed()),
        ({"status": RunStatus.COMPLETED}, 3, table.Ended(paused=False)),
        ({"status": RunStatus.FAILED}, 3, table.Ended(paused=False)),
        ({"status": RunStatus.CANCELLED}, 3, table.Ended(paused=False)),
        ({"status": RunStatus.PAUSED}, 3, table.Ended(paused=True)),
        # A paused run's holder may die: its message has to come again.
        ({**LEASED, "status": RunStatus.PAUSED}, 3, table.Busy(retry_after=9)),
        ({**LEASED, "status": RunStatus.PAUSED}, 2, table.Ended(paused=True)),
        (
            {**LEASED, "status": RunStatus.PAUSED, "lease_until": NOW - S},
            3,
            table.Ended(paused=True),
        ),
    ],
)
def test_rows(changes, wake, expected):
    assert table.admit(replace(RUN, **changes), wake=wake, registered=True) == expected


def test_unknown_run():
    assert table.admit(None, wake=1, registered=False) == table.UnknownRun()


@pytest.mark.parametrize(("late", "blocked"), [(0, False), (599, False), (600, True)])
def test_an_unregistered_workflow_is_blocked_after_ten_minutes_only(late, blocked):
    run = replace(RUN, due_at=NOW - late * S)
    answer = table.admit(run, wake=3, registered=False)
    reason = "workflow 'w' is not registered" if blocked else ""
    assert answer == table.UnknownWorkflow(blocked=reason)


def test_a_run_that_waits_without_an_end_is_not_blocked_for_its_workflow():
    answer = table.admit(replace(RUN, due_at=None), wake=3, registered=False)
    assert answer == table.UnknownWorkflow(blocked="")


def test_a_terminal_run_of_an_unregistered_workflow_is_done():
    run = replace(RUN, status=RunStatus.COMPLETED)
    assert table.admit(run, wake=3, registered=False) == table.Ended(paused=False)
