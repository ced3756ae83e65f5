#!/usr/bin/env python3
"""Django's command line, in the environment that ``python3 example_asgi`` made."""

import os
import sys
from pathlib import Path

import bootstrap

HERE = Path(__file__).resolve().parent


def main():
    bootstrap.enter(extras=["devserver"])
    where_the_demo_listens()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line  # there is no Django before

    execute_from_command_line(sys.argv)


def where_the_demo_listens():
    """Take up what a running demo wrote down, so that commands publish to its QStash."""
    written = Path(os.environ.get("ORDERS_VAR") or HERE / "var") / "demo.env"
    if written.exists():
        for line in written.read_text().splitlines():
            name, _, value = line.partition("=")
            os.environ.setdefault(name, value)


if __name__ == "__main__":
    main()
