import pytest

from tests.mutation.sample.stock import fits


@pytest.mark.parametrize(("amount", "expected"), [(0, False), (1, True), (10, True), (11, False)])
def test_the_limits_are_one_and_ten(amount, expected):
    assert fits(amount) is expected
