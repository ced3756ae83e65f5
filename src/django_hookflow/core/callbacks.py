"""What a callback's URL says: to which question of which run it brings the answer, until when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

#: The longest question on a confirmation page; it travels in the URL.
MAX_CONFIRM = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """``key`` is ``step_id#n``, the n-th callback of that step id in this ``generation``.

    ``expires_at`` is in UTC and whole seconds. ``confirm`` is the question of the confirmation
    page, empty without one.
    """

    run: UUID
    generation: int
    key: str
    expires_at: datetime
    confirm: str = ""

    @property
    def name(self) -> str:
        """What the answer is called in the run's mailbox.

        The mailbox is the run's, not the pass's: what was posted to an earlier pass and not
        received there must not answer the same question of this one.
        """
        return f"{self.key}.{self.generation}" if self.generation else self.key
