"""The machine finds each of these bugs, so it would find them in a journal."""

from __future__ import annotations

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.faults.properties.holder_rules import HolderRules
from tests.faults.properties.planted_journals import PLANTED, Planted
from tests.faults.properties.settings import hunting
from tests.journals.bench import MemoryBench


@pytest.mark.parametrize("broken", PLANTED, ids=lambda journal: journal.__name__)
def test_a_journal_with_one_broken_rule_is_found(broken: type[Planted]) -> None:
    class Bench(MemoryBench):
        def __init__(self) -> None:
            super().__init__()
            self.journal = broken(self.now, self.crash)

    class Machine(HolderRules):
        make_bench = Bench

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Machine, settings=hunting(2000, stateful_step_count=40))
