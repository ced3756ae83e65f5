"""Runs in Django's admin: to be looked at, cancelled and retried, and nothing else.

Imported by Django's admin where it is installed, by nobody else. A project with an admin theme
of its own unregisters ``WorkflowRun`` and registers ``WorkflowRunAdminMixin`` with the theme's
``ModelAdmin``. Every view is a plain sync one, so WSGI and ASGI serve the same.
"""

from __future__ import annotations

from django_hookflow.admin.runs import WorkflowRunAdmin, WorkflowRunAdminMixin

__all__ = ["WorkflowRunAdmin", "WorkflowRunAdminMixin"]
