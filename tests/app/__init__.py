"""A Django app for the tests: it counts, outside the engine, how often a step's body ran."""
