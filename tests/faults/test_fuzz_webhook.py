"""Thousands of mutated deliveries to the real view: only the table's answers, nothing touched."""

import base64
import hashlib
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import jwt
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_hookflow.engine.time import SystemClock
from django_hookflow.exceptions import SignatureError
from django_hookflow.models import HookflowMark, WorkflowEvent, WorkflowRun, WorkflowStep
from django_hookflow.runtime import Parts, runtime
from django_hookflow.testing.messages import RowsOnly
from django_hookflow.transports.keys import KeyConfig, SigningKeys
from django_hookflow.transports.signing import Claims
from tests.app.workflows import steps_sync
from tests.django.harness import KEY, hookflow_settings
from tests.faults.fuzz.mutations import Delivery, Maker

#: ``HOOKFLOW_FUZZ=20000`` for the figure in the docs; so many meet each kind a hundred times.
REQUESTS = int(os.environ.get("HOOKFLOW_FUZZ", "4000"))
BATCH = 1000

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def project() -> Iterator[None]:
    """A project whose deliveries look after no other runs: those looks come by the clock."""
    logging.disable(logging.CRITICAL)
    wakes = RowsOnly(journal=runtime.journal, transport=runtime.transport, pool=lambda: None)
    parts = Parts(
        journal=runtime.journal, wakes=wakes, clock=SystemClock(), observe=lambda event: None
    )
    with hookflow_settings(), runtime.replaced(parts):
        yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def maker() -> Maker:
    """Of deliveries to a run that waits, for days, under a later wake-up than theirs."""
    run_id = steps_sync.trigger(delay=timedelta(days=30))
    WorkflowRun.objects.filter(run_id=run_id).update(wake_n=7, owed_at=None)
    run = WorkflowRun.objects.get(run_id=run_id)
    return Maker(random.Random(4), run.id, run.wake_n, int(time.time()))


def fingerprint() -> str:
    """Of every row that a delivery might touch."""
    rows = [
        list(model.objects.order_by("pk").values_list())
        for model in (WorkflowRun, WorkflowStep, WorkflowEvent, HookflowMark)
    ]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def send(client: Client, delivery: Delivery) -> str:
    """What is wrong with the answer; empty if nothing."""
    headers = dict(delivery.headers)
    if delivery.token is not None:
        headers["HTTP_UPSTASH_SIGNATURE"] = delivery.token
    with CaptureQueriesContext(connection) as captured:
        answer = client.generic(
            delivery.method, delivery.path, delivery.body, delivery.content_type, **headers
        )
    if answer.status_code not in delivery.allowed:
        return f"answered {answer.status_code}, not {sorted(delivery.allowed)}"
    if len(captured) != delivery.queries:
        return f"cost {len(captured)} queries, not {delivery.queries}"
    if answer.status_code == 401 and answer.content:
        return f"a refusal says {answer.content!r}"
    hopeless = answer.headers.get("Upstash-NonRetryable-Error") == "true"
    if hopeless is not (answer.status_code == 489):
        return "489 goes with Upstash-NonRetryable-Error, and nothing else does"
    return ""


def fuzzed(maker: Maker, requests: int) -> Counter[str]:
    """Send so many; how many of each kind. Stops at the first wrong answer."""
    client, before, kinds = Client(raise_request_exception=True), fingerprint(), Counter[str]()
    for number in range(requests):
        if number % BATCH == 0:
            maker.now = int(time.time())
        delivery = maker.any()
        kinds[delivery.kind] += 1
        wrong = send(client, delivery)
        assert not wrong, f"request {number}, {delivery.kind}: {wrong}\n{delivery}"
        if number % BATCH == BATCH - 1:
            assert fingerprint() == before, f"a row was changed in the {BATCH} before {number}"
    return kinds


@pytest.mark.slow
def test_only_the_tables_answers_and_no_row_touched(maker: Maker) -> None:
    kinds = fuzzed(maker, REQUESTS)
    assert len(kinds) == 16
    assert min(kinds.values()) > REQUESTS // 50
    print(*(f"{count:6} {kind}" for kind, count in sorted(kinds.items())), sep="\n")


# --- what the fuzzer is worth


class Lax(SigningKeys):
    """A verifier with one check left out."""

    def __init__(self, *, without: str) -> None:
        super().__init__(lambda: KeyConfig(token="", base_url=""))
        self._without = without

    async def verify(self, token: str, url: str, body: bytes) -> Claims:
        try:
            options = {"verify_aud": False, "require": ["exp", "sub"], "verify_sub": False}
            claims = jwt.decode(token, KEY, algorithms=["HS256"], options=options)
            if self._without != "sub" and claims["sub"] != url:
                raise SignatureError("another URL")
            expected = hashlib.sha256(body).digest()
            if self._without != "body" and claims.get("body", "").rstrip("=") != _b64(expected):
                raise SignatureError("another body")
        except (jwt.PyJWTError, AttributeError) as error:
            raise SignatureError(str(error)) from error
        return Claims(jti="", sub=url, exp=int(claims["exp"]))


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.mark.parametrize("without", ["sub", "body"])
def test_a_verifier_with_a_check_left_out_is_found(maker: Maker, without: str) -> None:
    runtime.keys = Lax(without=without)  # a cached property: it is made again when deleted
    try:
        with pytest.raises(AssertionError, match=r"other url|changed body|claims"):
            fuzzed(maker, 2000)
    finally:
        del runtime.keys
