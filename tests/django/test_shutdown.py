"""SIGTERM in the middle of a delivery: it ends after the step that executes."""

import os
import signal
import threading

import pytest
from django.test import Client

from django_hookflow import workflow
from django_hookflow.shutdown import REFUSE_SECONDS, Shutdown, shutdown

from .harness import drain, hookflow_settings, messages, post, row, wake

pytestmark = [
    pytest.mark.django_db(databases="__all__", transaction=True),
    pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGTERM"),
]

#: What ran, in order.
ran = []


def told_to_end():
    ran.append("first")
    os.kill(os.getpid(), signal.SIGTERM)


@workflow(workflow_id="tests.shutdown.sync")
def sync_flow(ctx):
    ctx.step.run("first", told_to_end)
    ctx.step.run("second", ran.append, "second")


@workflow(workflow_id="tests.shutdown.async")
async def async_flow(ctx):
    await ctx.step.run("first", told_to_end)
    await ctx.step.run("second", ran.append, "second")


@pytest.fixture(autouse=True)
def project(alias):
    ran.clear()
    with hookflow_settings(alias):
        messages()
        yield
        messages()
    shutdown._came_at = float("-inf")  # this process goes on


@pytest.fixture
def servers_handler():
    """What a server would do at SIGTERM; the list says how often it was asked to."""
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(True))
    yield came
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("flow", [sync_flow, async_flow])
def test_a_delivery_ends_after_the_step_that_executes(flow, servers_handler, alias):
    run_id = flow.trigger()
    assert post(Client(), wake(run_id, alias=alias)).status_code == 200
    assert servers_handler == [True]
    assert ran == ["first"]
    run = row(run_id, alias)
    assert (run.status, run.lease_until) == ("suspended", None)
    # Another process is to go on at once.
    assert [message.delay for message in messages()] == [0, 0]
    refused = post(Client(), wake(run_id, run.wake_n, alias))
    assert (refused.status_code, refused["Retry-After"]) == (503, "1")
    shutdown._came_at = float("-inf")  # as another process
    assert post(Client(), wake(run_id, run.wake_n, alias)).status_code == 200
    assert ran == ["first", "second"]
    assert row(run_id, alias).status == "completed"
    assert drain(Client()) == 0


def test_a_process_that_goes_on_after_all_takes_deliveries_again():
    now = [0.0]
    ending = Shutdown(clock=lambda: now[0])
    assert not ending.ending
    ending.take()
    assert ending.ending
    now[0] = REFUSE_SECONDS
    assert not ending.ending


def test_where_nobody_handles_sigterm_a_process_still_dies_of_it():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        Shutdown().watch()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_handler_is_chained_to_once(servers_handler):
    for _ in range(3):
        Shutdown().watch()
    os.kill(os.getpid(), signal.SIGTERM)
    assert servers_handler == [True]


def test_a_thread_that_may_set_no_handler_leaves_it_alone(servers_handler):
    mine = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=Shutdown().watch)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is mine
