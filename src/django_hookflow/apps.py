"""The Django app: fills the ports, registers the checks, finds the workflows."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig

from django_hookflow.checks import register_checks
from django_hookflow.controls import RunControls
from django_hookflow.core import ports
from django_hookflow.registry import autodiscover
from django_hookflow.runtime import runtime
from django_hookflow.shutdown import shutdown


class _SettingsCodec:
    """The codec that the settings name at the moment of use."""

    def encode(self, value: Any, *, hint: Any = Any, limit: int | None = None) -> str:
        return runtime.codec.encode(value, hint=hint, limit=limit)

    def decode(self, text: str, *, hint: Any = Any) -> Any:
        return runtime.codec.decode(text, hint=hint)


class HookflowConfig(AppConfig):
    """``INSTALLED_APPS += ["django_hookflow"]``."""

    name = "django_hookflow"
    verbose_name = "Hookflow"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Wire the rooms together once the models are there."""
        ports.install(codec=_SettingsCodec(), controls=RunControls(runtime))
        register_checks()
        autodiscover()
        # Most servers load the application in the main thread, with their handlers in place;
        # under gunicorn's threads there is no other moment.
        shutdown.watch()
