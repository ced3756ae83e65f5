"""From a publish request to a ``Spec``: destinations, ``Upstash-*`` options, forwarded headers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus, urlsplit

from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.messages import HeaderList, Spec
from django_hookflow.devserver.options import (
    read_due,
    read_duration,
    read_flow,
    read_labels,
    read_method,
    read_redaction,
    read_retries,
    read_retry_delay,
    says_true,
)

__all__ = [
    "Headers",
    "Request",
    "check_url",
    "is_url",
    "read_destination",
    "read_spec",
    "with_defaults",
]

Headers = Iterable[tuple[str, str]]

_FORWARD = "upstash-forward-"
_WORKFLOW = "upstash-workflow-"
# How deep callbacks of callbacks may be nested; each is checked when the message comes in.
_DEEPEST = 4
# What belongs to one connection, and what the server itself says with each delivery.
_NEVER_FORWARDED = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "upgrade",
        "accept-encoding",
        "user-agent",
        "content-type",
        "upstash-message-id",
        "upstash-retried",
        "upstash-signature",
        "upstash-caller-ip",
        "upstash-schedule-id",
        "upstash-topic-name",
        "upstash-region",
    }
)
_LONGEST_URL = 65_536
# All of a message's headers together; what comes by HTTP cannot be more anyway.
_LARGEST_HEADERS = 131_072
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A message to publish, before it is known what its destination stands for."""

    destination: str
    headers: HeaderList
    body: bytes
    caller_ip: str
    queue: str | None = None
    schedule_id: str | None = None


def is_url(destination: str) -> bool:
    """Whether it is a URL; if not, it can be the name of a URL group only."""
    return re.match(r"https?://", destination, re.IGNORECASE) is not None


def read_destination(raw: str, query: str) -> tuple[str, list[tuple[str, str]]]:
    """The destination and the options that the query carried for the server itself.

    ``raw`` and ``query`` are as they stood in the request line: a destination is not decoded,
    unless all of it was percent-encoded.
    """
    own: list[tuple[str, str]] = []
    theirs: list[str] = []
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        name = unquote_plus(name).lower()
        if name.startswith("upstash-"):
            own.append((name, unquote_plus(value)))
        elif name != "qstash_token":
            theirs.append(part)
    encoded = re.match(r"https?%3a", raw, re.IGNORECASE)
    destination = unquote(raw) if encoded or not is_url(raw) else raw
    if theirs:
        destination += ("&" if "?" in destination else "?") + "&".join(theirs)
    return destination, own


def with_defaults(headers: HeaderList, defaults: HeaderList) -> HeaderList:
    """The headers, and before them those defaults of which they say nothing else."""
    options = {name.lower(): value for name, value in headers}
    said = set(options)
    if says_true(options, "upstash-header-forward"):
        # Then every header is one to forward.
        said |= {_FORWARD + name for name in options if not name.startswith("upstash-")}
    return (*(pair for pair in defaults if pair[0].lower() not in said), *headers)


def read_spec(
    url: str,
    headers: Headers,
    body: bytes,
    *,
    caller_ip: str,
    now: float,
    depth: int = 0,
) -> Spec:
    """What the publisher asked for; later headers of the same name win.

    Raises ``Refused`` for options that cannot be understood, those of its callbacks included.
    """
    check_url(url)
    headers = [(name, value.strip(" \t")) for name, value in headers]
    _check_headers(headers)
    options = {name.lower(): value for name, value in headers}
    spec = Spec(
        url=url,
        method=read_method(options),
        body=body,
        content_type=options.get("content-type"),
        headers=_forwarded(headers, options),
        retries=read_retries(options),
        created_at=now,
        due=read_due(options, now),
        timeout=read_duration(options, "Upstash-Timeout") or None,
        retry_delay=read_retry_delay(options),
        deduplication_id=options.get("upstash-deduplication-id") or None,
        labels=read_labels(options),
        caller_ip=caller_ip,
        callback=options.get("upstash-callback") or None,
        callback_options=_nested(headers, "upstash-callback"),
        failure_callback=options.get("upstash-failure-callback") or None,
        failure_callback_options=_nested(headers, "upstash-failure-callback"),
        flow=read_flow(options),
        redact=read_redaction(options),
        workflow=_workflow(options),
    )
    _check_callbacks(spec, depth)
    if spec.deduplication_id is None and says_true(options, "upstash-content-based-deduplication"):
        return dataclasses.replace(spec, deduplication_id=spec.content_id())
    return spec


def check_url(url: str, what: str = "destination url") -> None:
    """Raise ``Refused`` unless it can be delivered to."""
    problem = ""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or "://" not in url[:8]:
            problem = "endpoint has invalid scheme, add http:// or https://"
        elif not parts.hostname or parts.port == 0:
            problem = "endpoint has no host"
        elif len(url) > _LONGEST_URL:
            problem = f"endpoint has more than {_LONGEST_URL} characters"
        elif _UNSAFE.search(url):
            problem = "endpoint has characters that must be percent-encoded"
    except ValueError as error:
        problem = str(error)
    if problem:
        raise Refused(400, f"invalid {what}: {problem}")


def _check_headers(headers: Sequence[tuple[str, str]]) -> None:
    if sum(len(name) + len(value) for name, value in headers) > _LARGEST_HEADERS:
        raise Refused(413, f"the headers are larger than {_LARGEST_HEADERS} bytes")
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Refused(400, f"invalid header {name!r}")


def _forwarded(headers: Headers, options: Mapping[str, str]) -> HeaderList:
    everything = says_true(options, "upstash-header-forward")
    forwarded = []
    for full_name, value in headers:
        lower = full_name.lower()
        prefixed = lower.startswith(_FORWARD)
        if not prefixed and (not everything or lower.startswith("upstash-")):
            continue
        name = full_name[len(_FORWARD) :] if prefixed else full_name
        if name and name.lower() not in _NEVER_FORWARDED:
            forwarded.append((name, value))
    return tuple(forwarded)


def _nested(headers: Headers, prefix: str) -> HeaderList:
    """The headers under a callback's prefix, as those that its own publishing has."""
    return tuple(
        ("Upstash" + name[len(prefix) :], value)
        for name, value in headers
        if name.lower().startswith(prefix + "-")
    )


def _check_callbacks(spec: Spec, depth: int) -> None:
    for name, url, options in (
        ("Upstash-Callback", spec.callback, spec.callback_options),
        ("Upstash-Failure-Callback", spec.failure_callback, spec.failure_callback_options),
    ):
        if url is None:
            continue
        if depth == _DEEPEST:
            raise Refused(400, f"{name}: callbacks are nested too deeply")
        check_url(url, f"{name} url")
        try:
            read_spec(url, options, b"", caller_ip="", now=spec.created_at, depth=depth + 1)
        except Refused as refused:
            raise Refused(refused.status, f"{name}: {refused.text}") from None


def _workflow(options: Mapping[str, str]) -> HeaderList:
    said = {
        name[len(_WORKFLOW) :]: value
        for name, value in options.items()
        if name.startswith(_WORKFLOW)
    }
    if not said.get("runid"):
        return ()
    return tuple((said | {"feature-set": options.get("upstash-feature-set", "")}).items())
