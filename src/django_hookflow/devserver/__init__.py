"""A local server that speaks QStash's protocol, for development and for tests.

``python -m django_hookflow.devserver`` runs it in a process of its own, ``DevServer`` in a
thread. It needs no Django settings. Without a file to keep it in (``--db``, ``db=``) it forgets
everything at the end.
Import ``DevServer`` from ``django_hookflow.devserver.server``.
"""
