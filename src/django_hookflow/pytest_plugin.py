"""The pytest plugin: the fixture ``hookflow``, found by its entry point.

pytest loads it before Django's settings are there, so nothing that needs them is imported at
the top. The fixture is made for the plugins that are there: pytest-django looks through the
fixtures that tests name for ``db``, before any of them runs, to know which databases to set up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django_hookflow.testing import Hookflow


def pytest_configure(config: pytest.Config) -> None:
    """Bring the fixture."""
    with_django = config.pluginmanager.hasplugin("django")
    fixtures = WithDatabase() if with_django else WithoutDatabase()
    config.pluginmanager.register(fixtures, "django_hookflow_fixtures")


class WithDatabase:
    """Beside pytest-django."""

    @pytest.fixture
    def hookflow(self, db: None) -> Iterator[Hookflow]:
        """Drives workflows inside this test; see ``django_hookflow.testing.Hookflow``."""
        # Imports models, which need Django's settings.
        from django_hookflow.testing import Hookflow

        with Hookflow() as kit:
            yield kit


class WithoutDatabase:
    """Without pytest-django."""

    @pytest.fixture
    def hookflow(self) -> None:
        """Says what is missing."""
        pytest.fail("the fixture hookflow needs pytest-django: pip install pytest-django")
