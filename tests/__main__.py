"""``python3 tests [pytest arguments]``: the whole suite, or what the arguments choose.

Needs nothing but a Python: the environment is made on the first start. Without a path among the
arguments the tests are shared out to a worker for each core (at most four: the tests by the real
clock start processes of their own); ``-n 0`` is the way back to one process.
"""

import sys

# `python3 tests` puts this folder first on the path, where tests/django and tests/typing would
# be taken for the packages of that name.
del sys.path[0]

import importlib.util
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: More than a small machine has cores: the tests wait for databases and servers half of the time.
WORKERS = ["-n", "4", "--dist", "loadgroup"]


def arguments(own: list[str]) -> list[str]:
    """What pytest gets; of two equal options it takes the later, so the user's own ones win."""
    chosen = any(Path(argument.partition("::")[0]).exists() for argument in own)
    return own if chosen else [*WORKERS, *own]


def main() -> None:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "example_asgi/bootstrap.py")
    assert spec
    assert spec.loader
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    python = bootstrap.ensure(extras=["devserver", "postgres"], groups=["test", "workflow"])
    os.chdir(ROOT)
    bootstrap.run([str(python), "-m", "pytest", *arguments(sys.argv[1:])])


if __name__ == "__main__":
    main()
