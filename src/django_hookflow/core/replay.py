"""The replay check: journal + request -> decision.

Rules (protocol, section 6):

1. A key is ``step_id#n``, n counted in the order of requests.
2. A recorded key must be asked for with the same kind and callee, and with the same
   arguments where its step id occurs more than once in the run.
3. Outcomes are handed over one at a time in the order of ``seq``, recorded and live alike.
4. The function may not start new work, suspend or finish while a recorded outcome remains
   that it has not asked for.

Nothing in here executes anything: the caller asks, hands over, and asks :meth:`Replay.check`
whenever the run is quiescent.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping

from django_hookflow.core.decisions import Decision, Execute, Mismatch, Park, Recorded
from django_hookflow.core.entries import WAITS, Entry, step_key
from django_hookflow.core.requests import Request

#: In place of the digest of a step's arguments: its attempts were not all the same call.
MIXED = "mixed"


class Replay:
    """One delivery's view of a run's journal.

    ``seq`` is the number of outcomes that the run row counted when ``entries`` were read;
    live outcomes go on from there without a gap. ``series`` is that of each key whose earlier
    outcome was superseded.
    """

    def __init__(
        self, entries: Iterable[Entry], *, seq: int, series: Mapping[str, int] | None = None
    ) -> None:
        self._entries = {entry.key: entry for entry in entries}
        self._recorded_occurrences = Counter(entry.step_id for entry in self._entries.values())
        self._requested: Counter[str] = Counter()
        self._asked: dict[str, Request] = {}
        self._queue = [
            (entry.seq, entry.key)
            for entry in self._entries.values()
            if entry.is_outcome and entry.seq is not None
        ]
        heapq.heapify(self._queue)
        self._series = dict(series or {})
        self._floor = seq
        self._handed = seq
        self._mismatch: Mismatch | None = None

    @property
    def requests(self) -> int:
        """How many requests the function has made so far: the next one's ``requested_seq``."""
        return len(self._asked)

    @property
    def handed(self) -> int:
        """The ``seq`` of the last outcome that was handed over, once the function is quiescent."""
        return self._handed

    @property
    def replaying(self) -> bool:
        """Whether outcomes of earlier deliveries are still to be handed over."""
        return bool(self._queue) and self._queue[0][0] <= self._floor

    def ask(self, request: Request) -> Decision:
        """Number the request and say what is known of it."""
        self._requested[request.step_id] += 1
        occurrence = self._requested[request.step_id]
        key = request.key or step_key(request.step_id, occurrence)
        self._asked[key] = request
        entry = self._entries.get(key)
        reason = "" if entry is None else self._difference(entry, request)
        if occurrence == 2 and not request.key and not reason:
            reason = self._first_differs(request.step_id)
        if reason:
            self._mismatch = self._mismatch or Mismatch(reason=reason)
        if self._mismatch is not None:
            return self._mismatch
        if entry is not None and entry.is_outcome:
            return Recorded(key=key)
        series = entry.series if entry else self._series.get(key, 0)
        if request.kind in WAITS:
            return Park(
                key=key,
                occurrence=occurrence,
                args_sha=_of_all_attempts(entry, request),
                series=series,
                pending=entry,
            )
        return Execute(
            key=key,
            occurrence=request.occurrence or occurrence,
            args_sha=_of_all_attempts(entry, request),
            attempt=entry.attempt if entry else 0,
            series=series,
            ready_at=entry.ready_at if entry else None,
            pending=entry,
        )

    def settle(self, entry: Entry) -> None:
        """Take in an outcome that was just committed; it waits for its turn like any other."""
        assert entry.seq is not None, "an outcome has a seq"
        self._entries[entry.key] = entry
        heapq.heappush(self._queue, (entry.seq, entry.key))

    def note(self, entry: Entry) -> None:
        """Take in a row that was just written and is no outcome yet: it may have to be undone."""
        self._entries[entry.key] = entry

    def hand_over(self) -> Entry | None:
        """The outcome whose turn it is, once the function has asked for it."""
        if not self._queue or self._mismatch is not None:
            return None
        seq, key = self._queue[0]
        recorded = seq <= self._floor
        if key not in self._asked or not (recorded or seq == self._handed + 1):
            return None
        heapq.heappop(self._queue)
        if not recorded:
            self._handed = seq
        return self._entries[key]

    def without(self, keys: Iterable[str]) -> list[Entry]:
        """What is recorded so far, but for these."""
        gone = set(keys)
        return [entry for key, entry in self._entries.items() if key not in gone]

    def asked_for_all(self) -> bool:
        """Whether the function has asked for each outcome, and each wait that will be one."""
        return self._mismatch is None and all(
            key in self._asked
            for key, entry in self._entries.items()
            if entry.is_outcome or entry.kind in WAITS
        )

    def left_over(self) -> list[Entry]:
        """Outcomes that were not handed over, in the order of ``seq``."""
        return [self._entries[key] for _, key in sorted(self._queue)]

    def check(self) -> Mismatch | None:
        """At quiescence: does a recorded outcome remain that nobody asked for?"""
        if self._mismatch is None and self._queue and self._queue[0][1] not in self._asked:
            self._mismatch = Mismatch(reason=self._unasked(self._queue[0][1]))
        return self._mismatch

    def check_end(self) -> Mismatch | None:
        """After the function's end: does any outcome of an earlier delivery remain unasked?

        One that was asked for and not handed over is fine: the function did not wait for it.
        """
        unasked = [pair for pair in self._queue if pair[1] not in self._asked]
        if self._mismatch is None and unasked:
            self._mismatch = Mismatch(reason=self._unasked(min(unasked)[1]))
        return self._mismatch

    def _unasked(self, key: str) -> str:
        entry = self._entries[key]
        last = next(reversed(self._asked), None)
        got = f"{last!r} as the last request" if last else "no request at all"
        return f"expected {entry.kind} step {entry.key!r}, got {got}"

    def _difference(self, entry: Entry, request: Request) -> str:
        expected, got = _describe(entry.kind, entry.call), _describe(request.kind, request.call)
        if expected != got:
            return f"step {entry.key!r}: expected {expected}, got {got}"
        repeated = max(self._recorded_occurrences[entry.step_id], self._requested[entry.step_id])
        if (repeated > 1 or request.exact) and entry.args_sha != request.args_sha:
            return self._other_arguments(entry)
        return ""

    def _first_differs(self, step_id: str) -> str:
        """The first occurrence, asked for before anybody knew that the step id repeats."""
        key = step_key(step_id, 1)
        entry = self._entries.get(key)
        if entry is None or key not in self._asked:
            return ""
        same = entry.args_sha == self._asked[key].args_sha
        return "" if same else self._other_arguments(entry)

    def _other_arguments(self, entry: Entry) -> str:
        if entry.args_sha == MIXED:
            return (
                f"step {entry.key!r}: expected one call, got attempts with different arguments "
                "under one idempotency key; see what they did, then cancel this run and start "
                "another, with a step id of its own for each item"
            )
        return (
            f"step {entry.key!r}: expected the arguments of the recorded call, got other ones; "
            "give each item a step id of its own, and take times from ctx.now()"
        )


def _of_all_attempts(pending: Entry | None, request: Request) -> str:
    """What the row says of the arguments: those of every attempt, or that they differ.

    That a retry comes with other arguments is allowed where its step id is asked for once: a
    corrected amount. Where it repeats it may be another item that goes out under this one's
    idempotency key, and the repeat is what tells; so the row has to remember.
    """
    same = pending is None or pending.args_sha == request.args_sha
    return request.args_sha if same else MIXED


def _describe(kind: object, call: str) -> str:
    return f"{kind} of {call}" if call else str(kind)
