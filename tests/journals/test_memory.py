"""What the memory journal answers where it has nothing to do: it has no connections."""

import pytest

from tests.journals.bench import MemoryBench


def test_any_thread_may_work_and_none_has_a_transaction() -> None:
    journal = MemoryBench().journal
    assert journal.pinned() is False
    assert journal.pooled() is False
    assert journal.in_transaction() is False
    assert journal.in_any_transaction() is False


def test_a_guarded_function_is_called_and_its_value_returned() -> None:
    assert MemoryBench().journal.guard(lambda: 5) == 5


def test_rows_are_told_in_the_order_of_their_writing() -> None:
    bench = MemoryBench()
    first, second = bench.start(), bench.start()
    assert [run.id for run in bench.journal.runs()] == [first, second]
    for payload in ("1", "2", "3"):
        bench.send(first, payload)
    numbers = [event.number for event in bench.journal.events(first)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 3


def test_a_fact_that_no_run_has_is_refused() -> None:
    bench = MemoryBench()
    id = bench.start()
    before = bench.run(id)
    with pytest.raises(TypeError, match=r"^a run has no colour, shape$"):
        bench.alter(id, shape="round", colour="red", deaths=1)
    assert bench.run(id) == before
