"""Groups of errors, by what makes one: here one of our own, as Python 3.10 has none."""

import pytest

from django_hookflow.core.grouping import first_of, members, parts
from django_hookflow.core.retry import GiveUp, RetryPolicy, TryAgain, judge
from django_hookflow.exceptions import RetryAfter, TerminalError


class Group(Exception):
    def __init__(self, *exceptions):
        super().__init__("a group")
        self.exceptions = exceptions


class Declined(TerminalError):
    pass


def judged(policy, *errors):
    return judge(policy, Group(OSError(), *errors), attempt=1, chance=1.0)


def test_a_group_is_retried_only_for_what_each_member_would_be():
    plain = RetryPolicy(jitter=False)
    assert judged(plain, ValueError()) == TryAgain(delay=1.0)
    assert judged(plain, Declined()) == GiveUp()
    assert judged(plain, Group(Group(Declined()))) == GiveUp()
    busy = RetryPolicy(retry_on=(OSError,), jitter=False)
    assert judged(busy, ConnectionError()) == TryAgain(delay=1.0)
    assert judged(busy, ValueError()) == GiveUp()
    groups = RetryPolicy(retry_on=(Group,), jitter=False)
    assert judged(groups, ValueError()) == TryAgain(delay=1.0)
    assert judged(RetryPolicy(give_up_on=(KeyError,)), KeyError()) == GiveUp()


def test_the_longest_time_that_a_member_asks_for_counts():
    policy = RetryPolicy(retry_on=(), jitter=False)
    assert judged(policy, RetryAfter(9), Group(RetryAfter(7))) == TryAgain(delay=9)


def test_a_group_is_taken_apart():
    inner, first, second = Group(KeyError()), ValueError(), OSError()
    outer = Group(first, inner, second)
    [key] = inner.exceptions
    assert list(parts(outer)) == [outer, first, inner, key, second]
    assert members(outer) == [first, key, second]
    assert first_of(outer, KeyError) is key
    assert first_of(outer, (OSError, ValueError)) is first
    assert first_of(outer, RuntimeError) is None


@pytest.mark.parametrize("own", [[ValueError()], "text", ("text", 5), None, ()])
def test_an_error_with_an_attribute_of_that_name_is_no_group(own):
    error = ValueError()
    error.exceptions = own  # type: ignore[attr-defined]
    assert members(error) == [error]
