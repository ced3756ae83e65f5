from dataclasses import replace
from datetime import datetime, timedelta, timezone
from uuid import UUID

from django_hookflow.core.transitions import Owed

OWED = Owed(
    run=UUID(int=0xAB),
    number=3,
    owed_at=datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=timezone.utc),
    delay=timedelta(0),
)


def test_publishers_of_one_wake_up_name_it_alike() -> None:
    assert OWED.deduplication_id == "000000000000000000000000000000ab-3-1767225600123456"
    assert replace(OWED, delay=timedelta(hours=1)).deduplication_id == OWED.deduplication_id


def test_another_wake_up_has_another_name() -> None:
    others = [
        replace(OWED, run=UUID(int=1)),
        replace(OWED, number=4),
        replace(OWED, owed_at=OWED.owed_at + timedelta(microseconds=1)),
    ]
    assert len({owed.deduplication_id for owed in (OWED, *others)}) == 4
