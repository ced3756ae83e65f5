"""A dead letter as a new message: what it was, with what the request says otherwise."""

from __future__ import annotations

import dataclasses

from django_hookflow.devserver.messages import HeaderList, Spec
from django_hookflow.devserver.options import says_true
from django_hookflow.devserver.publishing import read_spec

__all__ = ["retried"]

# Which header decides on which field.
_FIELDS = {
    "upstash-method": "method",
    "upstash-retries": "retries",
    "upstash-retry-delay": "retry_delay",
    "upstash-timeout": "timeout",
    "upstash-delay": "due",
    "upstash-not-before": "due",
    "upstash-label": "labels",
    "upstash-callback": "callback",
    "upstash-failure-callback": "failure_callback",
    "upstash-flow-control-key": "flow",
    "upstash-redact-fields": "redact",
}


def retried(spec: Spec, headers: HeaderList, now: float) -> Spec:
    """The message to publish in the place of ``spec``. Raises ``Refused`` for bad options."""
    given = [(name, value) for name, value in headers if name.lower().startswith("upstash-")]
    asked = read_spec(spec.url, given, b"", caller_ip=spec.caller_ip, now=now)
    names = {_FIELDS.get(name.lower(), "") for name, _ in given} - {""}
    changes = {name: getattr(asked, name) for name in names}
    for name in ("callback_options", "failure_callback_options"):
        if getattr(asked, name):
            changes[name] = getattr(asked, name)
    if asked.headers:
        # A header that is forwarded anew takes the place of those of its name.
        anew = {name.lower() for name, _ in asked.headers}
        kept = tuple(pair for pair in spec.headers if pair[0].lower() not in anew)
        changes["headers"] = kept + asked.headers
    fresh = {"created_at": now, "due": asked.due, "deduplication_id": asked.deduplication_id}
    again = dataclasses.replace(spec, **{**fresh, "holds": None, **changes})
    options = {name.lower(): value for name, value in given}
    by_content = says_true(options, "upstash-content-based-deduplication")
    if by_content and not options.get("upstash-deduplication-id"):
        # What was asked is without the body.
        return dataclasses.replace(again, deduplication_id=again.content_id())
    return again
