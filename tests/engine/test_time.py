"""Two estimates of the journal's time, one for each side on which being wrong does no harm."""

from datetime import timedelta

from django_hookflow.engine.time import Stopwatch

from .harness import START


class StandingClock:
    seconds = 0.0

    def monotonic(self):
        return self.seconds

    async def wait(self, event, seconds, *, busy):
        raise AssertionError("nothing here waits")


def asked_for_a_second():
    """The journal read its clock at some moment of the second that its answer took."""
    clock = StandingClock()
    stopwatch = Stopwatch(clock)
    asked_at = stopwatch.before()
    clock.seconds += 1
    stopwatch.sync(START, asked_at)
    return clock, stopwatch


def test_the_journals_time_is_known_but_for_what_its_answer_took():
    clock, stopwatch = asked_for_a_second()
    assert stopwatch.now() == START + timedelta(seconds=1)
    assert stopwatch.surely() == START
    clock.seconds += 5
    assert stopwatch.now() - stopwatch.surely() == timedelta(seconds=1)


def test_asking_is_worth_it_early_and_starting_unasked_is_not():
    clock, stopwatch = asked_for_a_second()
    soon = START + timedelta(seconds=1.5)
    assert stopwatch.until(soon) == 0.5
    assert stopwatch.surely_until(soon) == 1.5
    clock.seconds += 2
    assert stopwatch.until(soon) == stopwatch.surely_until(soon) == 0.0
