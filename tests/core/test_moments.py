from datetime import datetime, timedelta, timezone

import pytest

from django_hookflow.core.moments import EARLIEST, LATEST, check_moment

UTC = timezone.utc


def test_an_aware_moment_is_taken_as_it_is():
    moment = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert check_moment("when", moment) is moment


def test_what_is_long_past_counts_as_1970():
    assert check_moment("when", datetime(1, 1, 1, tzinfo=UTC)) == datetime(1970, 1, 1, tzinfo=UTC)
    assert check_moment("when", EARLIEST) == EARLIEST


def test_the_year_9000_is_too_late():
    last = datetime(8999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert check_moment("when", last) == last
    for late in (LATEST, datetime(9000, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        with pytest.raises(ValueError, match="when is a moment before the year 9000, not"):
            check_moment("when", late)


@pytest.mark.parametrize("wrong", [None, 5, "2026-05-01", datetime(2026, 5, 1).date()])
def test_what_is_no_datetime_is_a_type_error(wrong):
    with pytest.raises(TypeError, match="when is an aware datetime, not"):
        check_moment("when", wrong)


def test_a_naive_datetime_is_refused_with_what_to_use():
    with pytest.raises(ValueError, match=r"when is an aware datetime.* no time zone.*make_aware"):
        check_moment("when", datetime(2026, 5, 1))
