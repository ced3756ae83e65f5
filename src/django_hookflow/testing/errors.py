"""What the test kit raises when it is used wrongly, or cannot do what it is asked for."""

from __future__ import annotations

from django_hookflow.exceptions import HookflowError


class HookflowTestError(HookflowError, AssertionError):
    """The test is at fault, or what it waits for never comes; the message says what to do."""
