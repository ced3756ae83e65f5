"""``python -m django_hookflow.devserver`` with the token out of the environment.

``hookflow dev`` starts this one: the token may be the project's real one, and arguments are
shown to every user of the machine.
"""

from __future__ import annotations

import os
import sys

from django_hookflow.devserver.__main__ import main

#: The environment variable that carries the token.
TOKEN = "QSTASH_TOKEN"  # noqa: S105  # a name

if __name__ == "__main__":
    sys.exit(main([*sys.argv[1:], "--token", os.environ[TOKEN]]))
