"""Whether a URL leads to the server itself: what is delivered there would go round in circles."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

__all__ = ["is_loopback", "is_own", "is_private_name"]

_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


def is_loopback(host: str) -> bool:
    """Whether the name or number is one of this machine only."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_private_name(host: str) -> bool:
    """Whether nobody outside can make the name lead to this machine: a number, or a local name."""
    if "." not in host or is_loopback(host):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.rpartition(".")[2].lower() in ("internal", "local", "localhost")
    return True


def is_own(url: str, address: tuple[str, int] | None) -> bool:
    """Whether the URL connects to the host and port on which this server listens."""
    if address is None:
        return False
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return False
    host, listening = parts.hostname or "", address[0]
    if port != address[1]:
        return False
    local = is_loopback(listening) or listening in _EVERYWHERE
    return host == listening or (local and (is_loopback(host) or host in _EVERYWHERE))
