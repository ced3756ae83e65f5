"""``python -m tests.faults.sim --seeds 100000``: many seeds on all cores, with progress.

Ends with 1 and the seeds that broke a promise, each with what went wrong; ``--seed N --trace``
shows one of them again, event by event. ``--pairs`` is the crash sweep with two deaths: every
crash point that a workflow passes, then every one that it passes after that; ``--pairs 20000``
ends after so many, of workflows and first deaths in an order by chance.
"""

import argparse
import gc
import logging
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: 0)")
    parser.add_argument(
        "--pairs",
        type=int,
        nargs="?",
        const=sys.maxsize,
        metavar="MOST",
        help="pairs of crashes, no seeds: all of them, or about so many",
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="print what happened, with --seed")
    return parser.parse_args()


def set_up(places: Any = None) -> None:
    """The seeds on the in-memory journal need no server.

    Each process has a core of its own, if ``places`` are given: a ``def`` body's thread and the
    loop only ever wait for each other, and to wake another core for that takes a tenth longer.
    """
    if places is not None and not places.empty():  # it is when one of them takes another's place
        os.sched_setaffinity(0, {places.get()})
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    os.environ.update(HOOKFLOW_TEST_PG="off", HOOKFLOW_TEST_MARIADB="off")
    import django  # after the environment is set

    django.setup()
    import tests.faults.sim.world  # noqa: F401  # all that stays

    gc.freeze()  # else each full collection looks at all of Django again
    logging.disable(logging.CRITICAL)


def run_seed(seed: int) -> tuple[int, str, Counter[str]]:
    from tests.faults.sim.world import world_of  # needs the set-up

    world = world_of(seed)
    try:
        world.simulate()
    except Exception as error:
        return seed, f"{type(error).__name__}: {error}", world.faults.happened
    counts = world.faults.happened + Counter(runs=len(world.runs), commits=world.watch.commits)
    return seed, "", counts + Counter(messages=world.broker.accepted)


def one(seed: int, *, trace: bool) -> int:
    from tests.faults.sim.world import world_of  # needs the set-up

    world = world_of(seed)
    print(f"seed {seed}: {world.faults}", *world.programs, sep="\n")
    try:
        world.simulate()
    finally:
        if trace:
            print(*(f"{at:12.3f}  {who:4} {what}" for at, who, what in world.log), sep="\n")
    print(f"seed {seed}: no violation, {dict(world.faults.happened)}")
    return 0


def many(seeds: range, processes: int) -> int:
    started, broken, total = time.monotonic(), [], Counter[str]()
    for done, (seed, what, counts) in enumerate(results(seeds, processes), 1):
        total += counts
        if what:
            broken.append(seed)
            print(f"\nHOOKFLOW_SEED={seed}: {what}", flush=True)
        if done % 500 == 0 or done == len(seeds):
            rate = done / (time.monotonic() - started) * 60
            print(f"{done} of {len(seeds)} seeds, {rate:.0f} a minute, {len(broken)} broken")
    print("; ".join(f"{what} {count}" for what, count in sorted(total.items())))
    return 1 if broken else 0


def run_pairs(first: Any) -> tuple[int, list[str]]:
    """Every second death after a first: how many cases, and those that broke a promise."""
    from tests.faults.sim import sweep  # needs the set-up

    found = [what_broke(sweep.world_of(case), str(case)) for case in sweep.then(first)]
    return len(found), [what for what in found if what]


def what_broke(world: Any, name: str) -> str:
    try:
        world.simulate()
    except Exception as error:
        return f"{name}: {type(error).__name__}: {error}"
    return ""


def pairs(processes: int, most: int) -> int:
    started, done, bad = time.monotonic(), 0, 0
    from tests.faults.sim.sweep import PROGRAMS, singles  # needs the set-up

    firsts = [case for program in PROGRAMS for case in singles(program)]
    random.Random(0).shuffle(firsts)
    with crew(processes) as pool:
        for number, (count, broken) in enumerate(pool.imap_unordered(run_pairs, firsts), 1):
            done, bad = done + count, bad + len(broken)
            print(*broken, sep="\n", end="\n" if broken else "", flush=True)
            if number % 100 == 0 or number == len(firsts) or done >= most:
                took = time.monotonic() - started
                print(f"{number} of {len(firsts)} first deaths, {done} pairs", end=", ")
                print(f"{bad} broken, {took:.0f} s", flush=True)
            if done >= most:
                break
    return 1 if bad else 0


def crew(processes: int) -> Any:
    context = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    places = context.SimpleQueue() if 0 < processes <= len(cores) else None
    for core in cores if places is not None else ():
        places.put(core)
    return context.Pool(processes, initializer=set_up, initargs=(places,))


def results(seeds: range, processes: int) -> Iterator[tuple[int, str, Counter[str]]]:
    with crew(processes) as pool:
        yield from pool.imap_unordered(run_seed, seeds, chunksize=20)


def main() -> int:
    asked = arguments()
    if asked.seed is not None:
        set_up()
        return one(asked.seed, trace=asked.trace)
    if asked.pairs is not None:
        set_up()
        return pairs(asked.processes, asked.pairs)
    return many(range(asked.first, asked.first + asked.seeds), asked.processes)
