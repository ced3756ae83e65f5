"""The rows: a run, its journal, its mailbox, its tags, and the library's own marks.

The run row is the truth and a message only a hint: whether, who and what is decided by one
conditional UPDATE of it. Only the journals write these tables; everybody else reads, and
controls a run through its methods, which are one-line calls to a port.

Longer than 250 lines because one model is one list of columns, and a column says itself what
its database would otherwise decide: which characters it takes and what it takes for equal.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import models
from django.utils import timezone

from django_hookflow.core import ports
from django_hookflow.core.entries import ErrorRecord, RunStatus, StepStatus
from django_hookflow.exceptions import SerializationError
from django_hookflow.querysets import RunsQuerySet, alters

if TYPE_CHECKING:
    from datetime import datetime

    AnyColumn = models.Field[Any, Any]
    CharColumn = models.CharField[Any, Any]
    TextColumn = models.TextField[Any, Any]
    UUIDColumn = models.UUIDField[Any, Any]
else:
    AnyColumn = models.Field
    CharColumn = models.CharField
    TextColumn = models.TextField
    UUIDColumn = models.UUIDField

#: What ``WorkflowRun.status_now`` says of a run whose holder let its lease run out.
LOST = "lost"


def exact_collation(connection: Any) -> str:
    """The collation of MariaDB or MySQL that takes nothing but equal text for equal.

    Their defaults ignore case and accents, utf8mb4_bin spaces at the end. It brings its
    character set with it: a database may be latin1, what a user passes is not.
    """
    if connection.mysql_is_mariadb:
        return "utf8mb4_nopad_bin"
    # Before 8.0.17 there is none that minds spaces at the end.
    exact = connection.mysql_version >= (8, 0, 17)
    return "utf8mb4_0900_bin" if exact else "utf8mb4_bin"


class Exact(AnyColumn):
    """Any character, compared exactly; PostgreSQL and SQLite do so anyway."""

    def db_parameters(self, connection: Any) -> Any:
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql":
            return {**parameters, "collation": exact_collation(connection)}
        return parameters


class ExactCharField(Exact, CharColumn):
    """An identity: what differs in case, accent or a space is something else."""


class ExactTextField(Exact, TextColumn):
    """Text of any length, every character of which survives."""


class RunIdField(UUIDColumn):
    """A UUID in the same column type whatever the version of Django.

    Django 4.2 keeps UUIDs in char(32) on MariaDB, later versions in its own uuid type, and a
    project that goes from one to the other would find none of its runs.
    """

    def db_type(self, connection: Any) -> Any:
        return "char(32)" if connection.vendor == "mysql" else super().db_type(connection)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        value = super().get_db_prep_value(value, connection, prepared)
        hexadecimal = connection.vendor == "mysql" and isinstance(value, UUID)
        return value.hex if hexadecimal else value


class Encoded(str):
    """Text that is encoded already: a column takes it as it is."""

    __slots__ = ()


class ValueField(ExactTextField):
    """A value, stored as the codec's text and decoded when it is read.

    What the codec cannot read without the workflow's annotations (an enum member) or not at
    all is given as :class:`Encoded` text, so that one broken value never hides a whole row.
    The journals select the text itself and decode nothing.
    """

    def from_db_value(self, value: str | None, *_: object) -> Any:
        if value is None:
            return None
        try:
            return ports.codec().decode(value)
        except SerializationError:
            return Encoded(value)

    def get_prep_value(self, value: Any) -> Any:
        if value is None or hasattr(value, "resolve_expression"):
            return value
        return str(value) if isinstance(value, Encoded) else ports.codec().encode(value)


class ErrorField(ExactTextField):
    """Why something failed: reads as ``None`` or ``{"type", "message", "step"}``."""

    def from_db_value(self, value: str | None, *_: object) -> dict[str, Any] | None:
        if value is None:
            return None
        record = read_error(value)
        return {"type": record.type, "message": record.message, "step": record.step}

    def get_prep_value(self, value: Any) -> Any:
        if isinstance(value, ErrorRecord):
            value = value.to_dict()
        return json.dumps(value) if isinstance(value, dict) else value


def read_error(text: str) -> ErrorRecord:
    """What the column holds; text that is no record becomes the message of one."""
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError):
        stored = None
    return ErrorRecord.from_dict(stored if isinstance(stored, dict) else {"message": text})


def choices_of(statuses: type[RunStatus] | type[StepStatus]) -> list[tuple[str, str]]:
    return [(status.value, status.value) for status in statuses]


class WorkflowRunQuerySet(RunsQuerySet["WorkflowRun"]):
    """Runs."""


class WorkflowRun(models.Model):
    """One run of a workflow, and its handle.

    ``data``, ``result`` and ``state`` read as values; ``error`` as ``None`` or
    ``{"type", "message", "step"}``. Change a run through its methods only.
    """

    Status: ClassVar = RunStatus

    id = RunIdField(primary_key=True, editable=False)
    run_id = ExactCharField(max_length=128, unique=True)
    workflow_id = ExactCharField(max_length=255)
    version = ExactCharField(max_length=255, blank=True, default="")
    seed = models.BigIntegerField(default=0)
    generation = models.PositiveIntegerField(default=0)
    parent = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        default=None,
        on_delete=models.SET_NULL,
        related_name="children",
        # A constraint would make InnoDB lock the parent's row for the insert of a child.
        db_constraint=False,
    )
    parent_step = ExactCharField(
        max_length=220, blank=True, default="", help_text="The parent's step that waits for it."
    )
    depth = models.PositiveSmallIntegerField(
        default=0, help_text="How many runs are above it: 0 for one that nobody invoked."
    )

    status = models.CharField(
        max_length=16, choices=choices_of(RunStatus), default=RunStatus.PENDING.value
    )
    epoch = models.PositiveIntegerField(
        default=0, help_text="Fencing token: grows with every claim, cancel and retry."
    )
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_w = models.PositiveBigIntegerField(default=0)
    due_at = models.DateTimeField(
        null=True, blank=True, help_text="The latest time at which somebody must look."
    )
    deadline = models.DateTimeField(null=True, blank=True)
    wake_n = models.PositiveBigIntegerField(default=0)
    owed_at = models.DateTimeField(
        null=True, blank=True, help_text="Set: wake-up number wake_n still has to be published."
    )
    signals = models.PositiveBigIntegerField(default=0)
    seq = models.PositiveBigIntegerField(default=0, help_text="Number of recorded outcomes.")
    waits = ExactTextField(blank=True, default="")
    nudges = models.PositiveIntegerField(default=0)
    nudged_at = models.DateTimeField(null=True, blank=True)
    deaths = models.PositiveIntegerField(default=0)
    blocked = ExactTextField(
        blank=True, default="", help_text="Why the run cannot go on; empty if it can."
    )
    blocked_n = models.PositiveIntegerField(default=0)

    data = ValueField(null=True, blank=True)
    result = ValueField(null=True, blank=True)
    error = ErrorField(null=True, blank=True)
    state = ValueField(
        null=True, blank=True, help_text="What the workflow tells of itself by ctx.set()."
    )
    state_n = models.PositiveBigIntegerField(
        default=0, help_text="The call of ctx.set() that state is of: earlier ones are replays."
    )
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = WorkflowRunQuerySet.as_manager()

    class Meta:
        verbose_name = "workflow run"
        verbose_name_plural = "workflow runs"
        ordering = ["-id"]  # a uuid7: newest first, and the primary key's own index
        permissions = [
            ("cancel_workflowrun", "Can cancel workflow run"),
            ("pause_workflowrun", "Can pause and resume workflow run"),
            ("retry_workflowrun", "Can retry workflow run"),
            ("view_payload", "Can view data, results and error messages of workflow runs"),
        ]
        # Plain indexes: MySQL silently skips conditional ones.
        indexes = [
            models.Index(fields=["status", "due_at"], name="hookflow_run_due"),
            models.Index(fields=["owed_at"], name="hookflow_run_owed"),
        ]

    def __str__(self) -> str:
        return f"{self.workflow_id} {self.run_id}"

    @property
    def status_now(self) -> str:
        """``status``, but "lost" for a running one whose holder let its lease run out.

        Compares with this process's clock; nothing but the display depends on it.
        """
        if self.status != RunStatus.RUNNING:
            return str(self.status)
        now: datetime = timezone.now()
        return str(self.status) if self.lease_until and self.lease_until >= now else LOST

    @alters
    def cancel(self, compensate: bool = True) -> None:
        """End the run: no further step starts, a step that is executing is not recorded.

        Raises ``RunFinished`` if it is over already.
        """
        ports.controls().cancel(self.pk, compensate=compensate)

    @alters
    async def acancel(self, compensate: bool = True) -> None:
        """:meth:`cancel` for async code."""
        await ports.controls().acancel(self.pk, compensate=compensate)

    @alters
    def pause(self) -> None:
        """Let the run stand still until :meth:`resume`; pausing a paused run changes nothing.

        No further step starts; one that is executing still finishes and is recorded. Events
        that come are kept, and timers go on. Inside ``transaction.atomic()`` it is paused if
        that commits. Raises ``RunFinished`` if the run is over or being cancelled.
        """
        ports.controls().pause(self.pk)

    @alters
    async def apause(self) -> None:
        """:meth:`pause` for async code."""
        await ports.controls().apause(self.pk)

    @alters
    def resume(self) -> None:
        """Let a paused run go on; all that fell due meanwhile is taken up, in order.

        Nothing happens to a run that is not paused, because it goes on anyway. Raises
        ``RunFinished`` if it is over or being cancelled.
        """
        ports.controls().resume(self.pk)

    @alters
    async def aresume(self) -> None:
        """:meth:`resume` for async code."""
        await ports.controls().aresume(self.pk)

    @alters
    def retry(self) -> None:
        """Let a failed run go on from what failed it; recorded steps stay.

        The steps whose failure the workflow had not caught are executed again, under fresh
        idempotency keys; their old outcomes stay for reading, superseded. Raises
        ``RunNotFinished`` for a run that is still going, ``RunFinished`` for one that
        completed or was cancelled.
        """
        ports.controls().retry(self.pk)

    @alters
    async def aretry(self) -> None:
        """:meth:`retry` for async code."""
        await ports.controls().aretry(self.pk)

    @overload
    def fork(self, from_step: str, *, preview: Literal[False] = False) -> WorkflowRun: ...
    @overload
    def fork(self, from_step: str, *, preview: Literal[True]) -> list[str]: ...
    @alters
    def fork(self, from_step: str, *, preview: bool = False) -> WorkflowRun | list[str]:
        """Start a new run that takes over this one's outcomes up to a step; returns it.

        ``from_step`` is a step's id (``"charge"``: its first occurrence) or one with its number
        (``"charge#2"``). What was requested before it is taken over, if it has an outcome; it
        and all else is executed, under idempotency keys of the new run. Data, seed and tags
        are this run's, and so is ``started_at`` if outcomes are taken over, because
        ``ctx.now()`` begins there. This run is left as it is, whatever its status; cancel it
        if it is still going.

        ``preview=True`` writes nothing and returns the keys of the known steps that would be
        executed again. Raises ``ValueError`` for a step that this run has not requested.
        """
        forked = ports.controls().fork(self.pk, from_step, preview=preview)
        return forked if preview else _forked(forked)

    @overload
    async def afork(self, from_step: str, *, preview: Literal[False] = False) -> WorkflowRun: ...
    @overload
    async def afork(self, from_step: str, *, preview: Literal[True]) -> list[str]: ...
    @alters
    async def afork(self, from_step: str, *, preview: bool = False) -> WorkflowRun | list[str]:
        """:meth:`fork` for async code."""
        forked = await ports.controls().afork(self.pk, from_step, preview=preview)
        return forked if preview else await sync_to_async(_forked)(forked)

    @alters
    def send_event(self, name: str, data: Any = None, *, dedup_id: str | None = None) -> None:
        """Put an event into the run's mailbox, for ``ctx.step.wait_for_event`` of that name.

        Inside ``transaction.atomic()`` it is sent if that commits. One that comes before the
        wait is kept. A ``dedup_id`` that this run was sent before (1 to 200 characters) sends
        nothing. Raises ``RunFinished`` if the run is over, ``SerializationError`` for data
        that cannot be stored.
        """
        ports.controls().send_event(self.pk, name, data, dedup_id=dedup_id)

    @alters
    async def asend_event(
        self, name: str, data: Any = None, *, dedup_id: str | None = None
    ) -> None:
        """:meth:`send_event` for async code."""
        await ports.controls().asend_event(self.pk, name, data, dedup_id=dedup_id)

    def get_result(self, timeout: float = 0) -> Any:
        """What the workflow returned; with a timeout, wait so many seconds for it.

        Raises ``RunNotFinished``, ``RunFailed``, ``RunCancelled``, or ``TimeoutError`` when a
        timeout was given and ran out.
        """
        return ports.controls().get_result(self.pk, timeout=timeout)

    async def aget_result(self, timeout: float = 0) -> Any:
        """:meth:`get_result` for async code."""
        return await ports.controls().aget_result(self.pk, timeout=timeout)


def _forked(key: UUID) -> WorkflowRun:
    """From where it was written: what was forked may be from a replica, which lags behind."""
    found: WorkflowRun = WorkflowRun.objects.using(ports.controls().database()).get(pk=key)
    return found


class WorkflowStep(models.Model):
    """One step of a run's journal; a completed or failed row is never changed."""

    Status: ClassVar = StepStatus

    id = models.BigAutoField(primary_key=True)
    workflow_run = models.ForeignKey(WorkflowRun, on_delete=models.CASCADE, related_name="steps")
    generation = models.PositiveIntegerField(default=0)
    key = ExactCharField(max_length=220)  # step_id#n
    series = models.PositiveIntegerField(default=0)
    step_id = ExactCharField(max_length=200)
    occurrence = models.PositiveIntegerField(default=1)
    seq = models.PositiveBigIntegerField(null=True, blank=True)
    requested_seq = models.PositiveBigIntegerField(default=0)
    kind = models.CharField(max_length=16)
    call = ExactTextField(blank=True, default="")
    args_sha = models.CharField(max_length=64, blank=True, default="")
    event = ExactCharField(max_length=220, blank=True, default="")
    child = RunIdField(null=True, blank=True, default=None)
    status = models.CharField(
        max_length=16, choices=choices_of(StepStatus), default=StepStatus.PENDING.value
    )
    superseded = models.BooleanField(default=False)
    attempts = models.PositiveIntegerField(default=0)
    wake_at = models.DateTimeField(null=True, blank=True)
    epoch = models.PositiveIntegerField(default=0)
    result = ValueField(null=True, blank=True)
    error = ErrorField(null=True, blank=True)
    undo = ExactTextField(blank=True, default="")
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "workflow step"
        verbose_name_plural = "workflow steps"
        ordering = ["id"]
        constraints = [
            # The second barrier behind the fence: one outcome per step, whoever writes it.
            models.UniqueConstraint(
                fields=["workflow_run", "generation", "key", "series"], name="hookflow_step_once"
            ),
        ]

    def __str__(self) -> str:
        return str(self.key)


class WorkflowEvent(models.Model):
    """An event in a run's mailbox."""

    id = models.BigAutoField(primary_key=True)
    workflow_run = models.ForeignKey(
        WorkflowRun,
        on_delete=models.CASCADE,
        related_name="events",
        # A constraint would make InnoDB lock the run's row, inside the sender's transaction.
        db_constraint=False,
    )
    source = ExactCharField(max_length=8, default="event")
    name = ExactCharField(max_length=220)
    payload = ValueField(null=True, blank=True)
    dedup_id = ExactCharField(max_length=255, null=True, blank=True)
    consumed_by = models.ForeignKey(
        WorkflowStep,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="consumed_events",
    )
    seen = models.BooleanField(default=False, db_index=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = "workflow event"
        verbose_name_plural = "workflow events"
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["workflow_run", "source", "dedup_id"], name="hookflow_event_once"
            ),
        ]

    def __str__(self) -> str:
        return str(self.name)


class WorkflowTag(models.Model):
    """A word by which runs are found."""

    id = models.BigAutoField(primary_key=True)
    workflow_run = models.ForeignKey(WorkflowRun, on_delete=models.CASCADE, related_name="tags")
    key = ExactCharField(max_length=100)
    value = ExactCharField(max_length=200)

    class Meta:
        verbose_name = "workflow tag"
        verbose_name_plural = "workflow tags"
        indexes = [models.Index(fields=["key", "value"], name="hookflow_tag_value")]
        constraints = [
            # A start that is repeated after an unknown COMMIT tags its run once.
            models.UniqueConstraint(fields=["workflow_run", "key"], name="hookflow_tag_once"),
        ]

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


class HookflowMark(models.Model):
    """When something happened last: the last sweep; a ``jti`` that was accepted."""

    id = models.BigAutoField(primary_key=True)
    key = ExactCharField(max_length=255, unique=True)
    at = models.DateTimeField()

    class Meta:
        verbose_name = "hookflow mark"
        verbose_name_plural = "hookflow marks"

    def __str__(self) -> str:
        return str(self.key)
