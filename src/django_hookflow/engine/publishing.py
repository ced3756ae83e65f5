"""Publishing what a run row owes: read, publish, note it. Never inside a transaction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

from django_hookflow.core.messages import Wake
from django_hookflow.core.transitions import Cancel, Cancelled, Owed
from django_hookflow.engine.hops import Hops
from django_hookflow.journals.base import Journal
from django_hookflow.transports.base import BATCH, Message, Transport


def wake_message(owed: Owed, max_delay: timedelta) -> Message:
    """The message of an owed wake-up; a longer delay arrives early and is asked for again."""
    delay = min(max(owed.delay, timedelta(0)), max_delay)
    return Message(
        body=Wake(run=owed.run, number=owed.number).encode(),
        delay=math.ceil(delay.total_seconds()),
        deduplication_id=owed.deduplication_id,
    )


def batches(runs: Sequence[UUID]) -> Iterator[Sequence[UUID]]:
    """As many at a time as a transport takes in one request."""
    return (runs[start : start + BATCH] for start in range(0, len(runs), BATCH))


def publish_owed(
    journal: Journal, transport: Transport, runs: Sequence[UUID], *, max_delay: timedelta
) -> None:
    """Publish what up to ``BATCH`` runs owe, from sync code; raises ``TransportError``."""
    owed = journal.owed_many(runs)
    if owed:
        transport.publish(*(wake_message(each, max_delay) for each in owed))
        journal.published_many({each.run: each.number for each in owed})


async def apublish_owed(
    hops: Hops,
    transport: Transport,
    runs: Sequence[UUID],
    *,
    max_delay: timedelta,
    lasting_loop: bool,
) -> None:
    """:func:`publish_owed` from async code. An async client is worth it on a loop that lasts."""
    owed = await hops.own(hops.journal.owed_many, runs)
    if not owed:
        return
    messages = [wake_message(each, max_delay) for each in owed]
    if lasting_loop:
        await hops.meanwhile(transport.apublish(*messages))
    else:
        await hops.slowly(transport.publish, *messages)
    await hops.own(hops.journal.published_many, {each.run: each.number for each in owed})


#: Rows that one pass of the sweeper looks at.
SWEEP_LIMIT = 500
OWED_AFTER = timedelta(seconds=15)
OVERDUE_AFTER = timedelta(seconds=30)


def find_work(journal: Journal, *, limit: int = SWEEP_LIMIT) -> list[UUID]:
    """Runs whose wake-up has to be published now: owed for too long, overdue, or signalled.

    Makes overdue runs owe a new wake-up; of two sweepers one wins each run.
    """
    owed = list(journal.find_owed(older_than=OWED_AFTER, limit=limit))
    nudged = journal.nudge(overdue=OVERDUE_AFTER, limit=limit)
    signalled = journal.signal_unseen(limit=limit)
    orphaned = cancel_orphans(journal, journal.orphans(limit=limit))
    return list(dict.fromkeys([*owed, *nudged, *signalled, *orphaned]))


def cancel_orphans(
    journal: Journal, orphans: Sequence[UUID], *, compensate: bool = True
) -> list[UUID]:
    """Cancel runs that those who invoked them have left, and theirs; which now owe a wake-up."""
    owed: list[UUID] = []
    while orphans:
        for id in orphans:
            answer = journal.cancel(Cancel(id=id, compensate=compensate))
            if isinstance(answer, Cancelled) and answer.owed:
                owed.append(id)
        orphans = journal.orphans(limit=SWEEP_LIMIT, of=orphans)
    return owed
