"""What each action of the model is on a real journal, and which answer it has to get.

Longer than other modules because it is a list: one function for each action.
"""

from collections.abc import Callable
from datetime import timedelta

from django_hookflow.core import admission
from django_hookflow.core.entries import Entry, ErrorRecord, Kind, RunStatus
from django_hookflow.core.transitions import (
    Atomic,
    Claim,
    Claimed,
    Commit,
    Committed,
    Fenced,
    Finish,
    Finished,
    Fire,
    NotYet,
    Rearm,
    Receive,
    Record,
    Release,
    SendEvent,
    Signalled,
    SignalsMoved,
    Suspend,
    Suspended,
)
from django_hookflow.engine.publishing import OVERDUE_AFTER, OWED_AFTER
from tests.faults.model import row
from tests.faults.model.conformance import LEASE_ENDS, MARGIN, TIMER_PASSES, Replay
from tests.faults.model.programs import SLEEP, asked
from tests.faults.model.senders import EVENT
from tests.faults.model.state import EXPIRED, FREE, HELD, TIMER, TO_COME, Handler
from tests.faults.model.walks import Step
from tests.journals.bench import entry, outcome, sleep

LATE = ErrorRecord(type="EventTimeout", message="too late", raises="EventTimeout")

Player = Callable[..., str]


def play(replay: Replay, step: Step) -> str:
    """Do it, check the answer, and say which of its answers it was."""
    player = PLAYERS.get(step.action[0].removeprefix("F "))
    if player is None:
        assert step.action[0] in UNNOTICED | PASSES, f"nobody plays {step.action[0]!r}"
        return ""
    return player(replay, step, *step.action[1:])


#: What happens outside of the row.
UNNOTICED = {
    "event joins",
    "F sender dies before SIGNAL",
    "F dies before POST",
    "F dies before its note",
    "F POST fails",
    "delivers",
    "F delivers early",
    "F loses",
    "F duplicates",
    "F gives up on",
    "F crashes",
    "executes",
    "is told",
    "answers",
}

#: What is done by the clock alone.
PASSES = {*TIMER_PASSES, *LEASE_ENDS}

# --- from outside


def _trigger(replay: Replay, step: Step) -> str:
    replay.id = replay.bench.start()
    return ""


def _event_alone(replay: Replay, step: Step, n: int) -> str:
    send = SendEvent(id=replay.id, name=EVENT, payload=str(n))
    replay.check(replay.journal.send_event(send), Signalled(owed=step.after.owed))
    return "owed" if step.after.owed else "not owed"


def _event_commits(replay: Replay, step: Step, n: int) -> str:
    replay.signals[n] = replay.senders.store(replay.id, str(n))
    return ""


def _event_rolled_back(replay: Replay, step: Step, n: int) -> str:
    replay.senders.roll_back(replay.id, str(n))
    return ""


def _signals(replay: Replay, step: Step, n: int) -> str:
    replay.signals[n]()
    return "wakes" if step.after.wake_n > step.before.wake_n else "wakes nobody"


def _signals_unseen(replay: Replay, step: Step) -> str:
    woken = replay.id in replay.journal.signal_unseen(limit=500)
    replay.check(woken, step.after.owed)
    return "owed" if woken else "not owed"


# --- wake-ups


def _posts(replay: Replay, step: Step, who: str, *_: object) -> str:
    before, owed = step.before, replay.journal.owed(replay.id)
    assert owed is not None
    replay.check(owed.number, before.wake_n)
    later = before.lease == HELD or (
        before.lease == FREE and before.due == TIMER and before.timer == TO_COME
    )
    replay.check(owed.delay > timedelta(0), later)
    if who == "sweeper":
        found = replay.journal.find_owed(older_than=OWED_AFTER, limit=500)
        replay.check(replay.id in found, True)
    if not replay.world.notes_late and not step.after.owed:
        replay.journal.published(replay.id, owed.number)
    return "delayed" if later else "at once"


def _posts_nothing(replay: Replay, step: Step, *_: object) -> str:
    replay.check(replay.journal.owed(replay.id) is not None, step.before.owed)
    return ""


def _notes(replay: Replay, step: Step, wake: int) -> str:
    replay.journal.published(replay.id, wake)
    return "in time" if not step.after.owed else "owes another"


def _nudges(replay: Replay, step: Step) -> str:
    replay.check(replay.id in replay.journal.nudge(overdue=OVERDUE_AFTER, limit=500), True)
    return ""


# --- a delivery that claims nothing


def _finds(replay: Replay, wake: int, wanted: type) -> None:
    found = admission.admit(replay.journal.look(replay.id), wake=wake, registered=True)
    replay.check(type(found), wanted)


def _only_finds(wanted: type) -> Player:
    def player(replay: Replay, step: Step, wake: int) -> str:
        _finds(replay, wake, wanted)
        return ""

    return player


def _early(replay: Replay, step: Step, wake: int) -> str:
    _finds(replay, wake, admission.Early)
    replay.check(replay.journal.rearm(Rearm(id=replay.id, wake=wake)), True)
    return ""


# --- a holder


def _claims(replay: Replay, step: Step, wake: int) -> str:
    _finds(replay, wake, admission.Proceed)
    claim = Claim(id=replay.id, wake=wake, lease=replay.lease())
    claimed = replay.journal.claim(claim)
    assert isinstance(claimed, Claimed), claimed
    dead = step.before.lease == EXPIRED
    replay.check(claimed.found_dead, dead)
    replay.check(claimed.run.signals, step.after.signals)
    outcomes = sorted((e.seq, e.key[0]) for e in claimed.entries if e.is_outcome)
    wanted = enumerate(step.after.journal.replace("x", "E"), start=1)
    replay.check(outcomes, list(wanted))
    return "found dead" if dead else "found free"


def _commit(replay: Replay, step: Step, transition: Commit, *, refused: bool) -> str:
    try:
        answer = replay.journal.commit(transition)
    except Fenced:
        replay.check("fenced", "fenced" if refused else "committed")
        return "fenced"
    assert isinstance(answer, Committed), answer
    replay.check((answer.entry.seq, refused), (len(step.after.journal), False))
    return "committed"


def _refused(replay: Replay, step: Step, h: Handler) -> bool:
    return not row.holds(replay.world, step.before, h)


def _records(replay: Replay, step: Step, h: Handler, unit: str) -> str:
    transition = Record(fence=replay.fence(h), entry=outcome(unit))
    return _commit(replay, step, transition, refused=_refused(replay, step, h))


def _atomically(replay: Replay, step: Step, h: Handler, unit: str) -> str:
    effects: list[str] = []

    def work() -> str:
        effects.append(unit)
        return '"done"'

    transition = Atomic(fence=replay.fence(h), entry=entry(unit, Kind.ATOMIC, attempt=1), work=work)
    answer = _commit(replay, step, transition, refused=_refused(replay, step, h))
    replay.check(effects, [unit])
    return answer


def _fires(replay: Replay, step: Step, h: Handler, unwritten: bool) -> str:
    ready_at = replay.bench.time - MARGIN if unwritten else replay.timer_at
    transition = Fire(fence=replay.fence(h), entry=sleep(SLEEP, ready_at))
    return _commit(replay, step, transition, refused=_refused(replay, step, h))


def _wait(replay: Replay, unit: str) -> Entry:
    ready_at = replay.timer_at if replay.world.program.timed else None
    return entry(unit, Kind.EVENT, event=EVENT, ready_at=ready_at)


def _receive(replay: Replay, h: Handler, unit: str) -> Receive:
    return Receive(fence=replay.fence(h), entry=_wait(replay, unit), timeout_error=LATE)


def _receives(replay: Replay, step: Step, h: Handler, unit: str, found: str) -> str:
    transition = _receive(replay, h, unit)
    return found + " " + _commit(replay, step, transition, refused=_refused(replay, step, h))


def _finds_nothing(replay: Replay, step: Step, h: Handler, unit: str) -> str:
    replay.check(type(replay.journal.commit(_receive(replay, h, unit))), NotYet)
    return ""


def _suspends(replay: Replay, step: Step, h: Handler) -> str:
    transition = _suspension(replay, step, h)
    try:
        answer = replay.journal.suspend(transition)
    except Fenced:
        replay.check("fenced", "fenced" if _refused(replay, step, h) else "held")
        return "fenced"
    replay.check(_refused(replay, step, h), False)
    if step.after.lease == FREE:
        replay.check(answer, Suspended(owed=transition.due is not None))
        return "suspended"
    replay.check(answer, SignalsMoved(seen=step.after.signals))
    return "moved"


def _suspension(replay: Replay, step: Step, h: Handler) -> Suspend:
    wanted = asked(replay.world.program, h.handed)
    pending = [_wait(replay, unit) for unit in wanted.events]
    if wanted.sleep:
        pending.append(sleep(SLEEP, replay.timer_at))
    at_once = step.action[0] == "F stops"
    timed = wanted.sleep or (replay.world.program.timed and wanted.events != "")
    return Suspend(
        fence=replay.fence(h),
        seen=h.seen,
        due=timedelta(0) if at_once else replay.timer_at if timed else None,
        waits=(f"event:{EVENT}",) if wanted.events else (),
        pending=tuple(pending),
    )


def _releases(replay: Replay, step: Step, h: Handler) -> str:
    try:
        replay.journal.release(Release(fence=replay.fence(h)))
    except Fenced:
        replay.check("fenced", "fenced" if _refused(replay, step, h) else "held")
        return "fenced"
    replay.check(_refused(replay, step, h), False)
    return "released"


def _finishes(replay: Replay, step: Step, h: Handler) -> str:
    finish = Finish(fence=replay.fence(h), status=RunStatus.COMPLETED, result="1")
    try:
        replay.check(replay.journal.finish(finish), Finished())
    except Fenced:
        replay.check("fenced", "fenced" if _refused(replay, step, h) else "held")
        return "fenced"
    replay.check(_refused(replay, step, h), False)
    return "finished"


#: By the name of the action, without the mark of a fault.
PLAYERS: dict[str, Player] = {
    "trigger commits": _trigger,
    "event alone": _event_alone,
    "event commits": _event_commits,
    "sender dies in its transaction": _event_rolled_back,
    "sender signals": _signals,
    "signals unseen": _signals_unseen,
    "posts": _posts,
    "posts and dies": _posts,
    "posts nothing": _posts_nothing,
    "notes": _notes,
    "nudges": _nudges,
    "finds it done": _only_finds(admission.Ended),
    "finds it covered": _only_finds(admission.Covered),
    "finds it busy": _only_finds(admission.Busy),
    "finds it stale": _only_finds(admission.Stale),
    "finds it early": _early,
    "claims": _claims,
    "records": _records,
    "records too late": _records,
    "commits atomically": _atomically,
    "fires": _fires,
    "receives": _receives,
    "finds no event": _finds_nothing,
    "suspends": _suspends,
    "stops": _suspends,
    "releases": _releases,
    "finishes": _finishes,
}
