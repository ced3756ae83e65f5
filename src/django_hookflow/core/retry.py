"""How often and when a failed step is tried again. Pure: time and chance come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from django_hookflow.core.grouping import first_of, members, parts
from django_hookflow.core.showing import show
from django_hookflow.exceptions import (
    LONGEST_DELAY,
    RetryAfter,
    SerializationError,
    TerminalError,
    WorkflowDefinitionError,
)

#: Trying again gives the same: the author said so, or the code has to change first.
HOPELESS = (TerminalError, SerializationError, WorkflowDefinitionError)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a step that raised is tried again. Delays are seconds.

    The delay after failed attempt n is ``initial_delay * backoff ** (n - 1)``, at most
    ``max_delay``; with ``jitter`` between half of that and all of it. Errors are told apart
    by type, never by text: ``give_up_on`` wins over ``retry_on``. :class:`TerminalError`
    always stops, :class:`RetryAfter` always names its own delay. Raises :class:`ValueError`
    for what makes no schedule.
    """

    max_attempts: int = 4
    initial_delay: float = 1.0
    backoff: float = 2.0
    max_delay: float = 300.0
    jitter: bool = True
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if type(self.max_attempts) is not int or self.max_attempts < 1:
            raise ValueError(f"max_attempts is an int >= 1, not {show(self.max_attempts)}")
        for name in ("initial_delay", "max_delay"):
            if not _is_number(delay := getattr(self, name), 0, LONGEST_DELAY):
                raise ValueError(
                    f"{name} is a number of seconds from 0 to {LONGEST_DELAY:,}, not {show(delay)}"
                )
        if not _is_number(self.backoff, 1, 1_000_000):
            raise ValueError(f"backoff is a number from 1 to 1,000,000, not {show(self.backoff)}")
        if not isinstance(self.jitter, bool):
            raise ValueError(f"jitter is True or False, not {show(self.jitter)}")
        for name in ("retry_on", "give_up_on"):
            _check_classes(name, getattr(self, name))

    def delay(self, attempt: int, chance: float) -> float:
        """Seconds to wait after failed attempt ``attempt`` (from 1); ``chance`` is in [0, 1)."""
        exponent = min(attempt - 1, 1000)
        try:
            full = min(self.initial_delay * self.backoff**exponent, self.max_delay)
        except OverflowError:
            full = self.max_delay
        return full * (0.5 + chance / 2) if self.jitter else full


def _is_number(value: object, least: float, most: float) -> bool:
    is_one = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_one and least <= value <= most  # type: ignore[operator]  # it is a number then


def _check_classes(name: str, classes: object) -> None:
    if not isinstance(classes, tuple) or not all(
        isinstance(c, type) and issubclass(c, BaseException) for c in classes
    ):
        raise ValueError(f"{name} is a tuple of exception classes, not {show(classes)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAgain:
    """Try again in ``delay`` seconds."""

    delay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """The error is the step's outcome."""


Verdict = Union[TryAgain, GiveUp]


def judge(policy: RetryPolicy, error: BaseException, *, attempt: int, chance: float) -> Verdict:
    """What follows from failed attempt ``attempt`` (from 1).

    A group is what its members are: one that is hopeless gives it up, and unless the policy names
    groups it is tried again only for what each member would be, after the longest time asked for.
    """
    if first_of(error, HOPELESS) is not None or attempt >= policy.max_attempts:
        return GiveUp()
    waits = [part.seconds for part in parts(error) if isinstance(part, RetryAfter)]
    if waits:
        return TryAgain(delay=max(waits))
    passing = isinstance(error, policy.retry_on) or all(
        isinstance(member, policy.retry_on) for member in members(error)
    )
    if first_of(error, policy.give_up_on) is not None or not passing:
        return GiveUp()
    return TryAgain(delay=policy.delay(attempt, chance))
