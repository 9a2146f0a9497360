"""`aggregator watch`, as a command."""

from __future__ import annotations

import sys

import click

from .cli_common import SOCKET_URL, check_socket_url, follow, url_option
from .cli_complete import channel_names


@click.command()
@click.argument("channels", nargs=-1, required=True, shell_complete=channel_names)
@url_option(SOCKET_URL, "Of the daemon's WebSocket.", "WATCH_URL")
@click.option("--json", "as_json", is_flag=True, help="One message a line, even on a terminal.")
@click.option(
    "--since",
    multiple=True,
    metavar="CHANNEL=EPOCH:SEQ",
    help="Go on behind this message of a channel; can be given for each.",
)
def watch(channels: tuple[str, ...], url: str, *, as_json: bool, since: tuple[str, ...]) -> None:
    """
    Watch CHANNELS: a live table on a terminal, one JSON message a line when piped.

    \b
    aggregator watch bitcoinprice ethprice
    aggregator watch coingecko_top:BTC/USD system
    aggregator watch "*:BTC/USDT" --json | head
    aggregator watch bitcoinprice --since bitcoinprice=303a6b3b:1042
    """  # noqa: D301 - \b is click's mark for a block that is not to be filled
    from .watch import positions
    from .watch import watch as run_watch

    check_socket_url(url)
    as_json = as_json or not sys.stdout.isatty()
    try:
        places = positions(since)
    except ValueError as e:
        raise click.UsageError(f"--since: {e}") from None
    follow(run_watch(url, list(channels), as_json=as_json, out=sys.stdout, since=places))
