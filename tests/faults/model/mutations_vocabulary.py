"""Rules of pause, cancel, compensation, retry and children, each dropped once."""

from dataclasses import replace

from tests.faults.model import laws
from tests.faults.model.mutations import Mutation, dropped, small
from tests.faults.model.programs import (
    ABANDONS,
    ASLEEP,
    FAILS,
    FAILS_BESIDE,
    FOREVER,
    ONE,
    PARENT,
    RETRIED,
    STEPS,
    UNDONE,
    UNDONE_PAIR,
)
from tests.faults.model.state import CANCEL, DELIVERY_FAULTS, PAUSE, RETRY, World

PAUSED: tuple[Mutation, ...] = (
    dropped(
        "a paused run stays due, and a claim takes it",
        "claim_leaves_paused pause_is_still",
        small(STEPS, users=PAUSE, handlers=2),
        laws.ENDED_PAUSED,
    ),
    dropped(
        "a paused run is suspended",
        "suspend_leaves_paused",
        small(ASLEEP, users=PAUSE),
        laws.ESCAPED_PAUSE,
    ),
    dropped(
        "a paused run that is given back writes no timer",
        "suspend_of_paused_writes_rows",
        small(ASLEEP, users=PAUSE),
        laws.TIME_STANDS,
    ),
    dropped(
        "a paused run completes",
        "finish_leaves_paused",
        small(STEPS, users=PAUSE),
        laws.ENDED_PAUSED,
    ),
    dropped(
        "the commit does not tell that the run is paused",
        "commit_tells_status",
        small(STEPS, users=PAUSE),
        laws.STARTED_LATE,
    ),
    dropped(
        "a paused run's holder loses its message, no sweeper",
        "paused_holder_is_busy",
        small(STEPS, *DELIVERY_FAULTS, users=PAUSE, unswept=True),
        laws.HOPELESS,
    ),
    dropped("a resumed run is not due", "resume_is_due", small(STEPS, users=PAUSE), laws.UNGUARDED),
    dropped(
        "resume leaves the mailbox's version",
        "resume_moves_signals",
        small(STEPS, users=PAUSE),
        laws.UNGUARDED,
    ),
)

CANCELLED: tuple[Mutation, ...] = (
    dropped(
        "cancel fences the holder, and compensations begin at once",
        "cancel_waits_for_holder",
        small(UNDONE, users=CANCEL, handlers=2),
        laws.AFTER_UNDO,
    ),
    dropped(
        "cancel leaves the mailbox's version",
        "cancel_moves_signals",
        small(UNDONE, users=CANCEL),
        laws.SLEEPS_CANCELLING,
    ),
    dropped(
        "a cancelled run completes",
        "finish_leaves_cancelling",
        small(UNDONE_PAIR, users=CANCEL),
        laws.ESCAPED,
    ),
    dropped(
        "an atomic step commits after the decision",
        "atomic_leaves_cancelling",
        small(UNDONE, users=CANCEL),
        laws.TOO_LATE,
    ),
    dropped(
        "a step is started after the decision",
        "start_leaves_cancelling",
        small(UNDONE_PAIR, users=CANCEL),
        laws.TOO_LATE,
    ),
    dropped(
        "the body of a cancelling run goes on",
        "cancelling_runs_no_body",
        small(UNDONE_PAIR, users=CANCEL),
        laws.HOPELESS,
    ),
    dropped(
        "the undo is written with the outcome",
        "undo_before_effect",
        small(UNDONE, "crash", users=CANCEL),
        laws.LEFT_STANDING,
    ),
    dropped(
        "a step of unknown outcome is not compensated",
        "undo_of_unknown",
        small(UNDONE, "crash", users=CANCEL),
        laws.LEFT_STANDING,
    ),
    dropped("compensations oldest first", "undo_newest_first", small(FAILS), laws.WRONG_ORDER),
    dropped(
        "compensations beside a step that executes",
        "undo_after_units",
        small(FAILS_BESIDE),
        laws.UNDONE_UNDER_WAY,
    ),
)

RETRIED_RUN: tuple[Mutation, ...] = (
    dropped(
        "retry supersedes nothing", "retry_supersedes", small(RETRIED, users=RETRY), laws.IN_VAIN
    ),
    dropped(
        "retry keeps the series",
        "retry_takes_new_series",
        small(RETRIED, users=RETRY),
        laws.TOO_OFTEN,
    ),
    dropped(
        "retry of what was compensated",
        "retry_asks_for_compensations",
        small(FAILS, users=RETRY),
        laws.STANDS_UNDONE,
    ),
    dropped(
        "a retried run is not due", "retry_is_due", small(RETRIED, users=RETRY), laws.UNGUARDED
    ),
)

CHILD = World(name="child", program=ONE, handlers=1)
ENDLESS = World(name="endless child", program=FOREVER, handlers=1)
CANCELLED_CHILD = replace(ENDLESS, users=CANCEL)

CHILDREN: tuple[Mutation, ...] = (
    dropped(
        "a child is created apart from its parent's row",
        "child_with_row",
        replace(small(PARENT, "crash"), child=CHILD, handlers=1),
        laws.HOPELESS,
    ),
    dropped(
        "a child's end does not signal its parent",
        "child_end_signals",
        replace(small(PARENT), child=CHILD, handlers=1),
        laws.HOPELESS,
    ),
    dropped(
        "a child that is cancelled does not signal its parent",
        "child_cancel_signals",
        replace(small(PARENT), child=CANCELLED_CHILD, handlers=1),
        laws.HOPELESS,
    ),
    dropped(
        "cancel leaves the children, no sweeper",
        "cancel_takes_children",
        replace(small(PARENT, unswept=True, users=CANCEL), child=ENDLESS),
        laws.HOPELESS,
    ),
    dropped(
        "the sweeper leaves children that a cancel has left",
        "sweep_children",
        replace(small(PARENT, users=CANCEL), child=ENDLESS, rest=True),
        laws.HOPELESS,
    ),
    dropped(
        "the sweeper leaves children that nobody waits for",
        "sweep_children",
        replace(small(ABANDONS), child=ENDLESS, handlers=1),
        laws.HOPELESS,
    ),
)

VOCABULARY = (*PAUSED, *CANCELLED, *RETRIED_RUN, *CHILDREN)
