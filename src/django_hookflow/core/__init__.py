"""Pure decisions: what a run recorded, what its code may ask, what it is answered.

Nothing in here does input or output, reads a clock, knows of Django, threads or event loops.
"""
