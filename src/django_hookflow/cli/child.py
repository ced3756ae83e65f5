"""``python -m django_hookflow.cli.child MODULE ...``: ``python -m MODULE ...`` that ends with the
process which started it.

``hookflow dev`` starts its children by this one. It holds the other end of their standard input
and never writes to it: when it is gone, however it went, that input ends.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

from django_hookflow.cli.children import GRACE

__all__ = ["end_with_parent"]


def end_with_parent() -> None:
    """End this process, and its group after a while, when standard input ends."""
    pipe = os.dup(sys.stdin.fileno())
    # What runs here, and what it starts, reads from an empty input: it must not wait for ever.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)
    threading.Thread(target=_watch, args=(pipe,), name="hookflow-parent", daemon=True).start()


def _watch(pipe: int) -> None:
    while os.read(pipe, 1_024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    # As the parent would have done with those that do not end by themselves.
    time.sleep(GRACE)
    if sys.platform == "win32" or os.getpgrp() != os.getpid():
        os._exit(1)
    os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    end_with_parent()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
