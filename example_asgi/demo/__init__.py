"""What ``python3 example_asgi`` does: starts the project, runs orders through it, and watches.

Nothing of this is needed to use django-hookflow; read ``orders/workflows.py`` for that.
"""
