"""What an attempt, an end and the time bring about: callbacks, states, scheduled messages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.callbacks import callback_spec, failure_callback_spec
from django_hookflow.devserver.clock import Clock
from django_hookflow.devserver.dead_letters import DeadLetter
from django_hookflow.devserver.delivery import Outcome
from django_hookflow.devserver.events import State
from django_hookflow.devserver.intake import Intake
from django_hookflow.devserver.messages import Message, Phase, Spec
from django_hookflow.devserver.publishing import Request
from django_hookflow.devserver.runs import Runs
from django_hookflow.devserver.schedules import Schedule, Schedules

__all__ = ["FollowUps"]

logger = logging.getLogger("django_hookflow.devserver")

Resolve = Callable[[Request], tuple[list[Spec], bool]]


class FollowUps:
    """Tells the dispatcher which messages follow; ``resolve`` makes them out of a request."""

    def __init__(self, intake: Intake, runs: Runs, schedules: Schedules, clock: Clock,
                 resolve: Resolve) -> None:  # fmt: skip
        self._intake = intake
        self._runs = runs
        self._schedules = schedules
        self._clock = clock
        self._resolve = resolve

    def attempted(
        self, message: Message, outcome: Outcome, letter: DeadLetter | None
    ) -> Iterable[Message]:
        """The callbacks of this attempt."""
        now = self._clock.now()
        specs = [callback_spec(message, outcome, now)]
        if letter is not None:
            run = self._runs.failure_facts(message.spec)
            specs.append(failure_callback_spec(message, outcome, letter.id, run, now))
        accepted = [self._accept(spec, f"callback of {message.id}") for spec in specs if spec]
        return [callback for callback in accepted if callback is not None]

    def over(self, message: Message, state: State) -> None:
        """Tell the message's schedule."""
        if message.spec.schedule_id is not None:
            result = "SUCCESS" if state is State.DELIVERED else "FAIL"
            self._schedules.note(message.spec.schedule_id, message.id, result)

    def due(self, now: float) -> Iterable[Message]:
        """The messages of schedules whose time has come."""
        next_instant = self._schedules.next_instant
        if next_instant is None or next_instant > now:
            return []
        return [
            message
            for schedule in self._schedules.take_due(now)
            for message in self._publish(schedule)
        ]

    @property
    def next_instant(self) -> float | None:
        """When the next schedule is due."""
        return self._schedules.next_instant

    def _publish(self, schedule: Schedule) -> list[Message]:
        try:
            specs, _ = self._resolve(schedule.request)
        except Refused as refused:
            # Its URL group may be gone.
            specs, schedule.error = [], refused.text
            logger.warning("schedule %s: %s", schedule.id, refused.text)
        accepted = [self._accept(spec, f"schedule {schedule.id}") for spec in specs]
        messages = [message for message in accepted if message is not None]
        schedule.states = {message.id: "IN_PROGRESS" for message in messages}
        self._schedules.save(schedule)
        return messages

    def _accept(self, spec: Spec, what: str) -> Message | None:
        try:
            message, _ = self._intake.accept(spec)
        except Refused as refused:
            logger.error("%s is lost: %s", what, refused.text)
            return None
        return None if message is None or message.phase is Phase.FINISHED else message
