"""A callback's ticket as the token in its URL, and back.

Signed by Django, with ``SECRET_KEY``: a project rotates that already, ``SECRET_KEY_FALLBACKS``
keep the URLs that are out there valid meanwhile, and there is no further secret to be lost. A
JWT would need a key, and a rotation, of its own. Not by ``signing.dumps``: that signs the time of
signing too, and every replay would make another URL. Not compressed: zlib's output differs
between its versions.

The token can be read by whoever has it, and be made by nobody else.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta, timezone
from typing import Any, Union
from uuid import UUID

from django.core.signing import BadSignature, Signer

from django_hookflow.core.callbacks import Ticket

SALT = "django_hookflow.callback"
#: Of the token's contents. One of a later version is not read by an earlier one.
VERSION = 1

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class _Compact:
    """JSON in UTF-8: Django's own escapes what is not ASCII, which makes long URLs."""

    def dumps(self, obj: Any) -> bytes:
        return json.dumps(obj, separators=(",", ":"), ensure_ascii=False).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)


def write(ticket: Ticket) -> str:
    """The token: letters, digits and ``_-.`` only; the same for the same ticket and key."""
    facts = [
        VERSION,
        base64.urlsafe_b64encode(ticket.run.bytes).decode().rstrip("="),
        ticket.generation,
        ticket.key,
        int((ticket.expires_at - _EPOCH).total_seconds()),
    ]
    if ticket.confirm:
        facts.append(ticket.confirm)
    return _signer().sign_object(facts, serializer=_Compact)


def read(token: str) -> Union[Ticket, None]:
    """The ticket, or ``None`` if this project has not signed the token."""
    if not token.isascii():
        return None  # nothing that Django could compare
    try:
        facts = _signer().unsign_object(token, serializer=_Compact)
    except BadSignature:
        return None
    # Signed, so it is as we wrote it; but perhaps by another version.
    if facts[0] != VERSION:
        return None
    _, run, generation, key, expires, *confirm = facts
    return Ticket(
        run=UUID(bytes=base64.urlsafe_b64decode(f"{run}==")),
        generation=generation,
        key=key,
        expires_at=_EPOCH + timedelta(seconds=expires),
        confirm="".join(confirm),
    )


def _signer() -> Signer:
    # A colon, the usual separator, ends a link in some mail programs.
    return Signer(salt=SALT, sep=".")
