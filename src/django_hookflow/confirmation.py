"""The page with one question and one button that a callback's URL shows to a browser.

Whole in itself: no template that a project would have to find, no script, no asset from
elsewhere. Everything that is not ours on it is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from django_hookflow.core.callbacks import Ticket
from django_hookflow.engine.driver import Answer

#: What the button sends.
FIELD = "confirm"

STYLE = """
:root { color-scheme: light dark; --ink: #1c1f24; --soft: #5b6470; --back: #f4f5f7;
  --card: #fff; --line: #d9dde3; --act: #1652d0; --on-act: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #eceef1; --soft: #a4adb9; --back: #14171b;
  --card: #1e2228; --line: #363d47; --act: #7aa7ff; --on-act: #0b1526; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem;
  background: var(--back); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { width: 100%; max-width: 30rem; padding: 2rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .75rem; }
h1 { margin: 0 0 1.5rem; font-size: 1.375rem; line-height: 1.3; overflow-wrap: anywhere; }
p { margin: 1.25rem 0 0; color: var(--soft); font-size: .9375rem; }
h1 + p { margin-top: -.75rem; }
button { width: 100%; min-height: 3rem; padding: .625rem 1.5rem; border: 0; border-radius: .5rem;
  background: var(--act); color: var(--on-act); font: inherit; font-weight: 600; cursor: pointer; }
button:hover { filter: brightness(1.1); }
button:focus-visible { outline: 3px solid var(--ink); outline-offset: 3px; }
"""

_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

HEADERS = {
    "Cache-Control": "no-store",
    # Whoever has the URL can answer: it must not travel on, be found, or be clicked in a frame.
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
}

#: What a person is told for each status: a heading, and what it means.
SENTENCES = {
    202: ("Thank you", "Your answer has been recorded. You can close this page."),
    409: (
        "Nothing was changed",
        "This has been answered already, or the answer is not needed any more.",
    ),
    410: ("This link has expired", "Nothing was changed. Ask whoever sent it for a new one."),
    503: ("Please try again", "The answer could not be recorded just now. Reload in a minute."),
}
OTHERWISE = ("This did not work", "Nothing was changed. Open the link again.")


def confirmed() -> Any:
    """The answer that the button stands for."""
    return {"confirmed": True}


def question(ticket: Ticket) -> HttpResponse:
    """The page that asks."""
    until = timezone.localtime(ticket.expires_at)
    body = format_html(
        '<h1>{}</h1>\n<form method="post"><button type="submit" name="{}" value="yes">Confirm'
        "</button></form>\n<p>Nothing happens before you confirm. This link can be used once, "
        'until <time datetime="{}">{}</time>.</p>',
        ticket.confirm,
        FIELD,
        ticket.expires_at.isoformat(),
        f"{date_format(until, 'DATETIME_FORMAT')} {until:%Z}",
    )
    return _page(ticket.confirm, body, 200)


def result(answer: Answer) -> HttpResponse:
    """The page that says what came of it."""
    heading, sentence = SENTENCES.get(answer.status, OTHERWISE)
    body = format_html("<h1>{}</h1>\n<p>{}</p>", heading, sentence)
    response = _page(heading, body, answer.status)
    if answer.retry_after is not None:
        response["Retry-After"] = str(answer.retry_after)
    return response


def _page(title: str, body: SafeString, status: int) -> HttpResponse:
    html = format_html(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n<main>\n{}\n</main>\n</body>\n"
        "</html>\n",
        title,
        mark_safe(STYLE),  # noqa: S308  # a constant of ours
        body,
    )
    return HttpResponse(html, status=status, headers=HEADERS)
