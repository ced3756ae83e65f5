"""Rules of the protocol, each dropped once, with the law that breaks without it.

The worlds are as small as the violation allows; in those without faults it happens on a good day.
"""

from dataclasses import dataclass, replace

from tests.faults.model import laws
from tests.faults.model.programs import MAILBOX, PAIR, RACE, SEQUENCE, TIMED, Program
from tests.faults.model.state import DELIVERY_FAULTS, FAULTS, Rules, World


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """``rules`` are dropped together; ``law`` is broken then, and not before."""

    name: str
    rules: tuple[str, ...]
    world: World
    law: str

    @property
    def mutated(self) -> World:
        rules = replace(Rules(), **dict.fromkeys(self.rules, False))
        return replace(self.world, rules=rules)


def small(
    program: Program,
    *kinds: str,
    unswept: bool = False,
    notes_late: bool = False,
    users: str = "",
    handlers: int = 0,
) -> World:
    return World(
        name=program.name,
        program=program,
        faults=1 if kinds else 0,
        kinds=frozenset(kinds),
        sweeper=not unswept,
        notes_late=notes_late,
        users=users,
        handlers=handlers or (1 if users else 2),
    )


def dropped(name: str, rules: str, world: World, law: str) -> Mutation:
    return Mutation(name=name, rules=tuple(rules.split()), world=world, law=law)


ONE_ANY = tuple(FAULTS)
ONE_DELIVERING = tuple(DELIVERY_FAULTS)

MUTATIONS = (
    # --- the holder
    dropped(
        "no fence, no unique key",
        "fence unique_key",
        small(TIMED, "zombie"),
        laws.TWICE,
    ),
    dropped("no fence", "fence", small(RACE, *ONE_ANY), laws.TOO_OFTEN),
    dropped(
        "a released lease still lets its holder commit",
        "lease_not_null",
        small(RACE, "infra"),
        laws.NOT_CLAIMED,
    ),
    dropped("a claim keeps the epoch", "claim_raises_epoch", small(RACE, *ONE_ANY), laws.TOO_OFTEN),
    dropped(
        "a claim does not ask for the lease",
        "claim_asks_for_the_lease",
        small(TIMED),
        laws.TAKEN_OVER,
    ),
    # --- parallel branches
    dropped("suspend while a unit runs", "suspend_after_units", small(PAIR), laws.TOO_OFTEN),
    dropped(
        "seq given in memory, a branch overtakes", "seq_in_commit", small(RACE), laws.REWRITTEN
    ),
    dropped(
        "seq given in memory, then a crash, no sweeper",
        "seq_in_commit",
        small(RACE, "crash", unswept=True),
        laws.HOPELESS,
    ),
    dropped(
        "outcomes handed over as their commits answer",
        "hand_over_by_seq",
        small(RACE),
        laws.MISFIT,
    ),
    dropped(
        "suspend for the event only, with a timer beside it",
        "suspend_takes_earliest",
        small(TIMED),
        laws.UNGUARDED,
    ),
    # --- events and signals
    dropped(
        "suspend without comparing signals",
        "suspend_compares_signals",
        small(SEQUENCE),
        laws.HOPELESS,
    ),
    dropped("suspend writes no waits", "suspend_writes_waits", small(SEQUENCE), laws.UNGUARDED),
    dropped(
        "signal leaves the mailbox's version",
        "signal_moves_version",
        small(MAILBOX),
        laws.HOPELESS,
    ),
    dropped(
        "signal wakes only who is leased", "signal_wakes_sleepers", small(SEQUENCE), laws.HOPELESS
    ),
    dropped(
        "signal before the event is visible, no sweeper",
        "signal_after_insert",
        small(SEQUENCE, unswept=True),
        laws.HOPELESS,
    ),
    dropped(
        "an event counts as seen before its signal",
        "insert_is_unseen",
        small(SEQUENCE, "sender"),
        laws.HOPELESS,
    ),
    dropped(
        "the sweeper ignores unseen events",
        "sweep_unseen",
        small(SEQUENCE, "sender"),
        laws.HOPELESS,
    ),
    dropped(
        "an event is consumed apart from its outcome",
        "consume_with_outcome",
        small(SEQUENCE, "crash"),
        laws.HOPELESS,
    ),
    dropped("a timeout beats a stored event", "event_beats_timeout", small(TIMED), laws.TOO_EARLY),
    # --- wake-ups
    dropped(
        "published clears whatever is owed, no sweeper",
        "note_compares_number",
        small(SEQUENCE, unswept=True, notes_late=True),
        laws.HOPELESS,
    ),
    dropped(
        "the sweeper re-uses the number",
        "nudge_takes_new_number",
        small(RACE, "lose"),
        laws.HOPELESS,
    ),
    dropped(
        "drop a wake-up unless its number matches, no sweeper",
        "admit_by_row",
        small(SEQUENCE, *ONE_DELIVERING, unswept=True),
        laws.HOPELESS,
    ),
    dropped(
        "an early wake-up is not armed again, no sweeper",
        "rearm_early",
        small(SEQUENCE, "early", unswept=True),
        laws.HOPELESS,
    ),
    dropped(
        "acknowledge early, no sweeper",
        "answer_at_end",
        small(RACE, "crash", unswept=True),
        laws.HOPELESS,
    ),
    dropped(
        "busy is always answered 200, no sweeper",
        "busy_asks_again",
        small(RACE, *ONE_DELIVERING, unswept=True),
        laws.HOPELESS,
    ),
    dropped(
        "a delivery does not publish what is owed, no sweeper",
        "delivery_flushes",
        small(SEQUENCE, *ONE_DELIVERING, unswept=True),
        laws.HOPELESS,
    ),
    dropped(
        "publish before the commit, no sweeper",
        "publish_after_commit",
        small(RACE, unswept=True),
        laws.HOPELESS,
    ),
)
