"""What ``manage.py hookflow <subcommand>`` does: one module per subcommand.

Each has ``HELP``, ``add_arguments(parser)`` and ``handle(terminal, **options)``; the command
itself only chooses. Other modules here render, word and read for several of them.
"""
