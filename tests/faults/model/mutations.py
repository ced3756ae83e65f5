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


def _world(program: Program, *kinds: str, unswept: bool = False, notes_late: bool = False) -> World:
    return World(
        name=program.name,
        program=program,
        faults=1 if kinds else 0,
        kinds=frozenset(kinds),
        sweeper=not unswept,
        notes_late=notes_late,
    )


def _dropped(name: str, rules: str, world: World, law: str) -> Mutation:
    return Mutation(name=name, rules=tuple(rules.split()), world=world, law=law)


ONE_ANY = tuple(FAULTS)
ONE_DELIVERING = tuple(DELIVERY_FAULTS)

MUTATIONS = (
    # --- the holder
    _dropped(
        "no fence, no unique key",
        "fence unique_key",
        _world(TIMED, "zombie"),
        laws.TWICE,
    ),
    _dropped("no fence", "fence", _world(RACE, *ONE_ANY), laws.TOO_OFTEN),
    _dropped(
        "a released lease still lets its holder commit",
        "lease_not_null",
        _world(RACE, "infra"),
        laws.NOT_CLAIMED,
    ),
    _dropped(
        "a claim keeps the epoch", "claim_raises_epoch", _world(RACE, *ONE_ANY), laws.TOO_OFTEN
    ),
    _dropped(
        "a claim does not ask for the lease",
        "claim_asks_for_the_lease",
        _world(TIMED),
        laws.TAKEN_OVER,
    ),
    # --- parallel branches
    _dropped("suspend while a unit runs", "suspend_after_units", _world(PAIR), laws.TOO_OFTEN),
    _dropped(
        "seq given in memory, a branch overtakes", "seq_in_commit", _world(RACE), laws.REWRITTEN
    ),
    _dropped(
        "seq given in memory, then a crash, no sweeper",
        "seq_in_commit",
        _world(RACE, "crash", unswept=True),
        laws.HOPELESS,
    ),
    _dropped(
        "outcomes handed over as their commits answer",
        "hand_over_by_seq",
        _world(RACE),
        laws.MISFIT,
    ),
    _dropped(
        "suspend for the event only, with a timer beside it",
        "suspend_takes_earliest",
        _world(TIMED),
        laws.UNGUARDED,
    ),
    # --- events and signals
    _dropped(
        "suspend without comparing signals",
        "suspend_compares_signals",
        _world(SEQUENCE),
        laws.HOPELESS,
    ),
    _dropped("suspend writes no waits", "suspend_writes_waits", _world(SEQUENCE), laws.UNGUARDED),
    _dropped(
        "signal leaves the mailbox's version",
        "signal_moves_version",
        _world(MAILBOX),
        laws.HOPELESS,
    ),
    _dropped(
        "signal wakes only who is leased", "signal_wakes_sleepers", _world(SEQUENCE), laws.HOPELESS
    ),
    _dropped(
        "signal before the event is visible, no sweeper",
        "signal_after_insert",
        _world(SEQUENCE, unswept=True),
        laws.HOPELESS,
    ),
    _dropped(
        "an event counts as seen before its signal",
        "insert_is_unseen",
        _world(SEQUENCE, "sender"),
        laws.HOPELESS,
    ),
    _dropped(
        "the sweeper ignores unseen events",
        "sweep_unseen",
        _world(SEQUENCE, "sender"),
        laws.HOPELESS,
    ),
    _dropped(
        "an event is consumed apart from its outcome",
        "consume_with_outcome",
        _world(SEQUENCE, "crash"),
        laws.HOPELESS,
    ),
    _dropped(
        "a timeout beats a stored event", "event_beats_timeout", _world(TIMED), laws.TOO_EARLY
    ),
    # --- wake-ups
    _dropped(
        "published clears whatever is owed, no sweeper",
        "note_compares_number",
        _world(SEQUENCE, unswept=True, notes_late=True),
        laws.HOPELESS,
    ),
    _dropped(
        "the sweeper re-uses the number",
        "nudge_takes_new_number",
        _world(RACE, "lose"),
        laws.HOPELESS,
    ),
    _dropped(
        "drop a wake-up unless its number matches, no sweeper",
        "admit_by_row",
        _world(SEQUENCE, *ONE_DELIVERING, unswept=True),
        laws.HOPELESS,
    ),
    _dropped(
        "an early wake-up is not armed again, no sweeper",
        "rearm_early",
        _world(SEQUENCE, "early", unswept=True),
        laws.HOPELESS,
    ),
    _dropped(
        "acknowledge early, no sweeper",
        "answer_at_end",
        _world(RACE, "crash", unswept=True),
        laws.HOPELESS,
    ),
    _dropped(
        "busy is always answered 200, no sweeper",
        "busy_asks_again",
        _world(RACE, *ONE_DELIVERING, unswept=True),
        laws.HOPELESS,
    ),
    _dropped(
        "a delivery does not publish what is owed, no sweeper",
        "delivery_flushes",
        _world(SEQUENCE, *ONE_DELIVERING, unswept=True),
        laws.HOPELESS,
    ),
    _dropped(
        "publish before the commit, no sweeper",
        "publish_after_commit",
        _world(RACE, unswept=True),
        laws.HOPELESS,
    ),
)
