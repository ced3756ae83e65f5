from tests.mutation.sample.stock import fits


def test_that_fails_whatever_is_planted():
    assert fits(0)
