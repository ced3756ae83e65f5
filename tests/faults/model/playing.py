"""What each action of the model is on a real journal, and which answer it has to get.

Longer than other modules because it is a list: one function for each action.
"""

from datetime import timedelta
from typing import Any

from django_hookflow.core import admission
from django_hookflow.core.transitions import Claim, Claimed, Rearm, SendEvent, Signalled
from django_hookflow.engine.publishing import OVERDUE_AFTER, OWED_AFTER
from tests.faults.model.conformance import Replay
from tests.faults.model.playing_entries import Player
from tests.faults.model.programs import SUPERSEDED
from tests.faults.model.projection import unit_of
from tests.faults.model.senders import EVENT
from tests.faults.model.state import EXPIRED, FREE, HELD, TIMER, TO_COME
from tests.faults.model.walks import Step

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
    """A pass nudges all that is overdue; here one run at a time."""
    other = replay.parent or replay.child
    if other is not None and other.id.int:
        replay.bench.alter(other.id, nudged_at=replay.bench.time)
    replay.check(replay.id in replay.journal.nudge(overdue=OVERDUE_AFTER, limit=500), True)
    return ""


# --- a delivery that claims nothing


def finds(replay: Replay, wake: int, wanted: type) -> Any:
    found = admission.admit(replay.journal.look(replay.id), wake=wake, registered=True)
    replay.check(type(found), wanted)
    return found


def _only_finds(wanted: type) -> Player:
    def player(replay: Replay, step: Step, wake: int) -> str:
        finds(replay, wake, wanted)
        return ""

    return player


def _early(replay: Replay, step: Step, wake: int) -> str:
    finds(replay, wake, admission.Early)
    replay.check(replay.journal.rearm(Rearm(id=replay.id, wake=wake)), True)
    return ""


# --- a holder


def _claims(replay: Replay, step: Step, wake: int) -> str:
    finds(replay, wake, admission.Proceed)
    claim = Claim(id=replay.id, wake=wake, lease=replay.lease())
    claimed = replay.journal.claim(claim)
    assert isinstance(claimed, Claimed), claimed
    dead = step.before.lease == EXPIRED
    replay.check(claimed.found_dead, dead)
    replay.check(claimed.run.signals, step.after.signals)
    outcomes = sorted((e.seq, unit_of(e)) for e in claimed.entries if e.is_outcome)
    numbered = enumerate(step.after.journal, start=1)
    replay.check(outcomes, [(seq, unit) for seq, unit in numbered if unit != SUPERSEDED])
    replay.check(set(claimed.series.values()), {1} if SUPERSEDED in step.after.journal else set())
    return "found dead" if dead else "found free"


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
}
