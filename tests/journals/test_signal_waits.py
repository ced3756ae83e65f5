"""A signal waits for nobody's open transaction: it holds the row that every holder needs."""

import threading
from collections.abc import Callable

import pytest
from django.db import connections, transaction

from django_hookflow.core.transitions import Claim, Claimed, Signal
from tests.journals.bench import LEASE, OrmBench


def on_another_connection(alias: str, action: Callable[[], object]) -> threading.Thread:
    def run() -> None:
        try:
            action()
        finally:
            connections[alias].close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_signal_does_not_wait_for_an_event_that_is_not_committed(alias: str) -> None:
    if connections[alias].vendor == "sqlite":
        return  # one writer: whoever is in a transaction is waited for
    bench = OrmBench(alias)
    id = bench.suspended("event:paid")
    inserted, commit = threading.Event(), threading.Event()

    def slow_caller() -> None:
        with transaction.atomic(using=alias):
            bench.send(id, "1")
            inserted.set()
            commit.wait(20)

    caller = on_another_connection(alias, slow_caller)
    try:
        assert inserted.wait(10)
        signal = Signal(id=id, wait="event:paid")
        signalling = on_another_connection(alias, lambda: bench.journal.signal(signal))
        signalling.join(15)
        waits = signalling.is_alive()
    finally:
        commit.set()
        caller.join()
        signalling.join()
    assert not waits
    assert isinstance(bench.journal.claim(Claim(id=id, wake=3, lease=LEASE)), Claimed)
