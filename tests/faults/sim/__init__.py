"""Deterministic simulation: the real engine, virtual time, faults by a seed.

One thread, no socket, no clock: ``loop`` has virtual time, ``bridges`` take the place of the
engine's threads, ``hosts`` are processes that can die, freeze and drift, ``broker`` is QStash
as its documentation has it, ``programs`` are the workflows, ``ledger`` counts effects outside
the engine and ``checks`` compares it with the journal. ``world`` runs one seed.
"""
