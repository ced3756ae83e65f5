"""The test kit for ``unittest``: a mixin, because ``enterContext`` needs Python 3.11."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_hookflow.testing.kit import Hookflow

if TYPE_CHECKING:
    from unittest import TestCase
else:
    TestCase = object


class HookflowMixin(TestCase):
    """``class OrderTests(HookflowMixin, TestCase)``: every test has its ``self.hookflow``."""

    hookflow: Hookflow

    def setUp(self) -> None:
        """Enter the kit; it is left after the test, whatever came of it."""
        super().setUp()
        self.hookflow = Hookflow()
        self.hookflow.__enter__()
        self.addCleanup(self.hookflow.__exit__, None, None, None)
