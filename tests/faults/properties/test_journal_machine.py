"""Random transitions of several holders with crashes: each journal does what the protocol says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.db import transaction
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from django_hookflow.core.transitions import Cancel, Retry, SendEvent
from tests.app.models import Effect
from tests.faults.properties import reference_outside as reference
from tests.faults.properties.comparing import attempt
from tests.faults.properties.holder_rules import HolderRules
from tests.faults.properties.machine import runs
from tests.faults.properties.reference import Mail, Row
from tests.faults.properties.settings import trying
from tests.journals.bench import MemoryBench, OrmBench


class MemoryMachine(HolderRules):
    make_bench = MemoryBench


def test_the_journal_in_memory_does_what_the_protocol_says() -> None:
    run_state_machine_as_test(MemoryMachine, settings=trying(200, stateful_step_count=40))


class RolledBack(Exception):
    """The caller's own transaction ended so."""


class OrmMachine(HolderRules):
    """Besides: what joins a transaction of the caller, and the effects of atomic steps."""

    alias = ""
    every = 5
    bench: OrmBench

    def effect(self, id: UUID) -> str:
        Effect.objects.using(self.alias).create(run_id=str(id), step="pay")
        return '"paid"'

    def check(self, id: UUID, row: Row) -> None:
        super().check(id, row)
        paid = sum(step.kind == "atomic" for step in row.steps.values())
        effects = Effect.objects.using(self.alias).filter(run_id=str(id), step="pay")
        assert effects.count() == paid, "I4: an atomic effect without its outcome, or twice"

    @rule(
        id=runs, ask=st.sampled_from(["event", "cancel", "retry", "trigger"]),
        dedup_id=st.sampled_from([None, "d1"]), end=st.sampled_from(["commit", "signal", "raise"]),
    )  # fmt: skip
    def joins_the_callers_transaction(
        self, id: UUID, ask: str, dedup_id: str | None, end: str
    ) -> None:
        """``signal``: the caller dies between its commit and the signal."""
        asks = {
            "event": lambda: self.journal.send_event(
                SendEvent(id=id, name="paid", payload="7", dedup_id=dedup_id)
            ),
            "cancel": lambda: self.journal.cancel(Cancel(id=id)),
            "retry": lambda: self.journal.retry(Retry(id=id)),
            "trigger": lambda: self.journal.trigger(self.asked_for("ghost", "{}", 0, None)[1]),
        }
        end = "raise" if ask == "trigger" else end
        point = "signal:before" if end == "signal" and ask == "event" else ""
        attempt(self.bench, point, partial(self.in_transaction, asks[ask], end))
        self.rows[id] = self.joined(self.rows[id], ask, dedup_id, end)
        self.touched.add(id)

    def in_transaction(self, act: Callable[[], Any], end: str) -> None:
        try:
            with transaction.atomic(using=self.alias):
                act()
                if end == "raise":
                    raise RolledBack
        except RolledBack:
            pass

    def joined(self, row: Row, ask: str, dedup_id: str | None, end: str) -> Row:
        if end == "raise":
            return row
        if ask == "cancel":
            return reference.cancel(row)[1]
        if ask == "retry":
            return reference.retry(row, self.now, None)[1]
        stored = reference.post(row, Mail("paid", "7", dedup_id, seen=False))
        return stored if end == "signal" else reference.signal(stored, self.now, "event:paid")[1]

    def teardown(self) -> None:
        try:
            super().teardown()
            rows = apps.get_model("django_hookflow", "WorkflowRun").objects.using(self.alias)
            assert rows.count() == len(self.rows), "I2: a run that nobody committed"
        finally:
            empty(self.alias)  # the next example has the same ids


def empty(alias: str) -> None:
    for name in ("WorkflowEvent", "WorkflowStep", "WorkflowRun"):
        apps.get_model("django_hookflow", name).objects.using(alias).all().delete()
    Effect.objects.using(alias).all().delete()


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_the_journal_in_a_database_does_what_the_protocol_says(alias: str) -> None:
    empty(alias)
    facts = {"alias": alias, "make_bench": staticmethod(partial(OrmBench, alias))}
    machine = type(f"{alias.title()}Machine", (OrmMachine,), facts)
    run_state_machine_as_test(machine, settings=trying(25, stateful_step_count=40))
