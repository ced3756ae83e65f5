"""The test kit: drive workflows inside plain tests, with time that passes when you say so.

    with Hookflow() as hookflow:
        run = hookflow.run(process_order, data={"order_id": "1"})
        assert run.status == "completed"

:class:`HookflowMixin` gives a ``TestCase`` its ``self.hookflow``; under pytest there is the
fixture ``hookflow``. What may live here: what users' tests need, and nothing that is not theirs
to call. It needs no setting, no QStash, no thread and no connection but the test's own.
"""

from django_hookflow.testing.errors import HookflowTestError
from django_hookflow.testing.kit import Hookflow
from django_hookflow.testing.mixin import HookflowMixin

__all__ = ["Hookflow", "HookflowMixin", "HookflowTestError"]
