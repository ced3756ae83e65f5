"""The signing keys: those of the settings until they are rotated."""

from __future__ import annotations

from django_hookflow.devserver.config import Config
from django_hookflow.devserver.messages import new_id
from django_hookflow.devserver.store import Store

__all__ = ["SigningKeys"]

_KIND = _NAME = "keys"


class SigningKeys:
    """The current and the next key."""

    def __init__(self, config: Config, store: Store) -> None:
        self._store = store
        self._given = [config.current_key, config.next_key]
        self.current, self.next = self._given

    def load(self) -> None:
        """Take up rotated keys, unless the settings have other ones by now."""
        record = self._store.records(_KIND).get(_NAME)
        if record is not None and record["given"] == self._given:
            self.current, self.next = record["now"]

    def rotate(self) -> None:
        """Sign with the next key from now on, and make up a new next one."""
        self.current, self.next = self.next, new_id("sig_")
        self._store.record(_KIND, _NAME, {"given": self._given, "now": [self.current, self.next]})
