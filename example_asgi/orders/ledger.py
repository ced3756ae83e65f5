"""A ledger outside the database: one line per body of a step that ran.

The journal says what was *recorded*. This file says what *happened*, also when the process was
killed before it could be recorded; the demo compares the two.
"""

import json
import os
import time
from collections import Counter

from django.conf import settings

from django_hookflow import current_step

#: Before the name of a step that a compensation undoes.
UNDO = "undo"


def note(order_id):
    """Write that the body of the current step runs, for this order."""
    step = current_step()
    write(order_id, step.step_id, attempt=step.attempt)


def note_undo(order_id):
    """The same for the body of a compensation: ``undo`` and the step that it undoes."""
    step = current_step()
    write(order_id, f"{UNDO} {step.step_id}", attempt=step.attempt)


def write(order_id, step_id, **more):
    facts = {"order": str(order_id), "step": step_id, "at": time.time(), "pid": os.getpid()}
    line = json.dumps({**facts, **more}) + "\n"
    # One write to a file opened for appending is never mixed with another process's.
    file = os.open(settings.ORDERS_LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def bodies():
    """How often the body of each (order, step) ran."""
    return Counter(happened())


def happened():
    """Each (order, step) whose body ran, in the order in which they began."""
    try:
        lines = settings.ORDERS_LEDGER.read_text().splitlines()
    except FileNotFoundError:
        return []
    read = [json.loads(line) for line in lines]
    return [(line["order"], line["step"]) for line in read]
