"""The server wakes up in time for what came to be while it slept."""

from __future__ import annotations

import asyncio

import pytest

from django_hookflow.devserver.clock import VirtualClock
from django_hookflow.devserver.config import Config
from django_hookflow.devserver.publishing import Request
from django_hookflow.devserver.service import Service
from tests.devserver.test_virtual_time import BEGIN


def test_the_next_of_a_queue_gets_the_next_slot_of_its_key(server, http, destination):
    limits = {"Upstash-Flow-Control-Key": "k", "Upstash-Flow-Control-Value": "rate=1"}
    for path in ("a", "b", "c"):
        http.post(f"/v2/enqueue/q/{destination.url}/{path}", headers=limits).raise_for_status()
    server.wait_for(lambda: len(destination.arrivals) == 3, timeout=8)
    assert [arrival.path for arrival in destination.arrivals] == ["/a", "/b", "/c"]


def test_a_key_whose_rate_is_raised_wakes_who_waits(server, client, http, destination):
    limits = {"key": "k", "rate": 1, "period": 604_800}
    for path in ("a", "b", "c"):
        client.message.publish(url=f"{destination.url}/{path}", flow_control=limits)
    server.wait_for(lambda: len(destination.arrivals) == 1)
    http.post("/v2/flowControl/k/pin?rate=1&period=1").raise_for_status()
    server.wait_for(lambda: len(destination.arrivals) == 3, timeout=8)


class Sleeper(VirtualClock):
    """Remembers until when it was to sleep."""

    async def until(self, instant: float | None, changed: asyncio.Event) -> None:
        self.asked = instant
        await super().until(instant, changed)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_schedule_is_awaited_when_it_is_made_or_resumed(resumed):
    clock = Sleeper(BEGIN)

    async def run() -> None:
        service = Service(Config(), clock)
        await service.start()
        request = Request(destination="http://h", headers=(), body=b"", caller_ip="")
        try:
            await asyncio.sleep(0.01)
            assert clock.asked is None
            service.add_schedule(request, "* * * * *", "s")
            if resumed:
                service.schedules.pause("s", True, clock.now())
                service.changed()
                service.dispatcher._changed.set()
                await asyncio.sleep(0.01)
                assert clock.asked is None
                service.schedules.pause("s", False, clock.now())
                service.changed()
            await asyncio.sleep(0.01)
            assert clock.asked == BEGIN + 60
        finally:
            await service.stop()

    asyncio.run(run())
