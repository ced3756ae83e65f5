"""Examine settings, tables and rows: what the protocol cannot have written, and what needs a look.

Reads only. It scans the whole journal, so on a large one choose a quiet hour. With --live it also
sends a signed no-op through QStash to this project's webhook and tells which layer answered.
Exit code 1 if something is wrong; with warnings only it is 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.checks import CheckMessage
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from django_hookflow import diagnosis
from django_hookflow.checks import check_settings
from django_hookflow.cli.reading import MIGRATE, telling, to_json
from django_hookflow.cli.terminal import Part, Terminal, one_line
from django_hookflow.conf import options as settings
from django_hookflow.diagnosis import COMPLAINTS, VIOLATIONS, Finding, Gone, Overdue
from django_hookflow.exceptions import ConfigurationError
from django_hookflow.probing import Layer, Probe, Verdict
from django_hookflow.transports.qstash import PublishConfig
from django_hookflow.wording import length, moment

HELP = "examine settings and journal; --live: does a delivery arrive?"

_BAD, _ODD, _GOOD, _HINT = "bold red", "yellow", "green", "dim"


def add_arguments(parser: CommandParser) -> None:
    """What to examine beyond the database."""
    parser.add_argument(
        "--live",
        action="store_true",
        help="send a signed no-op to the webhook through QStash, and tell which layer answered",
    )
    parser.add_argument("--json", action="store_true", help="a JSON object, for programs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """What the tables tell; ``trouble`` is why they could not be read to the end."""

    trouble: str = ""
    migrations: Sequence[str] = ()
    violations: Sequence[Finding] = ()
    complaints: Sequence[Finding] = ()
    unregistered: Sequence[Gone] = ()
    unswept: Overdue | None = None
    swept_at: datetime | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; complaints are no wrong."""
        return not (self.trouble or self.migrations or self.violations)


def handle(terminal: Terminal, **options: Any) -> None:
    """Examine and print; raises ``CommandError`` at the end if something is wrong."""
    messages = [message for message in check_settings() if not message.is_silenced()]
    journal = _examined()
    if not options["json"]:
        _print_settings(terminal, messages)
        _print_journal(terminal, journal)
    live = _probed(terminal, quiet=options["json"]) if options["live"] else None
    if options["json"]:
        terminal.json(_as_json(messages, journal, live))
    elif live is not None:
        _print_live(terminal, live)
    wrong = {
        "the settings": any(message.is_serious() for message in messages),
        "the journal": not journal.ok,
        "the delivery": live is not None and not live.ok,
    }
    if found := [name for name, is_wrong in wrong.items() if is_wrong]:
        raise CommandError(f"Something is wrong with {' and '.join(found)}; see above.")


def _examined() -> Journal:
    try:
        with telling():
            return _examine(settings.database)
    except CommandError as error:
        return Journal(trouble=str(error))


def _examine(alias: str) -> Journal:
    if missing := diagnosis.unapplied_migrations(alias):
        # The columns may not be there that the questions are about.
        return Journal(migrations=missing)
    return Journal(
        violations=tuple(diagnosis.ask(alias, VIOLATIONS)),
        complaints=tuple(diagnosis.ask(alias, COMPLAINTS)),
        unregistered=diagnosis.unregistered(alias),
        unswept=diagnosis.unswept(alias),
        swept_at=diagnosis.swept_at(alias),
    )


def _probed(terminal: Terminal, *, quiet: bool) -> Verdict:
    def progress(line: str) -> None:
        if not quiet:
            terminal.line((f"  {line}", _HINT))
            terminal.stream.flush()

    if not quiet:
        terminal.line(("Delivery", "bold"))
    try:
        config = PublishConfig(
            token=settings.token,
            base_url=settings.qstash_url,
            destination=settings.webhook_url,
            retries=0,
            # Somebody waits and wants to know: longer than a trigger would.
            timeout=max(settings.publish_timeout, 10.0),
        )
    except ConfigurationError as error:
        return Verdict(ok=False, layer=Layer.QSTASH, sentence=f"Nothing was sent: {error}.")
    progress(f"{config.base_url} -> {config.destination}")
    return Probe(config=config, progress=progress).run()


# --- for people


def _print_settings(terminal: Terminal, messages: Sequence[CheckMessage]) -> None:
    terminal.line(("Settings", "bold"))
    for message in messages:
        style = _BAD if message.is_serious() else _ODD
        number = str(message.id).rpartition(".")[2]
        terminal.line((f"  {number} {message.msg}", style))
        for line in str(message.hint or "").splitlines():
            terminal.line((f"       {line}", _HINT))
    if not messages:
        terminal.line(("  as they should be", _GOOD))


def _print_journal(terminal: Terminal, journal: Journal) -> None:
    terminal.line(("Journal", "bold"))
    if journal.trouble:
        terminal.line((f"  {one_line(journal.trouble)}", _BAD))
        return
    if journal.migrations:
        terminal.line((f"  Not migrated: {', '.join(journal.migrations)}. Run {MIGRATE}.", _BAD))
        return
    for finding in journal.violations:
        _print_finding(terminal, finding, _BAD)
    if not journal.violations:
        terminal.line((f"  all {len(VIOLATIONS)} invariants hold", _GOOD))
    for finding in journal.complaints:
        _print_finding(terminal, finding, _ODD)
    for line in _other_complaints(journal):
        terminal.line((f"  {one_line(line)}", _ODD))
    terminal.line((f"  last sweep: {_ago(journal.swept_at)}", _HINT))


def _print_finding(terminal: Terminal, finding: Finding, style: str) -> None:
    terminal.line((f"  {finding.name}: {finding.sentence}", style))
    for run_id in finding.runs:
        terminal.line(f"       {one_line(run_id)}")
    if finding.more:
        terminal.line(("       and more", _HINT))


def _other_complaints(journal: Journal) -> list[str]:
    lines = [
        f"unregistered: {gone.runs} unfinished run(s) of {gone.name}, which is not registered here."
        for gone in journal.unregistered
    ]
    if (late := journal.unswept) is not None:
        lines.append(
            f"unswept: run {late.run_id} is overdue since {moment(late.due_at)}, and nothing swept "
            "since: let python manage.py hookflow sweep --every 30 run."
        )
    return lines


def _ago(time: datetime | None) -> str:
    return "none recorded" if time is None else f"{length(timezone.now() - time)} ago"


def _print_live(terminal: Terminal, verdict: Verdict) -> None:
    parts: list[Part] = [(f"  {one_line(verdict.sentence)}", _GOOD if verdict.ok else _BAD)]
    if verdict.delivered_in is not None:
        parts.append((f" (answered after {verdict.delivered_in:.2f} s)", _HINT))
    terminal.line(*parts)
    if verdict.answer and not verdict.ok:
        terminal.line((f"       {one_line(verdict.answer)}", ""))
    if verdict.hint:
        terminal.line((f"       {verdict.hint}", _HINT))


# --- for programs


def _as_json(
    messages: Sequence[CheckMessage], journal: Journal, live: Verdict | None
) -> dict[str, Any]:
    serious = any(message.is_serious() for message in messages)
    facts = {
        **dataclasses.asdict(journal),
        "violations": [dataclasses.asdict(finding) for finding in journal.violations],
        "complaints": [dataclasses.asdict(finding) for finding in journal.complaints],
        "swept_at": to_json(journal.swept_at),
    }
    return {
        "ok": not serious and journal.ok and (live is None or live.ok),
        "settings": [
            {
                "id": message.id,
                "level": "error" if message.is_serious() else "warning",
                "message": message.msg,
                "hint": message.hint,
            }
            for message in messages
        ],
        "journal": facts,
        "live": None if live is None else dataclasses.asdict(live),
    }
