"""The protocol as a model: every interleaving of its actors, with bounded faults, by brute force.

``programs`` what a workflow asks for, ``state`` what is remembered, ``row`` the transitions,
``actors`` and ``handler`` who does what when, ``laws`` what must hold, ``explorer`` the search,
``worlds`` and ``mutations`` what is searched. ``python -m tests.faults.model --help``.

The model and the code are held together by ``tests/faults/test_model_conformance.py``, on one
connection: that an event which is not committed is seen by nobody is left to the databases.

What is merged into one step, and why nothing is lost by it:

* Reading a run for the answer of a delivery and CLAIM (or the re-arm): both decide again, by
  the same condition, in the UPDATE itself.
* Reading what is owed and the POST: a POST of what was read earlier is a message that travels
  for longer. The note of it ("published") is a step of its own where ``World.notes_late`` says.
* Starting a unit and its effect: a crash in between is the crash before the start.
* A unit's end and its hand-over, in programs that never have two units at a time.

Clocks are not trusted: a timer may pass and a dead holder's lease may run out at any moment.
Cancel, pause, retry, children and compensation are not in here.

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
