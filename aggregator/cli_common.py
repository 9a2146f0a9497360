"""What several commands have in common."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

import click

from .errors import CommandError

DEFAULT_URL = "http://127.0.0.1:8000"
SOCKET_URL = "ws://127.0.0.1:8000/ws"

EXIT_UNWRITTEN = 74
UNWRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What a write fails with that standard output has no room for; a closed pipe is no error."""

Command = Callable[..., None]


class Program(click.Group):
    """All commands; where standard output has no room, each says so and exits with 74."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command, as click does."""
        try:
            try:
                return super().main(*args, **options)
            finally:
                # Here, where it can still be said: at exit it would be a traceback.
                if sys.stdout is not None and not sys.stdout.closed:
                    sys.stdout.flush()
        except OSError as e:
            if not of_output(e):
                raise
            _forget_output()
            with contextlib.suppress(OSError):
                click.echo(f"standard output can't be written: {e.strerror}", err=True)
            sys.exit(EXIT_UNWRITTEN)


def of_output(error: OSError) -> bool:
    """Whether it is standard output that has no room: another file would be named."""
    return error.errno in UNWRITTEN and error.filename is None


def check_socket_url(url: str) -> None:
    """
    Refuse what is no address of the daemon's WebSocket.

    Raises:
        click.UsageError: with the address that may be meant.

    """
    if url.lower().startswith(("ws://", "wss://")):
        return
    scheme, mark, rest = url.partition("://")
    rest = rest if mark else url
    with contextlib.suppress(ValueError):
        if urlsplit(f"//{rest}").path in {"", "/"}:
            rest = rest.rstrip("/") + "/ws"
    meant = f"{'wss' if mark and scheme.lower() in {'https', 'wss'} else 'ws'}://{rest}"
    raise click.UsageError(f"--url begins with ws:// or wss://, like {meant}")


def url_option(default: str, text: str, envvar: str | None = None) -> Callable[[Command], Command]:
    """Add `--url`."""
    return click.option(
        "--url", default=default, show_default=True, envvar=envvar, show_envvar=True, help=text
    )


def follow(following: Coroutine[Any, Any, None]) -> None:
    """Run what prints messages until it is ended: by itself, by Ctrl-C, or by who reads it."""
    import asyncio

    try:
        asyncio.run(following)
    except CommandError as e:
        click.echo(str(e), err=True)
        sys.exit(e.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whom it was piped to has seen enough.
        _forget_output()


def _forget_output() -> None:
    """Have nothing flushed at exit: what is left can't be written."""
    with contextlib.suppress(OSError):
        sys.stdout.close()
