"""What ``hookflow dev`` starts and with which settings: a plan made before anything runs."""

from __future__ import annotations

import json
import os
import shlex
import site
import socket
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.apps import apps
from django.conf import settings
from django.core.management.base import CommandError

from django_hookflow.conf import DEV_OVERRIDES, Options
from django_hookflow.exceptions import ConfigurationError

__all__ = ["HOST", "Plan", "make_plan"]

HOST = "127.0.0.1"
LEASE_SECONDS = 5
SWEEP_SECONDS = 3

# Printed in the documentation of QStash's local server: they protect nothing, and the server
# listens on this machine only. Written out, because devserver needs an extra to be imported.
PUBLIC_TOKEN = "eyJVc2VySUQiOiJkZWZhdWx0VXNlciIsIlBhc3N3b3JkIjoiZGVmYXVsdFBhc3N3b3JkIn0="  # noqa: S105
PUBLIC_KEYS = ("sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r", "sig_5ZB6DVzB1wjE8S6rZ7eenA8Pdnhs")

#: How many ports after the asked-for one are tried for the QStash server.
_NEXT_PORTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Ports, the settings that the children are given, and where deliveries really go."""

    app_port: int
    qstash_port: int
    reload: bool
    token: str
    domain: str
    db: Path | None = None

    @property
    def app_url(self) -> str:
        """Where the ASGI server is."""
        return f"http://{HOST}:{self.app_port}"

    @property
    def qstash_url(self) -> str:
        """Where the local QStash server is."""
        return f"http://{HOST}:{self.qstash_port}"

    def overrides(self) -> dict[str, Any]:
        """Settings that win over the project's, in the children only."""
        return {
            Options.qstash_url.name: self.qstash_url,
            Options.token.name: self.token,
            Options.current_signing_key.name: PUBLIC_KEYS[0],
            Options.next_signing_key.name: PUBLIC_KEYS[1],
            Options.domain.name: self.domain,
            Options.lease_seconds.name: LEASE_SECONDS,
        }

    def environment(self) -> dict[str, str]:
        """The children's environment."""
        overrides = self.overrides()
        plain = {name: str(value) for name, value in overrides.items()}
        return {
            **os.environ,
            # The plain variables are for what reads the environment itself: settings files, and
            # django-qstash next to us.
            **plain,
            DEV_OVERRIDES: json.dumps(overrides),
            "PYTHONPATH": _own_path(),
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
        }

    def line_to_paste(self) -> str:
        """What makes another terminal's processes talk to the local server too.

        Without the token if it is the project's own: that terminal's settings have it, and a
        secret is not printed.
        """
        shown = {
            name: value
            for name, value in self.overrides().items()
            if name in (Options.qstash_url.name, Options.domain.name)
            or (name == Options.token.name and value == PUBLIC_TOKEN)
        }
        text = json.dumps(shown)
        if sys.platform == "win32":
            return f"$env:{DEV_OVERRIDES} = '{text}'"
        return f"export {DEV_OVERRIDES}={shlex.quote(text)}"

    @property
    def dead_letters_url(self) -> str:
        """Where the messages are listed that were given up.

        Complete for a browser, unless the token is the project's own: a secret is not printed.
        """
        url = f"{self.qstash_url}/v2/dlq"
        return f"{url}?qstash_token={quote(PUBLIC_TOKEN)}" if self.token == PUBLIC_TOKEN else url

    def qstash_command(self) -> list[str]:
        """The local QStash server."""
        command = ["django_hookflow.cli.local_qstash", "--port", str(self.qstash_port)]
        if self.db is not None:
            command += ["--db", str(self.db)]
        command += ["--signing-key", PUBLIC_KEYS[0], "--next-signing-key", PUBLIC_KEYS[1]]
        if self.domain != self.app_url:
            command += ["--rewrite", f"{self.domain}={self.app_url}"]
        return command

    def app_command(self) -> list[str]:
        """The ASGI server."""
        command = ["uvicorn", "django_hookflow.cli.asgi:application"]
        command += ["--host", HOST, "--port", str(self.app_port), "--no-use-colors"]
        # A delivery that is cut short is taken up again when its lease has run out.
        command += ["--timeout-graceful-shutdown", "2"]
        if self.reload:
            command += ["--reload", *(f"--reload-dir={path}" for path in _own_folders())]
        return command

    def sweep_command(self) -> list[str]:
        """The sweeper."""
        return ["django", "hookflow", "sweep", "--every", str(SWEEP_SECONDS)]


def make_plan(*, port: int, qstash_port: int, reload: bool, db: Path | None = None) -> Plan:
    """Choose ports and settings; raises ``CommandError`` if the application's port is taken."""
    if not _is_free(port):
        raise CommandError(
            f"Port {port} is taken, perhaps by runserver or another hookflow dev. "
            f"End it, or choose another one: python manage.py hookflow dev --port {port + 1}"
        )
    token, domain = _written(Options.token), _written(Options.domain)
    return Plan(
        app_port=port,
        qstash_port=_free_port(qstash_port, but=port),
        reload=reload,
        token=token or PUBLIC_TOKEN,
        domain=domain or f"http://{HOST}:{port}",
        db=db,
    )


def _written(setting: Any) -> str | None:
    """What the project says, if it says anything; what it says wrongly is told."""
    if setting.written()[1] is None:
        return None
    try:
        return str(setting.read())
    except ConfigurationError as error:
        raise CommandError(str(error)) from error


def _is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def _free_port(port: int, *, but: int) -> int:
    for candidate in range(port, min(port + _NEXT_PORTS, 65_536)):
        if candidate != but and _is_free(candidate):
            return candidate
    raise CommandError(
        f"The ports {port} to {port + _NEXT_PORTS - 1} are all taken. "
        "Choose another one for the QStash server: --qstash-port"
    )


def _own_folders() -> list[Path]:
    """Where the project's code is: watching installed packages costs time all the time."""
    folders = {Path(app.path).resolve() for app in apps.get_app_configs()}
    folders.add(Path(str(sys.modules[settings.SETTINGS_MODULE].__file__)).resolve().parent)
    return sorted(folder for folder in folders if not _is_installed(folder))


def _own_path() -> str:
    """What of ``sys.path`` is not Python's own, which other Pythons started by steps must not see.

    ``python -m`` has neither the folder of manage.py nor what manage.py added.
    """
    paths = [path for path in sys.path if path and not _is_installed(Path(path).resolve())]
    return os.pathsep.join(paths)


def _is_installed(path: Path) -> bool:
    """Whether ``path`` belongs to Python or to an installed package."""
    places = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    known = [Path(place).resolve() for place in (*places, *site.getsitepackages())]
    zipped = path.suffix == ".zip"  # the standard library's, whether it is there or not
    return zipped or any(place == path or place in path.parents for place in known)
