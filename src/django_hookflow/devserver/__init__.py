"""A local server that speaks QStash's protocol, for development and for tests.

``python -m django_hookflow.devserver`` runs it in a process of its own, ``DevServer`` in a
thread. It needs no Django settings, keeps everything in memory, and forgets it at the end.
Import ``DevServer`` from ``django_hookflow.devserver.server``.
"""
