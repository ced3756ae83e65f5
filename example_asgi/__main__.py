"""``python3 example_asgi``: the demo. Needs nothing but a Python; ``--help`` tells the rest."""

import sys

import bootstrap

if __name__ == "__main__":
    bootstrap.enter(extras=["devserver"])
    from demo.show import main  # what it imports exists only from here on

    sys.exit(main())
