import math

import pytest

from django_hookflow import wakes


@pytest.fixture(autouse=True)
def no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after no other runs: those looks come by the clock, and cost queries."""
    monkeypatch.setattr(wakes._turn, "_last", math.inf)
