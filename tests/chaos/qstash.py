"""The local QStash server as a process of its own, whose faults are asked for by lines.

``python -m tests.chaos.qstash PORT FILE REWRITE TOKEN KEY NEXT_KEY PATIENCE``: a delivery counts
as unanswered after so many seconds, and is tried again elsewhere. Lines of its standard input:
``drop N``, ``duplicate N``, ``refuse N`` (the next N publish requests are answered 500),
``forget N`` (the same, but the messages are taken), ``tell`` (answers with what happened).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from django_hookflow.devserver.config import Config, parse_rewrite
from django_hookflow.devserver.server import DevServer

#: How much faster than QStash's redeliveries come.
TIME_SCALE = 5.0
#: Deliveries at a time, as flow control limits them. With a hundred, one worker of a busy machine
#: answers none within the patience, and all of them come again.
CONCURRENCY = 16


def main() -> None:
    port, file, rewrite, token, key, next_key, patience = sys.argv[1:]
    config = Config(
        token=token, current_key=key, next_key=next_key, time_scale=TIME_SCALE, db=Path(file),
        rewrites=(parse_rewrite(rewrite),), max_timeout=float(patience),
        concurrency=CONCURRENCY,
    )  # fmt: skip
    with DevServer(port=int(port), config=config) as server:
        print(server.url, flush=True)
        faults = {
            "drop": server.drop_next,
            "duplicate": server.duplicate_next,
            "refuse": server.fail_publish_next,
            "forget": lambda count: server.fail_publish_next(count, accepted=True),
        }
        for line in sys.stdin:
            name, _, count = line.strip().partition(" ")
            if name == "tell":
                print(json.dumps(told(server)), flush=True)
            else:
                faults[name](int(count))


def told(server: DevServer) -> dict[str, int]:
    """What happened since this process began."""
    published, deliveries = server.published(), server.deliveries()
    return {
        "messages": sum(not each.is_duplicate for each in published),
        "dropped": sum(each.is_dropped for each in published),
        "duplicated": sum(each.is_duplicate for each in deliveries),
        "deliveries": len(deliveries),
        "unanswered": sum(each.status == 0 for each in deliveries),
        "refused": sum(each.status == 503 for each in deliveries),
        "dead letters": len(server.dead_letters()),
    }


if __name__ == "__main__":
    main()
