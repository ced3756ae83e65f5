"""What ``ctx.step.call`` may be asked to send: refused when it is asked for, not at every attempt.

httpx finds most of it out only while it sends, where it would count as an attempt that failed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Union

import httpx

from django_hookflow.core.showing import show

#: RFC 9110's token: a method, the name of a header.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}", re.ASCII)


def check_url(url: object) -> str:
    """Return ``url`` or raise a :class:`ValueError`: an http(s) URL with a host."""
    try:
        parsed = httpx.URL(url) if isinstance(url, str) else None
    except (httpx.InvalidURL, ValueError):  # httpx lets some errors of its parts through
        parsed = None
    if parsed is None or parsed.scheme not in ("http", "https") or not _leads_somewhere(parsed):
        raise ValueError(f"a call takes an http:// or https:// URL with a host, not {show(url)}")
    return str(url)


def _leads_somewhere(url: httpx.URL) -> bool:
    # httpx escapes what no host may have, and takes any number for a port.
    escaped = "%" in url.host and ":" not in url.host  # the zone of an IPv6 address
    return bool(url.host) and not escaped and (url.port is None or 0 < url.port < 65_536)


def check_method(method: object) -> str:
    """Return ``method`` in upper case."""
    if not isinstance(method, str) or not _TOKEN.fullmatch(method):
        raise ValueError(f"method is a word such as GET or POST, not {show(method)}")
    return method.upper()


def check_headers(headers: object) -> dict[str, str]:
    """Return ``headers`` as a dict of their own."""
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise TypeError(f"headers is a dict of str to str, not {show(headers)}")
    for name, value in headers.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise ValueError(
                f"a header's name has letters, digits and hyphens, as {show(name)} has not"
            )
        if not _is_header_text(value):
            # The value may be a credential.
            raise ValueError(
                f"the value of header {name!r} is ASCII text without line breaks, control "
                "characters and blanks around it"
            )
    return dict(headers)


def check_key(key: object) -> Union[str, bool, None]:
    """Return ``key``, an idempotency key of the caller's own, or whether to send one."""
    if key is None or isinstance(key, bool):
        return key
    if not isinstance(key, str):
        raise TypeError(f"idempotency_key is a str, False for none, or None, not {show(key)}")
    if not key or not _is_header_text(key):
        raise ValueError(
            "idempotency_key is ASCII text without line breaks, control characters and blanks "
            f"around it, not {show(key)}"
        )
    return key


def check_body(body: Any) -> Any:
    """Return ``body`` if it can be sent."""
    if body is None or isinstance(body, bytes):
        return body
    if not isinstance(body, (str, dict, list)):
        raise TypeError(f"body is a dict, a list, str, bytes or None, not {show(body)}")
    try:
        if not isinstance(body, str):
            # As httpx writes it.
            json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        else:
            body.encode()
    except (TypeError, ValueError, RecursionError) as error:
        kind = "UTF-8" if isinstance(body, str) else "JSON"
        raise ValueError(f"body cannot be sent as {kind}: {error}") from error
    return body


def check_params(params: Any) -> Any:
    """Return ``params`` if a query can be made of it."""
    if params is None:
        return None
    if not isinstance(params, Mapping):
        raise TypeError(f"params is a dict of names and values, not {show(params)}")
    for name, value in params.items():
        values = value if isinstance(value, (list, tuple)) else (value,)
        if not isinstance(name, str) or not all(map(_is_primitive, values)):
            raise TypeError(
                "params has names that are str, and values that are str, int, float, bool or None, "
                f"or a list of them, unlike {show({name: value})}"
            )
    try:
        str(httpx.QueryParams(params))
    except ValueError as error:  # a lone surrogate, an int of 5,000 digits
        raise ValueError(f"params cannot be sent: {error}") from error
    return params


def _is_primitive(value: object) -> bool:
    return value is None or isinstance(value, (str, int, float))


def _is_header_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    return value.isascii() and value.replace("\t", " ").isprintable() and value == value.strip()
