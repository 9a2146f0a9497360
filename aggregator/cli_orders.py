"""`aggregator orders`, as a command."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import click

TOKEN = "ORDERS_TOKEN"  # noqa: S105 - the name of a variable
OTP = "ORDERS_OTP"


@click.command()
@click.option(
    "--url",
    default="ws://127.0.0.1:8000/ws",
    show_default=True,
    envvar="WATCH_URL",
    show_envvar=True,
    help="Of the daemon's WebSocket.",
)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"Where your token stands; else it is taken from {TOKEN}.",
)
@click.option("--json", "as_json", is_flag=True, help="The messages as they come, one a line.")
def orders(url: str, token_file: Path | None, *, as_json: bool) -> None:
    """
    Follow your own orders, fills, balances and portfolio.

    A token is never an argument: everybody on the machine could read that. Where you need a
    one-time code, it is taken from ORDERS_OTP.
    """
    import asyncio
    import os

    from .orders import OrdersError, follow

    try:
        token = os.environ.get(TOKEN, "") if token_file is None else token_file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise click.UsageError(f"{token_file} can't be read as a text") from None
    if not token.strip():
        raise click.UsageError(f"give --token-file, or set {TOKEN}")
    try:
        asyncio.run(
            follow(url, token.strip(), otp=os.environ.get(OTP), as_json=as_json, out=sys.stdout)
        )
    except OrdersError as e:
        click.echo(str(e), err=True)
        sys.exit(e.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            sys.stdout.close()
