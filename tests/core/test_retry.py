import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_hookflow.core.retry import GiveUp, RetryPolicy, TryAgain, judge
from django_hookflow.exceptions import (
    LONGEST_DELAY,
    RetryAfter,
    SerializationError,
    TerminalError,
    WorkflowDefinitionError,
)


def test_delays_grow_to_their_limit():
    policy = RetryPolicy(initial_delay=1, backoff=3, max_delay=20, jitter=False)
    assert [policy.delay(n, 0.5) for n in range(1, 5)] == [1, 3, 9, 20]
    assert policy.delay(10**6, 0.5) == 20


def test_jitter_spreads_over_the_upper_half():
    policy = RetryPolicy(initial_delay=8)
    assert [policy.delay(1, chance) for chance in (0, 0.25, 0.5)] == [4, 5, 6]


@settings(deadline=None)
@given(st.integers(1, 10**4), st.floats(0, 1, exclude_max=True))
def test_jitter_stays_between_half_and_all(attempt, chance):
    policy, plain = RetryPolicy(), RetryPolicy(jitter=False)
    full = plain.delay(attempt, 0)
    assert full / 2 <= policy.delay(attempt, chance) <= full


@pytest.mark.parametrize(
    ("error", "attempt", "verdict"),
    [
        (OSError(), 1, TryAgain(delay=1.0)),
        (OSError(), 3, TryAgain(delay=4.0)),
        (OSError(), 4, GiveUp()),
        (RetryAfter(77), 1, TryAgain(delay=77.0)),
        (RetryAfter(77), 4, GiveUp()),
        (TerminalError(), 1, GiveUp()),
        (SerializationError(), 1, GiveUp()),
        (WorkflowDefinitionError(), 1, GiveUp()),
        (GeneratorExit(), 1, GiveUp()),
    ],
)
def test_verdicts(error, attempt, verdict):
    assert judge(RetryPolicy(jitter=False), error, attempt=attempt, chance=0) == verdict


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_attempts": True},
        {"max_attempts": 1.5},
        {"initial_delay": -1},
        {"initial_delay": float("nan")},
        {"max_delay": float("inf")},
        {"initial_delay": "1"},
        {"initial_delay": True},
        {"max_delay": LONGEST_DELAY + 1},
        {"backoff": 0.5},
        {"backoff": 1_000_001},
        {"jitter": 1},
        {"retry_on": (OSError, int)},
        {"retry_on": ValueError},
        {"give_up_on": ("ValueError",)},
    ],
)
def test_policies_that_make_no_schedule(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryPolicy(**wrong)


@pytest.mark.parametrize(
    "fine",
    [
        {"max_attempts": 1},
        {"initial_delay": 0, "max_delay": LONGEST_DELAY},
        {"initial_delay": 0.5, "backoff": 1},
        {"backoff": 1_000_000},
        {"retry_on": (), "give_up_on": (BaseException,)},
    ],
)
def test_policies_at_their_limits(fine):
    policy = RetryPolicy(**fine)
    assert {name: getattr(policy, name) for name in fine} == fine


def test_giving_up_wins_over_trying_again():
    policy = RetryPolicy(retry_on=(OSError,), give_up_on=(ConnectionError,), jitter=False)
    judged = [judge(policy, e, attempt=1, chance=0) for e in (TimeoutError(), ConnectionError())]
    assert judged == [TryAgain(delay=1.0), GiveUp()]
    assert judge(policy, ValueError(), attempt=1, chance=0) == GiveUp()


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_retry_after_wants_a_number_of_seconds(seconds):
    with pytest.raises(ValueError, match="seconds"):
        RetryAfter(seconds)
