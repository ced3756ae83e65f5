"""Mutation testing of the decisions: does a test notice when a line of them is changed?

``python -m tests.mutation`` changes one thing at a time in ``django_hookflow.core`` and in the
memory journal (a comparison, a constant, an argument, a statement ...) and runs the contract
suite (``tests/core``, and ``tests/journals`` on the memory journal) against each change. A
mutant that no test fails for has survived: either a test is missing, or it is in
``survivors.py`` with the reason why it may live. No file is changed: a mutant is planted in a
forked process only.

Not mutmut: it calls each function through three frames of its own, which the tests of the
codec's depth fail on, and it leaves out decorated functions and everything outside of
functions, here the tables, limits and defaults. Not cosmic-ray: a new process for each mutant
would take an hour.
"""
