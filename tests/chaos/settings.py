"""Settings of a chaos run's processes: those of the end-to-end tests, and its own workflows."""

import os

from tests.e2e.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "tests.chaos.apps.ChaosConfig"]  # noqa: F405

if "postgres" in DATABASES:  # noqa: F405
    # Connections are known by the process that opened them: so a cut finds its victims, and
    # the checker whose steps it hit.
    _options = DATABASES["postgres"].setdefault("OPTIONS", {})  # noqa: F405
    _options["application_name"] = f"chaos-{os.getpid()}"
