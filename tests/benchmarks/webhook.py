"""What a refused delivery costs, beside a genuine one: ``python -m tests.benchmarks.webhook``.

Verification alone, in one run, as a multiple of a good signature's; the queries of a refused and
of a stale delivery are counted by tests/faults/test_fuzz_webhook.py.
"""

from __future__ import annotations

import time
import timeit
from functools import partial

from django_hookflow.exceptions import SignatureError
from django_hookflow.transports.signing import sign, verify

KEYS = ("sig_current_key_of_the_benchmark_1", "sig_next_key_of_the_benchmark_12")
URL = "https://app.example/hookflow/"
BODY = b'{"v":1,"run":"01890000-0000-7000-8000-000000000001","w":12}'


def best(action) -> float:
    return min(timeit.repeat(action, number=500, repeat=9)) / 500


def check(token: str, body: bytes = BODY) -> None:
    try:
        verify(token, keys=KEYS, url=URL, body=body)
    except SignatureError:
        return


def main() -> None:
    now = int(time.time())
    good = sign(key=KEYS[0], url=URL, body=BODY, now=now, jti="jwt_1")
    cases = {
        "another account's key": partial(check, good[:-4] + "AAAA"),
        "another body": partial(check, good, BODY + b" "),
        "another URL": partial(
            check, sign(key=KEYS[0], url=URL + "x", body=BODY, now=now, jti="jwt_1")
        ),
        "expired": partial(
            check, sign(key=KEYS[0], url=URL, body=BODY, now=now - 900, jti="jwt_1")
        ),
        "no token at all": partial(check, ""),
        "16 KB of noise": partial(check, "A" * 16_000),
    }
    genuine = best(partial(check, good))
    print(f"{'genuine':24} {genuine * 1e6:6.1f} µs")
    for name, action in cases.items():
        took = best(action)
        print(f"{name:24} {took * 1e6:6.1f} µs  (x {took / genuine:.2f} of a genuine one)")


if __name__ == "__main__":
    main()
