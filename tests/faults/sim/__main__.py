"""``python -m tests.faults.sim``; in a module of its own, because a pool's processes import it."""

import sys

from tests.faults.sim.command import main

if __name__ == "__main__":
    sys.exit(main())
