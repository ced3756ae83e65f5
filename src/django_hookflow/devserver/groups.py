"""URL groups: names that stand for several endpoints, each of which gets its own message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.messages import HeaderList
from django_hookflow.devserver.options import check_name
from django_hookflow.devserver.publishing import check_url
from django_hookflow.devserver.store import Store

__all__ = ["Group", "Groups"]

_KIND = "group"
_MOST_GROUPS = 1_000
_MOST_ENDPOINTS = 100


@dataclass(slots=True, kw_only=True)
class Group:
    """One URL group; instants in Unix milliseconds. ``endpoints`` are names (or none) by URL."""

    name: str
    created_at: int
    updated_at: int
    endpoints: dict[str, str | None] = field(default_factory=dict)
    headers: HeaderList = ()

    def as_json(self) -> dict[str, Any]:
        """The object of ``GET /v2/topics/{name}``."""
        endpoints = [
            {"url": url, **({"name": name} if name else {})} for url, name in self.endpoints.items()
        ]
        return {
            "name": self.name,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
            "endpoints": endpoints,
        }


class Groups:
    """All URL groups, by name."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._groups: dict[str, Group] = {}

    def load(self) -> None:
        """Take up what was recorded."""
        for name, record in self._store.records(_KIND).items():
            headers = tuple((key, value) for key, value in record["headers"])
            self._groups[name] = Group(
                name=name, created_at=record["created_at"], updated_at=record["updated_at"],
                endpoints=dict(record["endpoints"]), headers=headers,
            )  # fmt: skip

    def find(self, name: str) -> Group | None:
        """The group, if there is one with an endpoint."""
        group = self._groups.get(name)
        return group if group is not None and group.endpoints else None

    def get(self, name: str) -> Group:
        """The group. Raises ``Refused`` (404)."""
        group = self._groups.get(name)
        if group is None:
            raise Refused(404, f"url group {name[:40]} not found")
        return group

    def all(self) -> list[Group]:
        """Every group."""
        return list(self._groups.values())

    def add_endpoints(self, name: str, endpoints: object, now: float) -> None:
        """Add endpoints, or name those anew that are there. Raises ``Refused``."""
        asked = _read_endpoints(endpoints)
        for url, _ in asked:
            check_url(url or "", "endpoint")
        known = self._groups.get(check_name("url group name", name))
        merged = dict(known.endpoints) if known else {}
        for url, label in asked:
            # A name is one endpoint's: with another URL it moves there.
            for other in [u for u, n in merged.items() if label and n == label and u != url]:
                del merged[other]
            merged[url or ""] = label or merged.get(url or "")
        if len(merged) > _MOST_ENDPOINTS:
            raise Refused(412, f"a url group has at most {_MOST_ENDPOINTS} endpoints")
        group = self._make(name, now)
        group.endpoints = merged
        self._save(group, now)

    def remove_endpoints(self, name: str, endpoints: object, now: float) -> None:
        """Remove endpoints by URL or name, and the group with the last one."""
        group = self.get(name)
        for url, label in _read_endpoints(endpoints):
            group.endpoints = {
                u: n
                for u, n in group.endpoints.items()
                if not ((url and u == url) or (label and not url and n == label))
            }
        if group.endpoints:
            self._save(group, now)
        else:
            self.remove(name)

    def set_headers(self, name: str, headers: object, now: float) -> None:
        """Set the headers that every message to the group is published with."""
        if not isinstance(headers, Mapping):
            raise Refused(400, "headers are an object of strings or lists of strings")
        pairs: list[tuple[str, str]] = []
        for key, value in headers.items():
            values = value if isinstance(value, list) else [value]
            if not all(isinstance(one, str) for one in values):
                raise Refused(400, f"invalid header {key!r}: a string or a list of strings")
            pairs += [(key, one) for one in values]
        group = self._make(name, now)
        group.headers = tuple(pairs)
        self._save(group, now)

    def remove(self, name: str) -> None:
        """Forget the group; it is no error if there is none."""
        if self._groups.pop(name, None) is not None:
            self._store.record(_KIND, name, None)

    def _make(self, name: str, now: float) -> Group:
        group = self._groups.get(check_name("url group name", name))
        if group is None:
            if len(self._groups) >= _MOST_GROUPS:
                raise Refused(412, f"there are {_MOST_GROUPS} url groups; no more are taken")
            instant = int(now * 1000)
            group = self._groups[name] = Group(name=name, created_at=instant, updated_at=instant)
        return group

    def _save(self, group: Group, now: float) -> None:
        group.updated_at = int(now * 1000)
        self._store.record(
            _KIND,
            group.name,
            {
                "created_at": group.created_at,
                "updated_at": group.updated_at,
                "endpoints": group.endpoints,
                "headers": group.headers,
            },
        )


def _read_endpoints(value: object) -> Sequence[tuple[str | None, str | None]]:
    if not isinstance(value, list) or not value:
        raise Refused(400, "endpoints are a list of objects with a url")
    found: list[tuple[str | None, str | None]] = []
    for one in value:
        url = one.get("url") if isinstance(one, dict) else None
        name = one.get("name") if isinstance(one, dict) else None
        if not all(isinstance(text, (str, type(None))) for text in (url, name)) or not (
            url or name
        ):
            raise Refused(400, "endpoints are a list of objects with a url")
        found.append((url, name))
    return found
