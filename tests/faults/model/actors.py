"""Everybody but the handlers: one generator each, of (action, next state).

An action is a tuple: its name first, then whatever tells it from others. Names of faults begin
with ``F``: they spend one of the faults that may happen.
"""

from collections.abc import Iterator
from typing import Any

from tests.faults.model import outside
from tests.faults.model.state import (
    ABSENT,
    ARRIVED,
    BEFORE,
    EXPIRED,
    HELD,
    HOLDING,
    IDLE,
    INSERTED,
    JOINED,
    PAST,
    PENDING,
    PUBLISHES,
    SEEN,
    SENT,
    SIGNALS,
    STARTED,
    TO_COME,
    TRIGGERED,
    UNSEEN,
    UNSENT,
    Handler,
    State,
    World,
    is_active,
    is_due,
    is_open,
    put,
)

Action = tuple[Any, ...]
Steps = Iterator[tuple[Action, State]]

#: A sender under the mutation "SIGNAL before the event is visible": it has signalled already.
COMMITS = "C"


def time_passes(world: World, s: State) -> Steps:
    """Clocks are not trusted: whatever may run out does so at any moment."""
    if s.timer == TO_COME:
        yield ("timer passes",), s._replace(timer=PAST)
    if s.lease == HELD:
        alive = any(h.pc == HOLDING and h.epoch == s.epoch for h in s.handlers)
        if not alive:
            yield ("lease expires",), s._replace(lease=EXPIRED)
        elif world.allows(s, "zombie"):
            yield ("F lease of a live holder expires",), spend(s)._replace(lease=EXPIRED)


def trigger(world: World, s: State) -> Steps:
    if s.trigger == BEFORE:
        if world.rules.publish_after_commit:
            yield ("trigger commits",), s._replace(status=PENDING, trigger=TRIGGERED)
        elif s.posted == 0:
            yield ("trigger publishes before its commit",), outside.post(world, s)
        else:
            yield ("trigger commits",), s._replace(status=PENDING, trigger=STARTED)
    elif s.trigger == TRIGGERED:
        yield from _publish(world, s, ("trigger",), s._replace(trigger=STARTED))


def sender(world: World, s: State, n: int) -> Steps:
    """One event. In a transaction of the caller's: insert, commit, SIGNAL; else one transaction."""
    at = s.senders[n]
    if at == IDLE and is_open(s) and (n == 0 or s.mail[n - 1] != UNSENT):
        if world.alone:
            stored = s._replace(mail=put(s.mail, n, SEEN))
            yield ("event alone", n), _then_publish(outside.signal(world, stored), n)
        if world.joined:
            yield ("event joins", n), _sender(s, n, JOINED)._replace(mail=put(s.mail, n, INSERTED))
    elif at == JOINED and not world.rules.signal_after_insert:
        yield ("event signals early", n), _sender(outside.signal(world, s), n, COMMITS)
    elif at in (JOINED, COMMITS):
        stored = s._replace(mail=put(s.mail, n, UNSEEN if world.rules.insert_is_unseen else SEEN))
        yield ("event commits", n), _sender(stored, n, SIGNALS if at == JOINED else PUBLISHES)
        if world.allows(s, "sender"):
            undone = _sender(spend(s), n, IDLE)._replace(mail=put(s.mail, n, UNSENT))
            yield ("F sender dies in its transaction", n), undone
    elif at == SIGNALS:
        yield ("sender signals", n), _then_publish(outside.signal_unseen(world, s), n)
        if world.allows(s, "sender"):
            yield ("F sender dies before SIGNAL", n), _sender(spend(s), n, SENT)
    elif at == PUBLISHES:
        yield from _publish(world, s, ("sender", n), _sender(s, n, SENT))


def _sender(s: State, n: int, at: str) -> State:
    return s._replace(senders=put(s.senders, n, at))


def _then_publish(s: State, n: int) -> State:
    """SIGNAL answers whether a wake-up is owed."""
    return _sender(s, n, PUBLISHES if is_active(s) and s.owed else SENT)


def _publish(world: World, s: State, who: Action, after: State) -> Steps:
    """A process publishes what the row owes, for itself or for somebody else, or dies."""
    if outside.may_post(s):
        yield ("posts", *who), outside.post(world, after)
        if world.allows(s, "unnoted") and not world.notes_late:
            yield ("F posts and dies", *who), outside.post(world, spend(after))._replace(owed=True)
    else:
        yield ("posts nothing", *who), after
    if world.allows(s, "sender"):
        yield ("F dies before POST", *who), spend(after)


def notes(world: World, s: State) -> Steps:
    for wake in s.noting:
        yield ("notes", wake), outside.note(world, s, wake)
        if world.allows(s, "unnoted"):
            left = tuple(w for w in s.noting if w != wake)
            yield ("F dies before its note", wake), spend(s)._replace(noting=left)


def sweeper(world: World, s: State) -> Steps:
    if not world.sweeper or not is_active(s):
        return
    if outside.may_post(s):
        yield ("posts", "sweeper"), outside.post(world, s)
    if is_due(s) and not s.owed:
        # Only to bound the search: the back-off keeps it from running away.
        coming = _is_coming(s, s.wake_n)
        if not coming or world.allows(s, "spurious"):
            after = spend(s) if coming else s
            if world.rules.nudge_takes_new_number:
                after = after._replace(wake_n=s.wake_n + 1)
            yield ("F nudges" if coming else "nudges",), after._replace(owed=True)
    if UNSEEN in s.mail and world.rules.sweep_unseen:
        yield ("signals unseen",), outside.signal_unseen(world, s)


def _is_coming(s: State, wake: int) -> bool:
    """Whether a message of that number has still to be looked at."""
    return any(w == wake for w, _ in s.queue) or any(
        h.wake == wake and h.pc == ARRIVED for h in s.handlers
    )


def message_service(world: World, s: State) -> Steps:
    for n, (wake, late) in enumerate(s.queue):
        if n and s.queue[n - 1] == s.queue[n]:
            continue
        rest = (*s.queue[:n], *s.queue[n + 1 :])
        early = late and s.timer == TO_COME
        if len(s.handlers) < world.handlers and (not early or world.allows(s, "early")):
            after = spend(s) if early else s
            arrived = add_handler(after._replace(queue=rest), Handler(pc=ARRIVED, wake=wake))
            yield ("F delivers early" if early else "delivers", wake), arrived
        if world.allows(s, "lose"):
            yield ("F loses", wake), spend(s)._replace(queue=rest)
        if world.allows(s, "dup"):
            twice = tuple(sorted((*s.queue, (wake, late))))
            yield ("F duplicates", wake), spend(s)._replace(queue=twice)
    if world.allows(s, "timeout"):
        for n, h in enumerate(s.handlers):
            if h.attached and h.pc != ARRIVED:
                left = set_handler(s, n, h._replace(attached=False))
                yield ("F gives up on", h), spend(with_message(left, h.wake))


# --- what all of them share


def spend(s: State) -> State:
    return s._replace(faults=s.faults - 1)


def with_message(s: State, wake: int) -> State:
    """It comes again, by the delay of a retry."""
    return s._replace(queue=tuple(sorted((*s.queue, (wake, False)))))


def add_handler(s: State, h: Handler) -> State:
    return s._replace(handlers=tuple(sorted((*s.handlers, h))))


def set_handler(s: State, n: int, h: Handler) -> State:
    return s._replace(handlers=tuple(sorted((*s.handlers[:n], h, *s.handlers[n + 1 :]))))


def drop_handler(s: State, n: int) -> State:
    return s._replace(handlers=(*s.handlers[:n], *s.handlers[n + 1 :]))


def answer(s: State, n: int, status: int) -> State:
    """The delivery is over; anything but 200 and it comes again."""
    h = s.handlers[n]
    over = drop_handler(s, n)
    return with_message(over, h.wake) if h.attached and status != 200 else over


def exists(s: State) -> bool:
    return s.status != ABSENT
