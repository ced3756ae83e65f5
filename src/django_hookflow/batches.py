"""Pages of runs' keys, for what is done to many of them.

A page is read, acted upon, and only then the next one: what is done changes whether a run is
among those that were chosen, so pages go on behind the last key and never by an offset. No
cursor stays open meanwhile, which SQLite would make other connections wait for.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any
from uuid import UUID

__all__ = ["PAGE", "pages"]

#: Runs of one page: as many as have one request to the message service for all.
PAGE = 100


def pages(runs: Any) -> Iterator[list[UUID]]:
    """The keys of a queryset's runs, in the order of their start; a slice's in its own order."""
    if runs.query.is_sliced or runs.query.combinator:
        # No condition can be added to these; a slice is no longer than was asked for.
        keys = iter(list(runs.values_list("pk", flat=True)))
        while page := list(islice(keys, PAGE)):
            yield page
        return
    upwards = runs if runs.query.standard_ordering else runs.reverse()
    ordered = upwards.order_by("pk").values_list("pk", flat=True)
    page = list(ordered[:PAGE])
    while page:
        yield list(dict.fromkeys(page))
        page = list(ordered.filter(pk__gt=page[-1])[:PAGE])
