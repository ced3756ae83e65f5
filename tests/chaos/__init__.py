"""Chaos: real processes under random faults, and an outside ledger that knows what happened."""
