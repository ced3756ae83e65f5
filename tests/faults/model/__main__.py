"""``python -m tests.faults.model``: the search by hand, and for longer than a test may take."""

import argparse
import sys
import time
from dataclasses import replace

from tests.faults.model.explorer import Found, Search
from tests.faults.model.mutations import MUTATIONS
from tests.faults.model.mutations_vocabulary import VOCABULARY as NEW
from tests.faults.model.state import FAULTS, World
from tests.faults.model.worlds import FAMILIES, LONGER, VOCABULARY, WORLDS


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.mutations:
        return _mutations()
    worlds = (*(LONGER if options.faults > 1 else WORLDS), *VOCABULARY, *FAMILIES)
    chosen = [world for world in worlds if not options.world or world.name in options.world]
    total, broken, began = 0, 0, time.monotonic()
    for world in chosen:
        if options.kinds:
            world = replace(world, kinds=world.kinds & set(options.kinds))
        found = _explore(replace(world, faults=options.faults), quiet=options.quiet)
        total += found.states
        broken += len(found.violations)
    seconds = time.monotonic() - began
    print(f"{total:,} states, {broken} violations, {seconds:.0f} s")
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.model",
        description="Explore every interleaving of the protocol's model with bounded faults.",
        epilog="A world with two faults has millions of states: about 1 KB and 40 µs for each.",
    )
    names = [world.name for world in (*WORLDS, *VOCABULARY, *FAMILIES)]
    parser.add_argument("--faults", type=int, default=1, help="how many may happen (default: 1)")
    parser.add_argument("--world", action="append", choices=names, help="only this one; repeatable")
    parser.add_argument(
        "--kinds", action="append", choices=sorted(FAULTS), help="only this kind of fault"
    )
    parser.add_argument("--quiet", action="store_true", help="no lines of progress")
    parser.add_argument("--mutations", action="store_true", help="show what each rule is good for")
    return parser


def _explore(world: World, *, quiet: bool) -> Found:
    began = time.monotonic()

    def progress(done: int, known: int) -> None:
        if not quiet:
            line = f"  {world.name}: {done:,} of {known:,} known states"
            print(f"{line}, {time.monotonic() - began:.0f} s", flush=True)

    found = Search(world).run(progress)
    words = "OK" if not found.violations else "VIOLATED"
    print(
        f"{world.name}: {found.states:,} states, {found.edges:,} steps, {found.completed:,} ends, "
        f"{time.monotonic() - began:.1f} s: {words}",
        *found.violations.values(),
        sep="\n",
        flush=True,
    )
    return found


def _mutations() -> int:
    missed = 0
    for mutation in (*MUTATIONS, *NEW):
        violations = Search(mutation.mutated, until=mutation.law, limit=1_000_000).run().violations
        missed += mutation.law not in violations
        print(f"--- {mutation.name}\n{violations.get(mutation.law, 'NOT CAUGHT')}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
