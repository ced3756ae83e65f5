import os

import pytest

from .harness import World
from .modes import MODES

#: Which modes; ``HOOKFLOW_TEST_MODES=usual`` is for a matrix: the engine is the same everywhere.
ASKED = [mode for mode in os.environ.get("HOOKFLOW_TEST_MODES", "").split(",") if mode]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test of a world under every mode, but those that are about one circumstance."""
    if "world" in metafunc.fixturenames:
        usual = metafunc.definition.get_closest_marker("usual_mode")
        metafunc.parametrize("world", ["usual"] if usual else ASKED or list(MODES), indirect=True)


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    return MODES[request.param]()
