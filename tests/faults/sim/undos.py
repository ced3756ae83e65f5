"""What runs after a body's end: compensations and ``on_failure``, in the ledger like any step.

A compensation is found by its name, so the simulated world that it belongs to is the one whose
process calls it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django_hookflow.core.entries import idempotency_key
from django_hookflow.engine.calls import CallResponse
from django_hookflow.engine.place import StepInfo, current_step
from tests.faults.sim.ledger import Line, Violation, host

ON_FAILURE = "on_failure"
UNDO = "/undo"


class CannotUndo(Exception):
    """The attempt fails, as the program says."""


def undo(result: Any, fails: int) -> None:
    """Undo a step in this world, after so many attempts that fail."""
    info = current_step()
    given = result.data if isinstance(result, CallResponse) else result
    _write(info, f"{info.step_id}#", UNDO, given)
    if info.attempt <= fails:
        raise CannotUndo(info.step_id)


async def undo_async(result: Any, fails: int) -> None:
    """The same in the other colour."""
    undo(result, fails)


def on_failure(fails: int) -> Callable[[Any, dict[str, Any]], None]:
    """What a workflow has told after its failure; its first ``fails`` attempts fail."""

    def told(ctx: Any, error: dict[str, Any]) -> None:
        info = current_step()
        _write(info, ON_FAILURE, "", error["step"])
        if info.attempt <= fails:
            raise CannotUndo(ON_FAILURE)

    return told


def _write(info: StepInfo, start: str, end: str, given: Any) -> None:
    world = host.get().world
    line = Line(info.run_id, "", info.attempt, info.idempotency_key, given=given)
    world.ledger.put(replace(line, key=_key(world.id_of(info.run_id), info, start, end)))


def _key(run: Any, info: StepInfo, start: str, end: str) -> str:
    """The step's key, which is told by its idempotency key alone: the steps of one id repeat."""
    numbers = range(1, 50) if end else ("",)
    for series in range(10):
        for number in numbers:
            key = f"{start}{number}{end}"
            if idempotency_key(str(run), 0, series, key) == info.idempotency_key:
                return key
    raise Violation(f"{info.step_id} of run {info.run_id} has an idempotency key of its own")
