"""What is stored of a step and of an error, and the names it goes by."""

import pytest

from django_hookflow.core.entries import (
    ErrorRecord,
    Kind,
    RunStatus,
    StepStatus,
    idempotency_key,
    step_key,
)


@pytest.mark.parametrize("enum", [Kind, StepStatus, RunStatus])
def test_a_member_is_shown_as_the_word_that_is_stored(enum):
    assert [str(member) for member in enum] == [member.value for member in enum]
    assert f"{next(iter(enum))}" == next(iter(enum)).value


def test_the_stored_words_stay():
    words = [str(member) for enum in (Kind, StepStatus, RunStatus) for member in enum]
    assert " ".join(words) == (
        "run atomic call sleep event callback child undo on_failure "
        "pending completed failed pending running suspended "
        "cancelling paused completed failed cancelled"
    )


def test_an_error_record_comes_back_with_all_its_facts():
    record = ErrorRecord(
        type="shop.OutOfStock",
        message="none left",
        step="reserve#2",
        raises="CallFailed",
        classes=("shop.OutOfStock", "builtins.Exception"),
        response={"status": 409},
        uncaught=("reserve#2", "charge#1"),
    )
    stored = record.to_dict()
    assert stored == {
        "type": "shop.OutOfStock",
        "message": "none left",
        "step": "reserve#2",
        "raises": "CallFailed",
        "classes": ["shop.OutOfStock", "builtins.Exception"],
        "response": {"status": 409},
        "uncaught": ["reserve#2", "charge#1"],
    }
    assert ErrorRecord.from_dict(stored) == record


def test_an_error_record_of_another_version_is_read_with_what_is_known():
    assert ErrorRecord.from_dict({"later": 1}) == ErrorRecord(type="", message="")
    assert ErrorRecord.from_dict({}).raises == "StepFailed"


def test_a_step_key_is_its_id_and_number():
    assert step_key("charge#2", 3) == "charge#2#3"


class TestIdempotencyKey:
    def test_is_stable_across_releases(self):
        stable = "58db15eae5dc0ea78f46158706794e461801e740a1792c8cdaf8b594510bf66a"
        assert idempotency_key("run-1", 0, 2, "charge#1") == stable

    def test_tells_runs_passes_series_and_steps_apart(self):
        identities = [
            ("r", 0, 0, "a#1"),
            ("s", 0, 0, "a#1"),
            ("r", 1, 0, "a#1"),
            ("r", 0, 1, "a#1"),
            ("r", 0, 0, "a#2"),
            # The same characters, cut elsewhere.
            ("r", 1, 10, "a"),
            ("r1", 1, 0, "a"),
            ("r", 11, 0, "a"),
        ]
        keys = {idempotency_key(*identity) for identity in identities}
        assert len(keys) == len(identities)

    def test_is_made_of_any_text(self):
        assert len(idempotency_key("r\ud800", 0, 0, "é#1")) == 64
