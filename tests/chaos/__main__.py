"""``python -m tests.chaos``: a chaos run with real processes, and what came of it.

A web server with two workers, the local QStash server, a sweeper and a ledger, all on the
loopback; faults from one seed; exit code 1 if anything was lost, repeated without reason or out
of order.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.chaos.plants import PLANTS
from tests.chaos.shapes import NAMES
from tests.chaos.timeline import LEASE, Amounts

#: Kills from which on it pays to fill a cache of compiled modules.
CACHED = 10


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    add = parser.add_argument
    add("--runs", type=int, default=200, help="runs to start (default: %(default)s)")
    add("--kills", type=int, default=12, help="SIGKILLs of a worker (default: %(default)s)")
    add("--cuts", type=int, default=2, help="cuts of several database connections each "
        "(default: %(default)s)")  # fmt: skip
    add("--stops", type=int, help="SIGSTOPs past the lease, then SIGCONT (default: kills / 10)")
    add("--hosts", type=int, help="deaths of the server with its workers (default: kills / 20)")
    add("--restarts", type=int, default=1, help="deaths of QStash (default: %(default)s)")
    add("--drops", type=int, help="messages that QStash loses (default: runs / 25)")
    add("--duplicates", type=int, help="messages that come twice (default: runs / 10)")
    add("--refusals", type=int, help="publish requests answered 500 (default: runs / 50)")
    add("--seconds", type=float, help="time of the faults (default: enough for all of them)")
    add("--patience", type=float, default=130.0, help="seconds without any run's end after which "
        "the others count as lost (default: %(default)s)")  # fmt: skip
    add("--lease", type=float, default=LEASE, help="seconds; a holder that gets no processor "
        "for so long loses its run, which no fault explains (default: %(default)s)")  # fmt: skip
    add("--seed", type=int, help="repeats the plan of another run")
    add("--database", choices=["postgres", "sqlite"], help="default: postgres if it is there")
    add(
        "--server",
        choices=("pair", "master"),
        default="pair",
        help="pair: two uvicorn processes "
        "on one socket; master: uvicorn --workers 2, which is slow to replace some of its dead",
    )
    add("--shapes", nargs="+", choices=NAMES, default=(), help="programs to run (default: all)")
    bugs = "; ".join(f"{name}: {what}" for name, what in PLANTS.items())
    add("--plant", choices=PLANTS, default="", help=f"a bug to plant, to be found ({bugs})")
    add("--keep", action="store_true", help="leave the folder with logs and ledger")
    add("--json", action="store_true", help="print the figures as one JSON object at the end")
    return parser.parse_args()


def amounts(asked: argparse.Namespace, *, cuts: bool) -> Amounts:
    """What is asked for, with what follows from it."""

    def default(given: int | None, value: float) -> int:
        return round(value) if given is None else given

    return Amounts(
        runs=asked.runs,
        kills=asked.kills,
        cuts=asked.cuts if cuts else 0,
        stops=default(asked.stops, asked.kills / 10),
        drops=default(asked.drops, asked.runs / 25),
        duplicates=default(asked.duplicates, asked.runs / 10),
        refusals=default(asked.refusals, asked.runs / 50),
        hosts=default(asked.hosts, asked.kills / 20),
        restarts=asked.restarts,
        seconds=asked.seconds or max(8.0, asked.kills * 2.4, asked.runs * 0.14),
    )


def prepare(asked: argparse.Namespace) -> Path:
    """The environment of this process and of all that it starts, before Django reads it."""
    folder = Path(tempfile.mkdtemp(prefix="hookflow-chaos-"))
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
        "HOOKFLOW_CHAOS_PLANT": asked.plant,
        "HOOKFLOW_LOG": "ERROR",  # of this process: the others write files
        "HOOKFLOW_TEST_CHILD": "1",
        "HOOKFLOW_TEST_DIR": str(folder),
        "HOOKFLOW_TEST_ID": f"{os.getpid()}_chaos",
        "HOOKFLOW_TEST_MARIADB": "off",
    }
    if asked.kills >= CACHED and os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        # A worker is started for each kill: a third of that is compiling, without a cache.
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    if asked.database:
        # Asked for: absence ends the run.
        os.environ["HOOKFLOW_TEST_PG"] = os.environ.get("HOOKFLOW_TEST_PG", "") or {
            "postgres": "postgres://postgres@127.0.0.1:5432/postgres", "sqlite": "off",
        }[asked.database]  # fmt: skip
    return folder


def main() -> int:
    asked = arguments()
    folder = prepare(asked)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clean up as after Ctrl-C
    try:
        return chaos(asked, folder)
    except KeyboardInterrupt:
        print("interrupted")
        return 130
    finally:
        if asked.keep:
            print(f"kept: {folder}")
        else:
            _remove(folder)


def chaos(asked: argparse.Namespace, folder: Path) -> int:
    import django

    django.setup()
    from django.conf import settings

    from tests.chaos.chaos import Options, run
    from tests.chaos.report import table, trouble

    alias = "postgres" if "postgres" in settings.DATABASES else "default"
    seed = secrets.randbelow(10**9) if asked.seed is None else asked.seed
    planned = amounts(asked, cuts=alias == "postgres")
    say(f"seed {seed}; {planned}")
    if alias != "postgres":
        why = settings.NOT_RUN.get("PostgreSQL", "")
        say(f"on SQLite: cuts of database connections are NOT run ({why})")
    options = Options(
        amounts=planned, seed=seed, alias=alias, folder=folder, plant=asked.plant,
        server=asked.server, shapes=asked.shapes, patience=asked.patience,
        lease=asked.lease,
    )  # fmt: skip
    figures, violations, facts = run(options, say)
    for line in [*table(figures), *(trouble(violations, facts) if violations else ())]:
        say(line)
    if asked.json:
        found: list[Any] = [[each.invariant, each.run, each.what] for each in violations]
        print(json.dumps({"seed": seed, **figures.plain(), "violations": found}))
    return 1 if violations else 0


def say(text: str) -> None:
    print(text, flush=True)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
