"""How a step's cost depends on what the run has behind it.

``python -m tests.benchmarks.long_run [--steps 1000] [--rounds 3]``: a run of no-op steps,
async and sync, on each database; the median time of the steps 901-1,000 as a multiple of
that of the steps 101-200. The figures of one run are ratios; absolute times are for
orientation only. Needs no server: deliveries go through Django's test client.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from itertools import pairwise
from pathlib import Path

import django
from django.conf import settings
from django.test.utils import get_runner

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

STAMPS: list[float] = []


def stamp() -> None:
    STAMPS.append(time.perf_counter())


def measure(workflow, alias: str, steps: int) -> tuple[float, float]:
    from django.test import Client  # needs configured settings

    from tests.django.harness import hookflow_settings, post, row, wake

    with hookflow_settings(alias, DJANGO_HOOKFLOW_DELIVERY_SECONDS=3600):
        run_id = workflow.trigger({"steps": steps})
        STAMPS.clear()
        post(Client(), wake(run_id, alias=alias))
        assert row(run_id, alias).status == "completed"
    gaps = [after - before for before, after in pairwise(STAMPS)]
    return statistics.median(gaps[100:200]), statistics.median(gaps[-100:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    django.setup()
    from django_hookflow import workflow  # needs configured settings

    @workflow(workflow_id="benchmark.async")
    async def run_async(ctx):
        for _ in range(ctx.data["steps"]):
            await ctx.step.run("noop", stamp)

    @workflow(workflow_id="benchmark.sync")
    def run_sync(ctx):
        for _ in range(ctx.data["steps"]):
            ctx.step.run("noop", stamp)

    folder = Path(os.environ["HOOKFLOW_TEST_DIR"])
    folder.mkdir(exist_ok=True)
    runner = get_runner(settings)(verbosity=0, interactive=False)
    databases = runner.setup_databases()
    try:
        for alias in settings.DATABASES:
            for colour, flow in (("async", run_async), ("sync", run_sync)):
                pairs = [measure(flow, alias, arguments.steps) for _ in range(arguments.rounds)]
                ratio = statistics.median(late / early for early, late in pairs)
                early = statistics.median(early for early, _ in pairs)
                print(
                    f"{alias:9s} {colour:5s} steps 101-200: {early * 1e3:6.2f} ms each, "
                    f"last 100: x {ratio:.2f}"
                )
    finally:
        runner.teardown_databases(databases)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
