"""What the models need from rooms above them, declared here and filled by ``runtime``.

The controls on ``WorkflowRun`` are one-line calls to :func:`controls`; its fields decode
through :func:`codec`. ``AppConfig.ready()`` installs both, so that ``models`` import nothing
of the engine.
"""

from __future__ import annotations

from typing import Any, Protocol
from uuid import UUID

from django_hookflow.exceptions import ConfigurationError


class ValueCodec(Protocol):
    """Values as text and back; ``hint`` is a type annotation or ``Any``."""

    def encode(self, value: Any, *, hint: Any = Any, limit: int | None = None) -> str:
        """Text of ``value``; raises ``SerializationError`` naming the path inside it."""

    def decode(self, text: str, *, hint: Any = Any) -> Any:
        """The value that ``text`` was made of, equal and of the same type."""


class Controls(Protocol):
    """What can be done to a run from outside; each with its awaitable twin."""

    def database(self) -> str: ...

    def cancel(self, run: UUID, *, compensate: bool = True) -> None: ...

    async def acancel(self, run: UUID, *, compensate: bool = True) -> None: ...

    def pause(self, run: UUID) -> None: ...

    async def apause(self, run: UUID) -> None: ...

    def resume(self, run: UUID) -> None: ...

    async def aresume(self, run: UUID) -> None: ...

    def retry(self, run: UUID) -> None: ...

    async def aretry(self, run: UUID) -> None: ...

    def send_event(
        self, run: UUID, name: str, data: Any = None, *, dedup_id: str | None = None
    ) -> None: ...

    async def asend_event(
        self, run: UUID, name: str, data: Any = None, *, dedup_id: str | None = None
    ) -> None: ...

    def get_result(self, run: UUID, *, timeout: float = 0) -> Any: ...

    async def aget_result(self, run: UUID, *, timeout: float = 0) -> Any: ...

    def fork(self, run: UUID, from_step: str, *, preview: bool = False) -> Any:
        """The key of the new run; of a preview the keys of the steps that would run again."""

    async def afork(self, run: UUID, from_step: str, *, preview: bool = False) -> Any: ...

    def many(self, verb: str, runs: Any, **options: Any) -> int:
        """Do it to each of a queryset's runs that it can be done to; how many those were."""

    async def amany(self, verb: str, runs: Any, **options: Any) -> int: ...


class _Installed:
    codec: ValueCodec | None = None
    controls: Controls | None = None


def install(*, codec: ValueCodec, controls: Controls) -> None:
    """Fill the ports; called by ``AppConfig.ready()``."""
    _Installed.codec = codec
    _Installed.controls = controls


def codec() -> ValueCodec:
    """The installed codec."""
    if _Installed.codec is None:
        raise _not_installed()
    return _Installed.codec


def controls() -> Controls:
    """The installed controls."""
    if _Installed.controls is None:
        raise _not_installed()
    return _Installed.controls


def _not_installed() -> ConfigurationError:
    return ConfigurationError(
        'django_hookflow is not installed: add "django_hookflow" to INSTALLED_APPS'
    )
