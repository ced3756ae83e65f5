from tests.mutation.sample.stock import fits


def test_something_in_the_middle_fits():
    assert fits(5)
