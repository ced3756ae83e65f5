"""The command ``python -m django_hookflow.devserver``."""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from django_hookflow.devserver.server import bind, serve, url_of
    from django_hookflow.devserver.service import Service
except ModuleNotFoundError as error:
    needed = ("starlette", "uvicorn", "httpx", "h11", "cronsim")
    if (error.name or "").partition(".")[0] not in needed:
        raise
    packages = ", ".join(needed)
    sys.stderr.write(f"The development server needs the packages {packages}: {error}\n")
    raise SystemExit(2) from None

from django_hookflow.devserver.addresses import is_loopback
from django_hookflow.devserver.config import (
    DEFAULT_CURRENT_KEY,
    DEFAULT_NEXT_KEY,
    DEFAULT_PORT,
    DEFAULT_TOKEN,
    Config,
    Rewrite,
    parse_rewrite,
)
from django_hookflow.devserver.store import StoreError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until it is interrupted; the exit code is 2 if it cannot start."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        config = Config(
            token=options.token,
            current_key=options.signing_key,
            next_key=options.next_signing_key,
            time_scale=options.time_scale,
            rewrites=tuple(options.rewrite),
            max_body=options.max_body,
            db=options.db,
        )
    except ValueError as error:
        return _complain(str(error))
    if config.is_public and not is_loopback(options.host):
        return _complain(
            f"refusing to listen on {options.host} with the public default token or keys: "
            "set --token, --signing-key and --next-signing-key"
        )
    return _run(config, options.host, options.port)


def _run(config: Config, host: str, port: int) -> int:
    try:
        listener = bind(host, port)
    except OSError as error:
        return _complain(_no_socket(host, port, error))
    url = url_of(listener)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    for noisy in ("uvicorn", "uvicorn.error", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)

    def announce() -> None:
        sys.stdout.write(f"QStash-compatible server running at {url}\n")
        sys.stdout.flush()

    service = Service(config)
    try:
        service.open()
    except StoreError as error:
        listener.close()
        return _complain(str(error))
    with contextlib.suppress(KeyboardInterrupt):
        serve(service, listener, announce)
    return 0


def _no_socket(host: str, port: int, error: OSError) -> str:
    text = f"cannot listen on {host} port {port}: {error.strerror or error}"
    if error.errno == errno.EADDRINUSE:
        text += (
            ". Another process has the port, perhaps another devserver: end that one, "
            "or choose another port with --port (0 takes a free one)"
        )
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m django_hookflow.devserver",
        description="A QStash-compatible server for development.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add(
        "--port", type=_port, default=DEFAULT_PORT, help="0 takes a free one (default: %(default)s)"
    )
    add(
        "--time-scale",
        type=float,
        default=1.0,
        metavar="N",
        help="make the back-off between redeliveries N times as fast; delays and the Retry-After "
        "of a destination are not touched",
    )
    add("--token", default=DEFAULT_TOKEN, help="token that clients must show")
    add("--signing-key", default=DEFAULT_CURRENT_KEY, metavar="KEY", help="current signing key")
    add("--next-signing-key", default=DEFAULT_NEXT_KEY, metavar="KEY", help="next signing key")
    add(
        "--rewrite",
        type=_rewrite,
        action="append",
        default=[],
        metavar="FROM=TO",
        help="connect to TO for URLs under FROM; signatures and logs keep FROM; repeatable",
    )
    add(
        "--db",
        type=Path,
        metavar="FILE",
        help="keep everything in an SQLite file, also when the server is killed; "
        "without it, it is in memory",
    )
    add("--max-body", type=int, default=1_048_576, metavar="BYTES",
        help="largest message (default: %(default)s)")  # fmt: skip
    return parser


def _rewrite(text: str) -> Rewrite:
    try:
        return parse_rewrite(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number")
    return int(text)


def _complain(text: str) -> int:
    sys.stderr.write(f"devserver: {text}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
