"""What users may name runs, events, callbacks and keys, and what they are told otherwise."""

from datetime import datetime, timezone
from uuid import UUID

import pytest

from django_hookflow.core.callbacks import Ticket
from django_hookflow.core.identifiers import check_run_id
from django_hookflow.core.requests import (
    check_dedup_id,
    check_event_name,
    check_state_key,
    check_step_id,
)


@pytest.mark.parametrize("good", ["a", "x" * 128, "order:42/paid@2026-01-01_v1.b"])
def test_run_ids(good: str) -> None:
    assert check_run_id(good) == good


@pytest.mark.parametrize(
    ("bad", "error", "told"),
    [
        (42, TypeError, "run_id is a str, not 42"),
        (None, TypeError, "run_id is a str, not None"),
        ("", ValueError, "run_id has 1 to 128 characters"),
        ("x" * 129, ValueError, "run_id has 1 to 128 characters"),
        ("order 42", ValueError, "got 'order 42'"),
        ("order\n", ValueError, r"got 'order\\n'"),
        ("ordér", ValueError, "got 'ordér'"),
    ],
)
def test_what_is_no_run_id(bad: object, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        check_run_id(bad)


NAMES = [
    (check_step_id, "step_id"),
    (check_event_name, "an event's name"),
    (check_dedup_id, "dedup_id"),
    (check_state_key, "a key of the state"),
]


@pytest.mark.parametrize(("check", "what"), NAMES)
def test_names_say_what_they_are_when_they_are_refused(check, what: str) -> None:
    assert check("Ünïcode #1") == "Ünïcode #1"
    with pytest.raises(TypeError, match=f"^{what} is a str of 1 to 200 characters, not 5"):
        check(5)
    with pytest.raises(ValueError, match=f"^{what} has 1 to 200 characters; this one has 201"):
        check("x" * 201)
    with pytest.raises(ValueError, match=f"^{what} may hold no NUL"):
        check("a\x00")


def test_an_answer_to_an_earlier_pass_has_a_name_of_its_own() -> None:
    facts = {"run": UUID(int=1), "key": "approve#2", "expires_at": datetime.now(timezone.utc)}
    assert Ticket(generation=0, **facts).name == "approve#2"
    assert Ticket(generation=0, **facts).confirm == ""
    assert Ticket(generation=3, **facts).name == "approve#2.3"
