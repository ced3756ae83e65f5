"""What the codec costs on a small value, as a multiple of ``json.dumps`` and ``json.loads``.

``python -m tests.benchmarks.values``
"""

from __future__ import annotations

import json
import timeit
from datetime import datetime, timezone
from functools import partial

from django_hookflow.core.codec import JSONCodec

PLAIN = {"order": "12345", "total": 99.5, "items": [1, 2, 3], "ok": True, "note": None}
DATED = {**PLAIN, "at": datetime(2026, 1, 1, tzinfo=timezone.utc)}


def best(action) -> float:
    return min(timeit.repeat(action, number=2000, repeat=7)) / 2000


def main() -> None:
    codec = JSONCodec()
    plain = json.dumps(PLAIN)
    dumps, loads = best(partial(json.dumps, PLAIN)), best(partial(json.loads, plain))
    for name, value in (("plain", PLAIN), ("with a datetime", DATED)):
        text = codec.encode(value)
        encode, decode = best(partial(codec.encode, value)), best(partial(codec.decode, text))
        print(
            f"{name:16s} encode {encode * 1e6:5.1f} µs (x {encode / dumps:.1f} of json.dumps), "
            f"decode {decode * 1e6:5.1f} µs (x {decode / loads:.1f} of json.loads)"
        )


if __name__ == "__main__":
    main()
