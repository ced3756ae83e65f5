import os
from pathlib import Path

from django.apps import AppConfig

from tests.chaos.plants import plant


class ChaosConfig(AppConfig):
    """The workflows of the chaos runs; every process of a run has it, and its planted bug."""

    name = "tests.chaos"
    label = "tests_chaos"

    def ready(self) -> None:
        plant()
        if folder := os.environ.get("HOOKFLOW_CHAOS_FOLDER"):
            # From here on the server's master gets answers, so that a death is seen at once.
            (Path(folder) / f"up-{os.getpid()}").touch()
