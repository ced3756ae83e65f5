"""Sets the stage: a folder of one's own, the environment, a fresh database, the children."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bootstrap

from demo.children import (
    LOOPBACK,
    Child,
    ChildError,
    free_ports,
    gunicorn,
    payments,
    qstash,
    uvicorn,
)
from django_hookflow.devserver.config import DEFAULT_CURRENT_KEY, DEFAULT_NEXT_KEY, DEFAULT_TOKEN

VAR = Path(__file__).resolve().parent.parent / "var"
#: A killed holder's run is taken over once its lease has run out. QStash is asked to deliver again
#: 5 s after a first failure, so that already the first redelivery can take the run over.
LEASE_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class Stage:
    web: Child
    children: tuple[Child, ...]
    web_url: str
    qstash_url: str
    password: str


@contextlib.contextmanager
def stage(port: int, qstash_port: int, *, wsgi: bool) -> Iterator[Stage]:
    """Everything is up inside, and ended after it."""
    folder = Path(os.environ.get("ORDERS_VAR") or VAR)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder), contextlib.ExitStack() as ends:
        _sweep(folder)
        ports = free_ports(port, qstash_port, *([0] if wsgi else []))
        environment = _environment(folder, *ports)
        os.environ.update(environment)
        _write_down(folder / "demo.env", environment, ends)
        web = (gunicorn if wsgi else uvicorn)(ports[0], folder)
        provider = [payments(ports[2], folder)] if wsgi else []
        children = (qstash(ports[1], folder), *provider, web)
        for child in children:
            ends.callback(child.end)
            child.start()
        password = _database()  # while they start
        for child in children:
            child.wait_until_it_listens()
        yield Stage(
            web=web,
            children=children,
            web_url=environment["DJANGO_HOOKFLOW_DOMAIN"],
            qstash_url=environment["QSTASH_URL"],
            password=password,
        )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One demo per folder at a time: a second one would delete the first one's database."""
    with (folder / "lock").open("a+") as file:
        if not bootstrap.grab(file):
            raise ChildError(
                f"another demo is running on {folder}: end it first, or give this one "
                "another folder in the environment variable ORDERS_VAR"
            )
        yield


def _sweep(folder: Path) -> None:
    """Away with what an earlier demo left; only what a demo writes is touched."""
    for pattern in ("orders.sqlite3*", "ledger.jsonl", "*.log", "demo.env"):
        for path in folder.glob(pattern):
            path.unlink()
    shutil.rmtree(folder / "mail", ignore_errors=True)


def _environment(
    folder: Path, web_port: int, qstash_port: int, payments_port: int = 0
) -> dict[str, str]:
    """For this process and its children, whatever the shell has set: a demo stays local."""
    provider = payments_port or web_port
    return {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DJANGO_DEBUG": "1",
        "DJANGO_ALLOWED_HOSTS": LOOPBACK + ",localhost",
        "ORDERS_VAR": str(folder),
        "QSTASH_URL": f"http://{LOOPBACK}:{qstash_port}",
        "QSTASH_TOKEN": DEFAULT_TOKEN,
        "QSTASH_CURRENT_SIGNING_KEY": DEFAULT_CURRENT_KEY,
        "QSTASH_NEXT_SIGNING_KEY": DEFAULT_NEXT_KEY,
        "DJANGO_HOOKFLOW_DOMAIN": f"http://{LOOPBACK}:{web_port}",
        "DJANGO_HOOKFLOW_LEASE_SECONDS": str(LEASE_SECONDS),
        "ORDERS_PAYMENTS_URL": f"http://{LOOPBACK}:{provider}/payments/",
    }


def _write_down(path: Path, environment: dict[str, str], ends: contextlib.ExitStack) -> None:
    """For ``manage.py`` in another terminal, as long as the demo runs."""
    path.write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
    ends.callback(path.unlink, missing_ok=True)


def _database() -> str:
    """Set Django up in this process too, make the tables, fill them; returns the password."""
    import django  # reads the environment, which is right only now
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    password = secrets.token_urlsafe(9)
    call_command("seed", password=password, verbosity=0)
    return password
