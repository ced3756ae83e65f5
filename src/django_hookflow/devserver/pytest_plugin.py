"""A fixture for tests against the local QStash, in projects with and without Django.

``pytest_plugins = ["django_hookflow.devserver.pytest_plugin"]`` in the topmost ``conftest.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from django_hookflow.devserver.server import DevServer

__all__ = ["qstash_server"]


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers", "qstash_server(**options): what the fixture qstash_server gives to DevServer"
    )


@pytest.fixture
def qstash_server(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DevServer]:
    """A local QStash of this test's own, with virtual time, and the environment that names it.

    ``@pytest.mark.qstash_server(virtual_time=False, time_scale=100)`` and the like say otherwise.
    """
    marks = list(request.node.iter_markers("qstash_server"))
    options: dict[str, Any] = {"virtual_time": True}
    for mark in reversed(marks):
        options |= mark.kwargs
    with DevServer(**options) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server
