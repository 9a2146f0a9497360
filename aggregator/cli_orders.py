"""`aggregator orders`, as a command."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .cli_common import SOCKET_URL, check_socket_url, follow, url_option

TOKEN = "ORDERS_TOKEN"  # noqa: S105 - the name of a variable
OTP = "ORDERS_OTP"


@click.command()
@url_option(SOCKET_URL, "Of the daemon's WebSocket.", "WATCH_URL")
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
    import os

    from .orders import follow as follow_orders

    check_socket_url(url)
    try:
        token = os.environ.get(TOKEN, "") if token_file is None else token_file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise click.UsageError(f"{token_file} can't be read as a text") from None
    if not token.strip():
        raise click.UsageError(f"give --token-file, or set {TOKEN}")
    follow(
        follow_orders(url, token.strip(), otp=os.environ.get(OTP), as_json=as_json, out=sys.stdout)
    )
