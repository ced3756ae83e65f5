"""Workflow runs of ``upstash-workflow``: the steps so far, which every delivery brings along.

A message that names a run is a step of it: when it becomes due its body joins the steps, and
what is delivered is the list of them all. Calls to third parties and their answers name a run
too, but are delivered as they are.
"""

from __future__ import annotations

import base64
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.messages import HeaderList, Message, Spec
from django_hookflow.devserver.store import Store

__all__ = ["Run", "Runs", "is_step"]

_KIND, _STEP = "run", "step"
# Ended runs are remembered, so that their ids are not used twice; the oldest are forgotten first.
_MOST_ENDED = 1_000
_MOST_RUNS = 20_000
_MOST_BYTES = 134_217_728


@dataclass(slots=True, kw_only=True)
class Run:
    """One run; ``created_at`` in Unix milliseconds, ``state`` empty until it is over."""

    id: str
    url: str
    created_at: int
    first: str
    state: str = ""
    steps: list[dict[str, str]] = field(default_factory=list)


def is_step(spec: Spec) -> bool:
    """Whether the message is the beginning or a step of a run."""
    said = dict(spec.workflow)
    return bool(said) and said.get("calltype", "step") == "step"


class Runs:
    """All runs, by id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._runs: dict[str, Run] = {}
        self._size = 0
        self._ended: OrderedDict[str, None] = OrderedDict()

    def load(self) -> None:
        """Take up what was recorded."""
        for name, record in self._store.records(_KIND).items():
            self._runs[name] = Run(id=name, **record)
            if record["state"]:
                self._ended[name] = None
        for step in self._store.records(_STEP).values():
            run = self._runs.get(step["run"])
            if run is not None:
                run.steps.append(step["step"])
                self._size += len(step["step"]["body"])

    def find(self, run_id: str) -> Run | None:
        """The run, if it is known."""
        return self._runs.get(run_id)

    def get(self, run_id: str) -> Run:
        """The run. Raises ``Refused`` (404) also when it is over."""
        run = self._runs.get(run_id)
        if run is None or run.state:
            raise Refused(404, f"workflow run {run_id[:60]} not found")
        return run

    def going(self) -> list[Run]:
        """The runs that are not over."""
        return [run for run in self._runs.values() if not run.state]

    def known_first(self, spec: Spec, instead_of: str = "") -> str | None:
        """The message that began the run which this one would begin once more.

        That is no other if it is ``instead_of``, in whose place this one comes.

        Raises ``Refused`` (400) for a step of a run that is over or never was.
        """
        if not is_step(spec):
            return None
        said = dict(spec.workflow)
        if self._size > _MOST_BYTES:
            raise Refused(429, f"the steps of workflow runs are larger than {_MOST_BYTES} bytes")
        run = self._runs.get(said["runid"])
        if said.get("init", "").lower() == "true":
            return None if run is None or run.first == instead_of else run.first
        if run is None or run.state:
            raise Refused(400, f"workflow run {said['runid'][:60]} is over or was never started")
        return None

    def begin(self, message: Message) -> None:
        """Open the run that the message begins, if it begins one."""
        said = dict(message.spec.workflow)
        if not is_step(message.spec) or said.get("init", "").lower() != "true":
            return
        if len(self._runs) - len(self._ended) >= _MOST_RUNS:
            raise Refused(429, f"{_MOST_RUNS} workflow runs are under way; no more are taken")
        # The message may come in the place of one that was given up, and its run with it.
        self.end(said["runid"], "failed")
        self._ended.pop(said["runid"], None)
        run = Run(id=said["runid"], url=said.get("url") or message.spec.url, first=message.id,
                  created_at=int(message.spec.created_at * 1000))  # fmt: skip
        self._runs[run.id] = run
        self._save(run)

    def discard(self, message: Message) -> None:
        """Undo ``begin``."""
        run = self._runs.get(dict(message.spec.workflow).get("runid", ""))
        if run is not None and run.first == message.id:
            del self._runs[run.id]
            self._store.record(_KIND, run.id, None)

    def take_step(self, message: Message) -> None:
        """The message is due: its body joins the run, once."""
        run = self._of(message)
        if run is None or any(step["messageId"] == message.id for step in run.steps):
            return
        step = {
            "messageId": message.id,
            "body": base64.b64encode(message.spec.body).decode(),
            "callType": "step",
        }
        self._store.record(_STEP, f"{run.id}/{len(run.steps):06d}", {"run": run.id, "step": step})
        run.steps.append(step)
        self._size += len(step["body"])

    def payload(self, message: Message) -> tuple[bytes, HeaderList]:
        """The body to deliver and the headers that say which run it is of."""
        spec = message.spec
        said = dict(spec.workflow)
        if not said or said.get("calltype", "").lower() == "tocallback":
            return spec.body, ()
        run = self._runs.get(said["runid"])
        headers = [
            (f"Upstash-Workflow-{shown}", said[name])
            for name, shown in (("runid", "RunId"), ("url", "Url"), ("init", "Init"))
            if said.get(name)
        ]
        if run is None:
            return spec.body, tuple(headers)
        headers.append(("Upstash-Workflow-CreatedAt", str(run.created_at)))
        if not is_step(spec):
            headers.append(("Upstash-Workflow-CallType", said["calltype"]))
            return spec.body, tuple(headers)
        return json.dumps(run.steps).encode(), tuple(headers)

    def is_over(self, message: Message) -> bool:
        """Whether the message is a step of a run that needs no more of it."""
        run = self._runs.get(dict(message.spec.workflow).get("runid", ""))
        return is_step(message.spec) and (run is None or bool(run.state))

    def failure_facts(self, spec: Spec) -> Mapping[str, Any]:
        """What a failure callback says about the run; its ``sourceBody`` is the first payload."""
        run = self._runs.get(dict(spec.workflow).get("runid", ""))
        if run is None:
            return {}
        facts: dict[str, Any] = {"workflowRunId": run.id, "workflowCreatedAt": run.created_at}
        asked = {name.lower(): value for name, value in spec.failure_callback_options}
        if run.steps and "InitialBody" in asked.get("upstash-feature-set", ""):
            facts["sourceBody"] = run.steps[0]["body"]
        return facts

    def end(self, run_id: str, state: str) -> None:
        """The run is over; ``state`` says how."""
        run = self._runs.get(run_id)
        if run is None or run.state:
            return
        run.state = state
        for number in range(len(run.steps)):
            self._store.record(_STEP, f"{run.id}/{number:06d}", None)
        self._size -= sum(len(step["body"]) for step in run.steps)
        run.steps = []
        self._save(run)
        self._ended[run.id] = None
        while len(self._ended) > _MOST_ENDED:
            name, _ = self._ended.popitem(last=False)
            del self._runs[name]
            self._store.record(_KIND, name, None)

    def fail(self, message: Message) -> None:
        """A step was given up, and with it the run."""
        if is_step(message.spec):
            self.end(dict(message.spec.workflow)["runid"], "failed")

    def _of(self, message: Message) -> Run | None:
        run = self._runs.get(dict(message.spec.workflow).get("runid", ""))
        return run if run is not None and not run.state and is_step(message.spec) else None

    def _save(self, run: Run) -> None:
        fields = {name: getattr(run, name) for name in ("url", "created_at", "first", "state")}
        self._store.record(_KIND, run.id, fields)
