"""Unwinding a ``def`` body that swallows its suspension in a loop.

``while True: try: ctx.step... except: pass`` catches whatever the step call raises and asks
again, for ever. An exception raised at the handler's own line is not the handler's to catch:
a trace function raises it there, and the body ends.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from django_hookflow.engine.suspending import WorkflowSuspended


def raise_at_next_line(frame: FrameType | None, outermost: str) -> None:
    """Raise ``WorkflowSuspended`` at the next line that ``frame`` or a caller executes.

    ``outermost`` is the name of the function whose callers are left alone. Tracing ends with
    the first exception that a trace function raises.
    """

    def trace(traced: FrameType, event: str, argument: Any) -> Any:
        if event == "call":
            return None  # what is called from here on, our own clean-up too, goes its way
        if event == "line":
            raise WorkflowSuspended
        return trace

    sys.settrace(trace)
    while frame is not None and frame.f_code.co_name != outermost:
        frame.f_trace = trace
        frame = frame.f_back
