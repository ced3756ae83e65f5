"""What must be true of the journal's rows at any moment, and what should be, as queries.

Each question is one statement, so it sees one moment also while runs are going on. They read
only, name at most :data:`SHOWN` runs each, decode no value, and are the same on every database.
A *violation* is a row that the protocol cannot have written; a *complaint* is a run that somebody
should look at. The models are looked up, because the system checks are imported before them.

Longer than other modules because it is a list of questions that know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Count, Exists, F, OuterRef, Q, Subquery, Window
from django.db.models.functions import Coalesce, Lag
from django.utils import timezone

from django_hookflow.core.entries import ACTIVE, TERMINAL, Kind, RunStatus, StepStatus
from django_hookflow.registry import registry
from django_hookflow.wakes import SWEEP_MARK

__all__ = [
    "COMPLAINTS",
    "VIOLATIONS",
    "Finding",
    "Gone",
    "Overdue",
    "Question",
    "ask",
    "swept_at",
    "tables_missing",
    "unapplied_migrations",
    "unregistered",
    "unswept",
]

#: Runs that a finding names at most.
SHOWN = 20

#: Longer than any process needs that is alive: an owed message, a run whose time has come.
OWED_TOO_LONG = timedelta(minutes=2)
OVERDUE = timedelta(minutes=5)
MANY_NUDGES = 10

_ENDED = (StepStatus.COMPLETED.value, StepStatus.FAILED.value)
#: Waits that may have no time at which somebody must look.
_UNTIMED = (Kind.EVENT.value,)

#: A query set. Of models that are looked up no type is known.
Rows = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """``name`` for programs, ``sentence`` for people, and the rows of ``WorkflowRun`` it hits."""

    name: str
    sentence: str
    hit: Callable[[str, datetime], Rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The runs that a question hit; there are ``more`` than are named."""

    name: str
    sentence: str
    runs: tuple[str, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A workflow that is not registered in this process, and its unfinished runs."""

    workflow_id: str
    version: str
    runs: int

    @property
    def name(self) -> str:
        """The id, with the version if there is one."""
        return f"{self.workflow_id} {self.version}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """The run that is overdue longest, and when something swept last."""

    run_id: str
    due_at: datetime
    swept_at: datetime | None


def _rows(alias: str, model: str) -> Rows:
    return apps.get_model("django_hookflow", model)._base_manager.using(alias).order_by()


def _runs(alias: str, **facts: Any) -> Rows:
    return _rows(alias, "WorkflowRun").filter(**facts)


def _outcomes(alias: str) -> Rows:
    return _rows(alias, "WorkflowStep").filter(status__in=_ENDED)


def _with(alias: str, steps: Rows) -> Rows:
    """The runs of these steps."""
    return _runs(alias, pk__in=steps.values("workflow_run"))


# --- violations


def _twice(alias: str, now: datetime) -> Rows:
    same = _outcomes(alias).filter(superseded=False).values("workflow_run", "generation", "key")
    return _with(alias, same.annotate(n=Count("pk")).filter(n__gt=1))


def _same_number(alias: str, now: datetime) -> Rows:
    same = _outcomes(alias).values("workflow_run", "generation", "seq")
    return _with(alias, same.annotate(n=Count("pk")).filter(n__gt=1))


def _miscounted(alias: str, now: datetime) -> Rows:
    mine = _outcomes(alias).filter(workflow_run=OuterRef("pk"), generation=OuterRef("generation"))
    counted = mine.values("workflow_run").annotate(n=Count("pk")).values("n")
    return _runs(alias).annotate(n=Coalesce(Subquery(counted), 0)).exclude(n=F("seq"))


def _unnumbered(alias: str, now: datetime) -> Rows:
    steps = _rows(alias, "WorkflowStep")
    pending = Q(status=StepStatus.PENDING.value, seq__isnull=False)
    return _with(alias, steps.filter(pending | Q(status__in=_ENDED, seq__isnull=True)))


def _epochs_fall(alias: str, now: datetime) -> Rows:
    before = Window(
        Lag("epoch"), partition_by=[F("workflow_run"), F("generation")], order_by=F("seq").asc()
    )
    numbered = _outcomes(alias).filter(seq__isnull=False).annotate(before=before)
    return _with(alias, numbered.filter(before__gt=F("epoch")))


def _epoch_ahead(alias: str, now: datetime) -> Rows:
    steps = _rows(alias, "WorkflowStep")
    return _with(alias, steps.filter(epoch__gt=F("workflow_run__epoch")))


def _after_the_end(alias: str, now: datetime) -> Rows:
    late = _outcomes(alias).filter(finished_at__gt=F("workflow_run__finished_at"))
    return _with(alias, late)


def _early_timer(alias: str, now: datetime) -> Rows:
    return _with(alias, _outcomes(alias).filter(kind=Kind.SLEEP, finished_at__lt=F("wake_at")))


def _unguarded(alias: str, now: datetime) -> Rows:
    waits = _rows(alias, "WorkflowStep").filter(
        workflow_run=OuterRef("pk"),
        generation=OuterRef("generation"),
        status=StepStatus.PENDING.value,
        superseded=False,
        kind__in=_UNTIMED,
        wake_at__isnull=True,
    )
    return _runs(alias, status__in=ACTIVE, due_at__isnull=True).filter(~Exists(waits))


def _not_at_rest(alias: str, now: datetime) -> Rows:
    waits = Q(due_at__isnull=False) | Q(owed_at__isnull=False)
    held = Q(lease_until__isnull=False) | Q(finished_at__isnull=True)
    over = Q(status__in=TERMINAL) & (waits | held)
    # A paused run may be held still: by the process whose step was executing. One that was never
    # delivered keeps the time that it was to start at.
    begun = Q(started_at__isnull=False)
    paused = Q(owed_at__isnull=False) | Q(due_at__isnull=False) & begun
    return _runs(alias).filter(over | Q(status=RunStatus.PAUSED) & paused)


def _misheld(alias: str, now: datetime) -> Rows:
    free = Q(status=RunStatus.RUNNING, lease_until__isnull=True)
    # What a dead holder has left of its lease stays on a run that was paused and resumed.
    idle = Q(status__in=(RunStatus.PENDING, RunStatus.SUSPENDED), lease_until__gte=now)
    return _runs(alias).filter(free | idle | Q(status__in=ACTIVE, finished_at__isnull=False))


def _events(alias: str) -> Rows:
    return _rows(alias, "WorkflowEvent").filter(consumed_by__isnull=False)


def _two_events(alias: str, now: datetime) -> Rows:
    several = _events(alias).values("consumed_by").annotate(n=Count("pk")).filter(n__gt=1)
    steps = _rows(alias, "WorkflowStep").filter(pk__in=several.values("consumed_by"))
    return _with(alias, steps)


def _strange_event(alias: str, now: datetime) -> Rows:
    wrong = ~Q(consumed_by__workflow_run=F("workflow_run")) | ~Q(
        consumed_by__kind=Kind.EVENT, consumed_by__status=StepStatus.COMPLETED
    )
    return _with(alias, _events(alias).filter(wrong))


VIOLATIONS: Sequence[Question] = (
    Question(
        name="outcome-twice",
        sentence="A step has more than one outcome in force.",
        hit=_twice,
    ),
    Question(
        name="number-twice",
        sentence="Two outcomes of a run have the same number.",
        hit=_same_number,
    ),
    Question(
        name="miscounted",
        sentence="A run's counter is not the number of its outcomes.",
        hit=_miscounted,
    ),
    Question(
        name="unnumbered",
        sentence="An outcome has no number, or a step without outcome has one.",
        hit=_unnumbered,
    ),
    Question(
        name="epochs-fall",
        sentence="A later outcome was recorded by an earlier holder of the run.",
        hit=_epochs_fall,
    ),
    Question(
        name="epoch-ahead",
        sentence="A step was recorded by a holder that the run has not had yet.",
        hit=_epoch_ahead,
    ),
    Question(
        name="after-the-end",
        sentence="An outcome was recorded after its run had ended (or the database's clock was "
        "set back meanwhile).",
        hit=_after_the_end,
    ),
    Question(
        name="early-timer",
        sentence="A sleep ended before its time (or the database's clock was set back meanwhile).",
        hit=_early_timer,
    ),
    Question(
        name="unguarded",
        sentence="An active run has no time at which somebody looks at it, and waits for no event.",
        hit=_unguarded,
    ),
    Question(
        name="not-at-rest",
        sentence="A run that has ended or is paused is still due, owed a wake-up or held, or has "
        "no time at which it ended.",
        hit=_not_at_rest,
    ),
    Question(
        name="misheld",
        sentence="A run is running without a lease, waits with one, or is active after its end.",
        hit=_misheld,
    ),
    Question(
        name="two-events",
        sentence="A step took more than one event.",
        hit=_two_events,
    ),
    Question(
        name="strange-event",
        sentence="An event was taken by a step of another run, or by one that did not wait for it.",
        hit=_strange_event,
    ),
)


# --- complaints


def _owed_long(alias: str, now: datetime) -> Rows:
    return _runs(alias, owed_at__lt=now - OWED_TOO_LONG).order_by("owed_at")


def _overdue(alias: str, now: datetime) -> Rows:
    return _runs(alias, status__in=ACTIVE, due_at__lt=now - OVERDUE).order_by("due_at")


def _nudged_often(alias: str, now: datetime) -> Rows:
    return _runs(alias, status__in=ACTIVE, nudges__gt=MANY_NUDGES)


def _blocked(alias: str, now: datetime) -> Rows:
    return _runs(alias, status__in=ACTIVE).exclude(blocked="")


COMPLAINTS: Sequence[Question] = (
    Question(
        name="owed",
        sentence="A wake-up is owed for more than 2 minutes: QStash refuses it, or nothing sends "
        "it (see the log of django_hookflow.wakes; python manage.py hookflow sweep).",
        hit=_owed_long,
    ),
    Question(
        name="overdue",
        sentence="A run is overdue by more than 5 minutes: its message got lost, or deliveries do "
        "not arrive (python manage.py hookflow doctor --live).",
        hit=_overdue,
    ),
    Question(
        name="nudged",
        sentence="A run was woken more than 10 times without going on: deliveries do not arrive, "
        "or fail before the run can be claimed.",
        hit=_nudged_often,
    ),
    Question(
        name="blocked",
        sentence="A run is blocked; python manage.py hookflow show says why.",
        hit=_blocked,
    ),
)


def ask(alias: str, questions: Sequence[Question]) -> Iterator[Finding]:
    """The questions that hit something."""
    now = timezone.now()
    for question in questions:
        found = list(question.hit(alias, now).values_list("run_id", flat=True)[: SHOWN + 1])
        if found:
            yield Finding(
                name=question.name,
                sentence=question.sentence,
                runs=tuple(found[:SHOWN]),
                more=len(found) > SHOWN,
            )


# --- what more than one asks


def unregistered(alias: str) -> list[Gone]:
    """Workflows of unfinished runs that this process does not know, by their ids."""
    open_runs = _runs(alias).exclude(status__in=TERMINAL).values_list("workflow_id", "version")
    counted = open_runs.annotate(n=Count("pk")).order_by("workflow_id", "version")
    return [
        Gone(workflow_id=workflow_id, version=version, runs=count)
        for workflow_id, version, count in counted
        if registry.find(workflow_id, version) is None
    ]


def swept_at(alias: str) -> datetime | None:
    """When the last whole pass of a sweeper was."""
    marks = _rows(alias, "HookflowMark").filter(key=SWEEP_MARK)
    at: datetime | None = marks.values_list("at", flat=True).first()
    return at


def unswept(alias: str) -> Overdue | None:
    """The run that is overdue longest, if nothing has swept since it fell due."""
    run = _overdue(alias, timezone.now()).values_list("run_id", "due_at").first()
    if run is None:
        return None
    swept = swept_at(alias)
    if swept is not None and swept >= run[1]:
        return None
    return Overdue(run_id=run[0], due_at=run[1], swept_at=swept)


def tables_missing(alias: str) -> bool:
    """Whether ``migrate`` has not been run on this database."""
    table = apps.get_model("django_hookflow", "WorkflowRun")._meta.db_table
    return table not in connections[alias].introspection.table_names()


def unapplied_migrations(alias: str) -> list[str]:
    """The names of our migrations that this database has not had yet."""
    executor = MigrationExecutor(connections[alias])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes("django_hookflow"))
    return [migration.name for migration, _ in plan if migration.app_label == "django_hookflow"]
