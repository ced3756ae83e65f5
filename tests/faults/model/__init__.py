"""The protocol as a model: every interleaving of its actors, with bounded faults, by brute force.

``programs`` what a workflow asks for, ``state`` what is remembered, ``row`` the transitions,
``actors`` and ``handler`` who does what when, ``laws`` what must hold, ``explorer`` the search,
``worlds`` and ``mutations`` what is searched. ``python -m tests.faults.model --help``.

The model and the code are held together by ``tests/faults/test_model_conformance*.py``, on one
connection: that an event which is not committed is seen by nobody is left to the databases.

What is merged into one step, and why nothing is lost by it:

* Reading a run for the answer of a delivery and CLAIM (or the re-arm): both decide again, by
  the same condition, in the UPDATE itself.
* Reading what is owed and the POST: a POST of what was read earlier is a message that travels
  for longer. The note of it ("published") is a step of its own where ``World.notes_late`` says.
* Starting a unit and its effect: a crash in between is the crash before the start.
* A unit's end and its hand-over, in programs that never have two units at a time.

Clocks are not trusted: a timer may pass and a dead holder's lease may run out at any moment.

A child is a whole run beside its parent, with messages and deliveries of its own; what touches
both rows is one step, since every such transaction locks the parent first. Of children there is
one; whether two cancels lock in one order is left to the databases. A compensation cannot fail in
here, and ``on_failure`` is not told from a compensation that comes first.

**What a cancel with compensations does to a holder** was written down otherwise: it fenced the
holder and had compensations begin at once. That is refuted without a fault: A's undo is journaled;
cancel; the next delivery calls ``undo(None)``, which finds nothing to undo, and records it; A, of
which nobody knew that it still executed, takes effect. The cure: such a CANCEL changes neither
epoch nor lease. What executes is recorded, and its undo gets the result; the holder is told by
its next transaction, and when nothing executes any more, it compensates. Three more conditions
follow: CANCEL moves ``signals``, or the holder suspends for what only its body asked for; FINISH
of the body, START, and every COMMIT but the record of what executes ask that the run is not
cancelling. A cancel that leaves nothing to compensate fences, as written.

**The message of a paused run's holder** was answered 200, as any other. Then nobody but the sweeper
finds the holder dead: it is paused, it dies, its message is used up; resumed, the new one is
covered by the lease that is left. The cure: the holder's own number is answered 503 while the
lease lasts, paused or not.

**SUSPEND of a paused run** has to write the pending rows as well, or a sleep that was asked for
stands still until the run is resumed.

**Compensations** go by: unknown outcomes first, the newest pending row first, since nothing was
built on what nobody was told of; then by ``seq``, downwards. They begin once no step executes any
more, in a failing run too, whose siblings may still be at work when the body has raised.

**A child** is started by START, which also writes the row of a step that has an undo: a COMMIT
without an outcome, before anything executes, that leaves paused and cancelling runs alone. Row and
child are one transaction: a holder that dies between them would leave a step that waits for what
nobody starts. Not at SUSPEND: a branch would hold back the children of its siblings. The result is
looked up by a COMMIT of the parent's, as an event is; it stays with the child, which may therefore
not be pruned before its parent has ended. Whatever ends a child signals its parent, a cancel too.

Raising the epoch in a CANCEL at once and in RETRY is not needed for any law: the status and the
released lease refuse what the epoch would. It is the second barrier. That ``error`` is set on a
failing run is not needed either as long as the body fails again by its journal: it is there for
code that has changed.

**The split of EVENT and SIGNAL** (row inserted in the caller's transaction, mailbox moved by a
transaction of its own after it) is not refuted: over all interleavings with any one fault, and
in the world ``sequence`` with any two, no event is lost, doubled or unseen for ever. It stands
on four rules, each of which has a mutation that the model catches: the event is visible before
SIGNAL begins; it counts as unseen until a SIGNAL or its consumer has marked it; the sweeper
signals for unseen ones; SUSPEND compares the mailbox's version. That SIGNAL marks *every* unseen
event of its name is harmless too (the world ``mailbox``): it holds the run's row lock, so whoever
looks into the mailbox afterwards sees those events, and whoever looked before finds its version
moved.
"""
