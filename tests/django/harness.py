"""Deliveries to the real view: signed messages, by Django's own clients."""

from __future__ import annotations

import time
from typing import Any

from django.apps import apps
from django.test import AsyncClient, Client, override_settings

from django_hookflow.core.messages import Wake
from django_hookflow.runtime import runtime
from django_hookflow.transports.signing import sign

URL = "https://app.example/hookflow/"
PATH = "/hookflow/"
KEY = "sig_current_test_key_0123456789ab"
MEMORY = "django_hookflow.transports.memory.MemoryTransport"


def hookflow_settings(alias: str = "default", **more: Any) -> override_settings:
    """Settings of a project whose journal is on ``alias``."""
    return override_settings(
        DJANGO_HOOKFLOW_TRANSPORT=MEMORY,
        DJANGO_HOOKFLOW_DATABASE=alias,
        DJANGO_HOOKFLOW_DOMAIN="https://app.example",
        QSTASH_CURRENT_SIGNING_KEY=KEY,
        QSTASH_NEXT_SIGNING_KEY="sig_next_test_key_0123456789abcdef"[:32],
        **more,
    )


def signature(body: bytes, *, url: str = URL, key: str = KEY, now: float | None = None) -> str:
    return sign(key=key, url=url, body=body, now=int(now or time.time()), jti="jwt_test")


def post(client: Client, body: bytes, token: str | None = None, **more: Any) -> Any:
    headers = {"HTTP_UPSTASH_SIGNATURE": signature(body) if token is None else token}
    return client.post(PATH, data=body, content_type="application/json", **headers, **more)


async def apost(client: AsyncClient, body: bytes, token: str | None = None, **more: Any) -> Any:
    headers = {"Upstash-Signature": signature(body) if token is None else token}
    return await client.post(
        PATH, data=body, content_type="application/json", headers=headers, **more
    )


def row(run_id: str, alias: str = "default") -> Any:
    return apps.get_model("django_hookflow", "WorkflowRun").objects.using(alias).get(run_id=run_id)


def wake(run_id: str, number: int = 1, alias: str = "default") -> bytes:
    return Wake(run=row(run_id, alias).id, number=number).encode().encode()


def messages() -> list[Any]:
    """What the in-memory transport took since the last look."""
    return runtime.transport.take()  # type: ignore[attr-defined]


def drain(client: Client, limit: int = 30) -> int:
    """Deliver every message until none is left; how many there were."""
    count = 0
    for _ in range(limit):
        pending = messages()
        if not pending:
            return count
        for message in pending:
            count += 1
            assert post(client, message.body.encode()).status_code == 200
    raise AssertionError("messages without end")
