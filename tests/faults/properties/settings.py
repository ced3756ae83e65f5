"""How much hypothesis tries, and that a failure can be repeated.

``HOOKFLOW_EXAMPLES=20`` tries twenty times as much. With ``CI=true`` every run tries the same.
"""

import os

from hypothesis import HealthCheck, Phase, settings

TIMES = int(os.environ.get("HOOKFLOW_EXAMPLES", "1"))
#: Without making a find smaller: that takes longer than finding.
HUNT = (Phase.explicit, Phase.generate)
FIXED = os.environ.get("CI") == "true" and TIMES == 1


def trying(examples: int, **more) -> settings:
    """So many examples in an ordinary run."""
    return settings(
        max_examples=examples * TIMES,
        deadline=None,
        derandomize=FIXED,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        **more,
    )


def hunting(examples: int, **more) -> settings:
    """The same search each time, ended by the first find: for bugs that are planted."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        phases=HUNT,
        suppress_health_check=list(HealthCheck),
        **more,
    )
