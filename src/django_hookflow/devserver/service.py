"""The server without HTTP: what its parts are, publishing, cancelling, dead letters, keys.

Longer than other modules: it only puts the others together.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from django_hookflow.devserver.addresses import is_own
from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.clock import Clock, WallClock
from django_hookflow.devserver.config import Config
from django_hookflow.devserver.cron import parse_cron
from django_hookflow.devserver.dead_letters import DeadLetter
from django_hookflow.devserver.delivery import Courier
from django_hookflow.devserver.dispatch import Dispatcher
from django_hookflow.devserver.events import EventLog
from django_hookflow.devserver.faults import Faults
from django_hookflow.devserver.file_store import FileStore
from django_hookflow.devserver.filters import Filters
from django_hookflow.devserver.flow import Flows
from django_hookflow.devserver.followups import FollowUps
from django_hookflow.devserver.gates import Gates
from django_hookflow.devserver.groups import Groups
from django_hookflow.devserver.intake import Accepted, Intake, Published
from django_hookflow.devserver.keys import SigningKeys
from django_hookflow.devserver.memory_store import MemoryStore
from django_hookflow.devserver.messages import HeaderList, Message, Phase, Spec
from django_hookflow.devserver.publishing import Request, is_url, read_spec, with_defaults
from django_hookflow.devserver.queues import Queues
from django_hookflow.devserver.recent import Recent
from django_hookflow.devserver.redelivery import retried
from django_hookflow.devserver.runs import Runs
from django_hookflow.devserver.schedules import (
    Schedule,
    Schedules,
    read_id,
    recorded_request,
    restored,
)
from django_hookflow.devserver.store import Store, StoreError

__all__ = ["Published", "Receipt", "Service"]

logger = logging.getLogger("django_hookflow.devserver")

#: A message's id, its URL, whether it was there before.
Receipt = tuple[str, str, bool]


class Service:
    """One QStash account: in memory, or in a file if the settings name one."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self.config = config
        self.clock: Clock = clock or WallClock()
        self.store: Store = (
            MemoryStore(config) if config.db is None else FileStore(config, config.db)
        )
        #: Where the server listens, once it does: it delivers nothing to itself.
        self.address: tuple[str, int] | None = None
        self.faults = Faults()
        self.keys = SigningKeys(config, self.store)
        self.queues = Queues(self.store)
        self.flows = Flows(self.store)
        self.groups = Groups(self.store)
        self.schedules = Schedules(self.store)
        self.runs = Runs(self.store)
        self.gates = Gates(self.queues, self.flows)
        self.intake = Intake(
            self.store,
            self.clock,
            runs=self.runs,
            queues=self.queues,
            flows=self.flows,
            faults=self.faults,
        )
        self.dispatcher = Dispatcher(
            config,
            self.store,
            self.clock,
            gates=self.gates,
            runs=self.runs,
            faults=self.faults,
            followers=FollowUps(self.intake, self.runs, self.schedules, self.clock, self.resolve),
        )
        self._accepted: list[Message] = []
        self._retried: list[DeadLetter] = []
        self._is_open = False

    @property
    def events(self) -> EventLog:
        """The log."""
        return self.store.events

    @property
    def published(self) -> Recent[Published]:
        """What was accepted of late."""
        return self.intake.published

    def open(self) -> None:
        """Take up what was kept, if there is a file. Raises ``StoreError``."""
        now = self.clock.now()
        self.store.open(now)
        self._is_open = True
        self.keys.load()
        self.queues.load()
        self.flows.load(now)
        self.groups.load()
        self.runs.load()
        for schedule_id, record in self.schedules.recorded().items():
            request = recorded_request(schedule_id, record)
            sample = self._sample(request)
            self.schedules.restore(restored(schedule_id, record, request, sample), now)
        if self.config.db is not None:
            left = sum(1 for _ in self.store.unfinished())
            logger.info("%s: %d message(s) of before to deliver, %d dead letter(s)",
                        self.config.db, left, len(self.store.dead_letters.snapshot()))  # fmt: skip

    async def start(self) -> None:
        """Begin to deliver, first what is left of the last time."""
        if not self._is_open:
            self.open()
        await self.dispatcher.start(Courier(self.config, lambda: self.keys.current))

    async def stop(self) -> None:
        """End at once, whatever is in flight; what a file keeps is delivered the next time."""
        await self.dispatcher.stop()
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self.store.close()
        self._is_open = False

    # --- publishing

    @contextmanager
    def accepting(self) -> Iterator[None]:
        """What is published inside is kept before this ends, or all of it refused."""
        self._accepted, self._retried = [], []
        try:
            yield
        finally:
            accepted, self._accepted = self._accepted, []
            letters, self._retried = self._retried, []
            self._keep_accepted(accepted, letters)

    def _keep_accepted(self, accepted: Sequence[Message], letters: Sequence[DeadLetter]) -> None:
        try:
            self.store.commit()
        except StoreError as error:
            for message in accepted:
                self.intake.discard(message)
            for letter in letters:
                self.store.restore_dead_letter(letter)
            raise Refused(500, str(error)) from error
        for message in accepted:
            if message.phase is not Phase.FINISHED:
                self.dispatcher.schedule(message, message.due)
        # At once, so that the slots of a rate are taken when the publisher gets its answer.
        self.dispatcher.turn()

    def publish(self, request: Request) -> tuple[list[Receipt], bool]:
        """Accept a message, or one for each endpoint of a group, and say which of both it was.

        Of a group's, all are accepted or none.

        Call it inside ``accepting``, and await nothing there. Raises ``Refused``.
        """
        specs, is_group = self.resolve(request)
        accepted = self.intake.accept_all(specs)
        return [self._receipt(*one) for one in zip(specs, accepted, strict=True)], is_group

    def _receipt(self, spec: Spec, accepted: Accepted) -> Receipt:
        message, message_id = accepted
        if message is not None:
            self._accepted.append(message)
        return message_id, spec.url, message is None

    def resolve(self, request: Request) -> tuple[list[Spec], bool]:
        """The messages that a request stands for, and whether they are a group's."""
        if is_url(request.destination):
            return [self._spec(request, request.destination)], False
        group = self.groups.find(request.destination)
        if group is None:
            # Says the same as for a URL without scheme, which nobody can tell from it.
            return [self._spec(request, request.destination)], False
        specs = [
            dataclasses.replace(
                self._spec(request, url, group.headers), group=group.name, endpoint=name
            )
            for url, name in group.endpoints.items()
        ]
        # Every endpoint gets the message once, whatever the others got.
        return [
            dataclasses.replace(spec, deduplication_id=f"{spec.deduplication_id} {spec.url}")
            if spec.deduplication_id
            else spec
            for spec in specs
        ], True

    def _spec(self, request: Request, url: str, defaults: HeaderList = ()) -> Spec:
        spec = read_spec(
            url,
            with_defaults(request.headers, defaults),
            request.body,
            caller_ip=request.caller_ip,
            now=self.clock.now(),
        )
        for target in (spec.url, spec.callback, spec.failure_callback):
            if target and is_own(self.config.connect_url(target), self.address):
                raise Refused(400, f"invalid destination url: {target} is this server itself")
        return dataclasses.replace(spec, queue=request.queue, schedule_id=request.schedule_id)

    # --- schedules

    def add_schedule(self, request: Request, cron: str, schedule_id: str) -> str:
        """Create or replace a schedule; its id. Raises ``Refused``."""
        request = dataclasses.replace(request, schedule_id=read_id(schedule_id))
        specs, _ = self.resolve(request)
        if request.queue is not None:
            self.queues.make(request.queue, self.clock.now())
        schedule = Schedule(
            id=request.schedule_id or "",
            request=request,
            cron=parse_cron(cron),
            sample=specs[0],
            created_at=self.clock.now(),
        )
        self.schedules.add(schedule.id, schedule, self.clock.now())
        self.changed()
        return schedule.id

    def _sample(self, request: Request) -> Spec:
        # The destination counts for nothing here: the group that it names may be gone.
        return read_spec("http://sample", request.headers, request.body,
                         caller_ip=request.caller_ip, now=self.clock.now())  # fmt: skip

    # --- cancelling

    def cancel(self, message_id: str) -> int:
        """Cancel one message; 0 if that was asked before. Raises ``Refused`` (404)."""
        message = self.store.get(message_id)
        if message is None or message.phase is Phase.FINISHED:
            raise Refused(404, f"message {message_id} not found")
        return self.cancel_messages([message])

    def cancel_matching(self, filters: Filters, most: int | None) -> int:
        """Cancel what passes the filters, oldest first, at most ``most``; how many that were."""
        return self.cancel_messages(
            [m for m in self.store.unfinished() if _can_be_cancelled(m, filters)][:most]
        )

    def cancel_messages(self, messages: Iterable[Message]) -> int:
        """Cancel these; how many were not cancelled before."""
        chosen = [message for message in messages if not message.cancel_requested]
        for message in chosen:
            self.dispatcher.cancel(message)
        self.changed()
        return len(chosen)

    # --- dead letters

    def remove_dead_letters(self, dlq_ids: Sequence[str]) -> int:
        """Take dead letters away; how many of them there were. Raises ``Refused`` (500)."""
        found = [self.store.dead_letters.get(dlq_id) for dlq_id in dict.fromkeys(dlq_ids)]
        letters = [letter for letter in found if letter is not None]
        for letter in letters:
            self.store.remove_dead_letter(letter.id)
        try:
            self.changed()
        except Refused:
            for letter in letters:
                self.store.restore_dead_letter(letter)
            raise
        return len(letters)

    def retry_dead_letters(
        self, letters: Sequence[DeadLetter], headers: HeaderList = ()
    ) -> list[Receipt | Refused]:
        """Publish each once more as a new message, with what ``headers`` say otherwise.

        What came of each: a letter stays if that is a duplicate or a refusal. Raises ``Refused``
        for bad options, and if nothing can be kept.
        """
        now = self.clock.now()
        specs = [retried(letter.message.spec, headers, now) for letter in letters]
        with self.accepting():
            return [self._retry(*one) for one in zip(letters, specs, strict=True)]

    def _retry(self, letter: DeadLetter, spec: Spec) -> Receipt | Refused:
        try:
            receipt = self._receipt(spec, self.intake.accept(spec, letter.message.id))
        except Refused as refused:
            return refused
        if not receipt[2]:
            self.store.remove_dead_letter(letter.id)
            self._retried.append(letter)
        return receipt

    # --- everything else

    def changed(self) -> None:
        """Keep what was changed, and begin what can begin because of it."""
        try:
            self.store.commit()
        except StoreError as error:
            raise Refused(500, str(error)) from error
        self.dispatcher.turn()

    def flow_changed(self, name: str) -> None:
        """A key was changed: let those start that may now."""
        key = self.flows.make(name, self.clock.now())
        self.flows.save(key)
        self.gates.pump_key(key, self.clock.now())
        self.changed()

    def delete_queue(self, name: str) -> None:
        """Forget a queue; who waited in it is cancelled, who is under way ends as always."""
        waiting = self.queues.get(name).messages()
        for message in waiting:
            self.dispatcher.cancel(message)
        self.queues.remove(name)
        self.changed()


def _can_be_cancelled(message: Message, filters: Filters) -> bool:
    if message.cancel_requested:
        return False
    return filters.match(message.facts(), int(message.spec.created_at * 1000))
