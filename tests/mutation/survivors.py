"""The mutants that may live, each with the reason.

A name is what the command prints: ``module:function: what is there: what was done to it``.
"""

# ruff: noqa: E501  # the names are what they are

SURVIVORS: dict[str, tuple[str, ...]] = {
    "The codec's short cut: for what it wrongly says no to, the walk with tags writes the same text.": (
        "core/codec:JSONCodec.encode: 0: plus 1",
        "core/codec:_is_plain: return is_plain_text(value): returns None",
        "core/codec:_is_plain: value is None or kind is bool: Or becomes And",
        "core/codec:_is_plain: value is None or kind is bool: without operand 1",
        "core/codec:_is_plain: value is None or kind is bool: without operand 2",
        "core/codec:_is_plain: return True: returns None",
        "core/codec:_is_plain: True: becomes False",
        "core/codec:_is_plain: return is_plain_int(value): returns None",
        "core/codec:_is_plain: return isfinite(value): returns None",
        "core/codec:_is_plain: depth < MAX_DEPTH: Lt becomes GtE",
        "core/codec:_is_plain: return False: returns None",
        "core/codec:_is_plain: 1: plus 1",
        "core/codec:_is_plain: return False: returns None (2)",
        "core/codec:_is_plain: return True: returns None (2)",
        "core/codec:_is_plain: True: becomes False (2)",
        "core/codec:_is_plain: depth < MAX_DEPTH: Lt becomes GtE (2)",
        "core/codec:_is_plain: return all((_is_plain(item, depth + 1) for item in value)): returns None",
        "core/codec:_is_plain: 1: plus 1 (2)",
        "core/codec:_is_plain: return False: returns None (3)",
        "core/codec:_imprint: 0: plus 1",
    ),
    "The codec's short cut the other way: text without a tag is walked and comes out the same.": (
        "core/codec:JSONCodec.decode: '\"{}\"': becomes ''",
    ),
    "A second barrier: no NaN, infinity or cycle comes as far as this encoder.": (
        "core/codec:: json.JSONEncoder(separators=(',', ':'), allow_nan=False, check_circular=False): without allow_nan=",
        "core/codec:: json.JSONEncoder(separators=(',', ':'), allow_nan=False, check_circular=False): without check_circular=",
        "core/codec:: False: becomes True",
        "core/codec:: False: becomes True (2)",
        "core/codec:: json.JSONEncoder(separators=(',', ':'), allow_nan=False, check_circular=False, sort_key...: without check_circular=",
        "core/codec:: False: becomes True (4)",
    ),
    "A short cut or a guard: without it the lines below come to the same answer, later.": (
        "core/expressions:_undefined: math.isnan(left) or math.isnan(right): without operand 1",
        "core/addresses:is_loopback: '': becomes 'mutated'",
        "core/durations:default_backoff: 5: plus 1",
        "core/durations:parse_retry_after: not text or len(text) > _LONGEST_TEXT: without operand 1",
        "core/expressions:RetryDelay.seconds: milliseconds <= 0: LtE becomes Lt",
        "core/hints:enums_in: hint is Any or hint is None: Or becomes And",
        "core/hints:enums_in: hint is Any or hint is None: without operand 1",
        "core/hints:enums_in: hint is Any or hint is None: without operand 2",
        "core/retry:RetryPolicy.delay: 1000: plus 1",
        "core/scalars:is_plain_text: value.isascii() or _SPLIT_PAIR.search(value) is None: without operand 1",
        "core/showing:has_surrogate: not text.isascii() and any(('\\ud800' <= character <= '\\udfff' for character in text)): without operand 1",
        "journals/memory_outside:back_off: 10: plus 1",
        "journals/memory_outside:signal: wait_for(event.source, event.name) == transition.wait and (not event.seen): without operand 2",
    ),
    "The condition that was dropped is implied by another one, or by what can be stored at all.": (
        "core/admission:_leased: wake != run.lease_w or run.lease_until is None: without operand 2",
        "core/hints:_return_annotation: not hasattr(fn, '__annotations__') or not hasattr(fn, '__globals__'): without operand 1",
        "core/replay:Replay.__init__: entry.is_outcome and entry.seq is not None: And becomes Or",
        "core/replay:Replay.__init__: entry.is_outcome and entry.seq is not None: without operand 1",
        "core/replay:Replay.__init__: entry.is_outcome and entry.seq is not None: without operand 2",
        "core/replay:Replay._first_differs: entry is None or key not in self._asked: without operand 2",
        "core/replay:Replay.ask: occurrence == 2 and (not request.key) and (not reason): without operand 2",
        "journals/memory_holder:_fire_due: entry.kind is Kind.SLEEP and (not entry.is_outcome) and (entry.ready_at is not None) an...: without operand 3",
        "journals/memory_holder:_entry_of: entry.ready_at is not None and entry.ready_at > now: without operand 1",
        "journals/memory_holder:_held: run is None or run.status not in OPEN or (not run.holds(fence.epoch)): without operand 2",
        "journals/memory_outside:ended: run.status in statuses and run.finished_at is not None and (run.finished_at < draft.now...: without operand 2",
        "journals/memory_outside:pause: run.started_at is None and run.due_at is not None and (run.due_at > draft.now): without operand 2",
        "journals/memory_outside:orphans: run.parent is None or run.status not in OPEN or run.status is RunStatus.CANCELLING: without operand 1",
        "journals/memory_retries:retry: generation == run.generation and (not step.superseded): without operand 2",
    ),
    "No reason is falsy either way, and nobody sees it.": (
        "core/replay:Replay._difference: return '': returns None",
        "core/replay:Replay._first_differs: return '': returns None",
    ),
    "Neither of False and None is true, and nobody asks for more.": (
        "journals/memory_outside:_too_late: return False: returns None",
    ),
    "Keys are unique and series start at 0, so that the difference cannot be met.": (
        "journals/memory_holder:_next_series: 0: plus 1",
        "journals/memory_holder:_fire_due: sorted(due, key=lambda row: row[:3]): without key=",
        "journals/memory_holder:_fire_due: 3: plus 1",
    ),
    "An endless annotation ends at the interpreter's own limit too, which is caught.": (
        "core/hints:_walk: seen.append(hint): removed",
    ),
    "A subscripted alias passes the attribute on to the alias.": (
        "core/hints:_parts: origin or hint: without operand 1 (2)",
    ),
    "Defaults of a Protocol are for the type checker; nobody calls its methods.": (
        "core/ports:Controls.cancel: True: becomes False",
        "core/ports:Controls.acancel: True: becomes False",
        "core/ports:Controls.get_result: 0: plus 1",
        "core/ports:Controls.aget_result: 0: plus 1",
        "core/ports:Controls.fork: False: becomes True",
        "core/ports:Controls.afork: False: becomes True",
    ),
    "The name that a type variable has for itself.": ("journals/memory:: 'R': becomes ''",),
    "A default that nobody relies on: whoever looks at it was given it.": (
        "journals/memory_holder:commit: '': becomes 'mutated'",
        "journals/memory_rows:MemoryEvent: False: becomes True",
        "core/transitions:RunView: 0: plus 1",
    ),
    "How much of a bad value an error message shows.": (
        "core/showing:: 80: plus 1",
        "core/requests:check_text: 40: plus 1",
    ),
    "An outcome has its number; only the type does not know.": (
        "core/forking:cut: entry.seq or 0: without operand 2",
        "core/forking:cut: 0: plus 1",
    ),
    "The signal that follows in the same transaction marks the event as seen.": (
        "journals/memory_outside:send_event: MemoryEvent(number=draft.next_event(), run=run.id, name=transition.name, payload=transi...: without seen=",
        "journals/memory_outside:send_event: True: becomes False",
    ),
    "A name that is left over leads to no run, which counts as no name.": (
        "journals/memory_rows:Tables.remove: self.run_ids = {name: id for name, id in self.run_ids.items() if id not in gone}: removed",
        "journals/memory_rows:Tables.remove: if id not in gone: without its condition",
    ),
    "Nobody's journal, that of no parent, has no rows.": (
        "journals/memory_retries:retry: run.parent is not None and _is_replaced(draft, run.id, run.parent): without operand 1",
    ),
    "Whoever ends a pending row writes its own epoch over it.": (
        "journals/memory_retries:retry: 0: plus 1",
    ),
    "No transition reads a row that it has written itself.": (
        "journals/memory_rows:Draft.run: self.written.runs.get(id) or self._stored.runs.get(id): without operand 1",
        "journals/memory_rows:Draft.step: drafted or self._stored.steps.get(run, {}).get(id): without operand 1",
        "journals/memory_rows:Draft.tags: self.written.tags.get(run) or self._stored.tags.get(run, ()): without operand 1",
    ),
    "Numbers of events have to rise, not to be dense; a transition writes one event.": (
        "journals/memory_rows:Draft.next_event: max(self._stored.events, default=0) + len(self.written.events): Add becomes Sub",
        "journals/memory_rows:Draft.next_event: 0: plus 1",
        "journals/memory_rows:Draft.next_event: 1: plus 1",
    ),
}


def reason(name: str) -> str:
    """Why this mutant may live; empty if nothing says so."""
    return next((why for why, names in SURVIVORS.items() if name in names), "")
