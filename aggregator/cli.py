"""
The command line.

Exit codes: 0 done; 2 usage, or the daemon refuses; 69 it can't be reached; 74 standard output can't
be written; 78 the configuration can't be used.
What a command needs is imported inside of it, so that `--version` and `--help` answer at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from . import __version__
from .cli_common import DEFAULT_URL, Command, Program, of_output, url_option
from .cli_complete import channel_names, completion
from .cli_help import show_help
from .cli_init import init
from .cli_orders import orders
from .cli_tokens import token
from .cli_watch import watch

if TYPE_CHECKING:
    from .config import Config

EXIT_UNAVAILABLE = 69
EXIT_CONFIG = 78
TOKEN = "AGGREGATOR_CREDENTIALS__OPS_TOKEN"  # noqa: S105 - the name of a variable


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="aggregator")
def main() -> None:
    """One WebSocket with honest prices, gathered from many exchanges."""


main.add_command(completion)
main.add_command(init)
main.add_command(orders)
main.add_command(show_help)
main.add_command(token)
main.add_command(watch)


def config_option(command: Command) -> Command:
    """Add `--config`."""
    return click.option(
        "--config",
        "path",
        type=click.Path(path_type=Path),
        help="The TOML file; else config/aggregator.toml, else /etc/aggregator/aggregator.toml.",
    )(command)


def server_options(command: Command) -> Command:
    """Add what the commands have in common that start the daemon."""
    options = [
        click.option("--host", help="Address to listen on, in place of server.host."),
        click.option(
            "--port", type=click.IntRange(0, 65535), help="Port, in place of server.port."
        ),
        click.option(
            "--log-level",
            type=click.Choice(["debug", "info", "warning", "error"]),
            default="info",
            show_default=True,
            help="How much to log.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@config_option
@server_options
def run(path: Path | None, host: str | None, port: int | None, log_level: str) -> None:
    """Run the daemon."""
    from . import app, config, sources

    flags = server_flags(host, port)
    first = load(path, flags)
    # What is read again is the same file: if that is gone, it is none of the others.
    place = path or sources.first_place()
    app.run(first, log_level, lambda: config.load(place, flags))


@main.command()
@config_option
@server_options
@click.option("--seed", default=1, show_default=True, help="Of the made-up prices.")
def demo(path: Path | None, host: str | None, port: int | None, log_level: str, seed: int) -> None:
    """Run the daemon against simulated venues: no network, no key, made-up prices."""
    from . import app, demo

    with demo.simulated_venues(seed) as venues:
        config = load(path, server_flags(host, port))
        app.run(demo.pointed_at(config, venues), log_level)


@main.command("check-config")
@config_option
def check_config(path: Path | None) -> None:
    """Check the configuration; exit with 78 and every fault found if it can't be used."""
    config = load(path)
    for warning in config.warnings:
        click.echo(f"warning: {warning}", err=True)
    for feed in config.feeds:
        if feed.problem:
            click.echo(f"warning: feeds.{feed.name}: {feed.connector}: {feed.problem}", err=True)
    if config.accounts:
        import asyncio

        from .ingest import accounts

        for warning in asyncio.run(accounts.warnings(config)):
            click.echo(f"warning: {warning}", err=True)
    count = len(config.feeds)
    click.echo(f"{config.source}: good, {count} feed{'' if count == 1 else 's'}")


@main.command("print-config")
@config_option
def print_config(path: Path | None) -> None:
    """Print the effective configuration as TOML, with secrets masked."""
    from . import configdoc

    click.echo(configdoc.render(load(path)), nl=False)


@main.command()
def connectors() -> None:
    """List the installed connectors, and what is wrong with the broken ones."""
    from . import registry
    from .connector import PollConnector, StreamConnector

    rows = []
    for found in registry.everything():
        if found.cls is None:
            rows.append([found.name, "-", "broken", found.distribution, found.problem])
        else:
            polled, streamed = (issubclass(found.cls, c) for c in (PollConnector, StreamConnector))
            kind = "polled" if polled else "streamed" if streamed else "either"
            about = (found.cls.__doc__ or "").strip().partition("\n")[0]
            rows.append([found.name, found.cls.exchange, kind, found.distribution, about])
    columns(["connector", "exchange", "kind", "distribution", "about"], rows)


@main.command()
@url_option(DEFAULT_URL, "Of the daemon.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as it is.")
def channels(url: str, *, as_json: bool) -> None:
    """List a running daemon's channels and how they are doing."""
    import json

    from .ask import AskError, ask, channel_rows, printable

    check_url(url)
    try:
        text = ask(url, "/channels")
        rows = [row for channel in json.loads(text)["channels"] for row in channel_rows(channel)]
    except AskError as e:
        fail(printable(e), e.exit_code)
    except (ValueError, LookupError, TypeError):
        fail(f"can't reach the daemon at {url}: what answers is no aggregator", EXIT_UNAVAILABLE)
    if as_json:
        click.echo(text)
        return
    columns(["channel", "state", "instruments", "age", "subscribers", "reason"], rows)


@main.command()
@click.argument("feed", shell_complete=channel_names)
@url_option(DEFAULT_URL, "Of the daemon.")
@click.option(
    "--token", default="", envvar=TOKEN, show_envvar=True, help="Its ops_token, if it has one."
)
def rotate(feed: str, url: str, token: str) -> None:
    """Have the connection of FEED replaced by a second one, with nothing lost."""
    from urllib.parse import quote

    from .ask import AskError, ask, printable

    check_url(url)
    try:
        ask(url, f"/feeds/{quote(feed, safe='')}/rotate", "POST", token)
    except AskError as e:
        fail(printable(e), e.exit_code)
    click.echo(f"{feed}: a second connection is being opened; the log says when it leads")


@main.command()
@click.argument("channel", shell_complete=channel_names)
@url_option(DEFAULT_URL, "Of the daemon.")
@click.option("--json", "as_json", is_flag=True, help="Print the daemon's answer as it is.")
def why(channel: str, url: str, *, as_json: bool) -> None:
    """Say why CHANNEL, or CHANNEL:INSTRUMENT, is as it is, and where its messages come from."""
    import json
    from urllib.parse import quote

    from .ask import AskError, ask, fact_lines, printable

    check_url(url)
    try:
        text = ask(url, f"/why/{quote(channel, safe='')}")
        lines = [json.loads(text)["verdict"], *fact_lines(json.loads(text))]
    except AskError as e:
        fail(printable(e), e.exit_code)
    except (ValueError, LookupError, TypeError):
        fail(f"can't reach the daemon at {url}: what answers is no aggregator", EXIT_UNAVAILABLE)
    click.echo(text if as_json else "\n".join(map(printable, lines)))


def check_url(url: str) -> None:
    """Refuse what is no address of a daemon."""
    if not url.startswith(("http://", "https://")):
        raise click.UsageError("--url begins with http:// or https://")


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9000,
    show_default=True,
    help="Port; 0 takes a free one.",
)
@click.option("--seed", default=1, show_default=True, help="Of the made-up prices.")
@click.option("--ticks-per-s", default=5.0, show_default=True, help="Per instrument.")
@click.option("--extra-instruments", default=0, show_default=True, help="More on Binance.")
@click.option("--cache-s", default=5, show_default=True, help="max-age of CoinGecko's answers.")
@click.option("--for-parent", is_flag=True, hidden=True)
def simulator(host: str, port: int, *, for_parent: bool, **options: Any) -> None:
    """Run the simulated venues alone: Binance, CoinGecko and OKX, with faults on demand."""
    from . import demo
    from .simulator import Options

    try:
        chosen = Options(**options)
    except ValueError as e:
        raise click.UsageError(str(e)) from None
    try:
        demo.run_simulator(host, port, chosen, for_parent=for_parent)
    except OSError as e:
        if of_output(e):
            raise
        fail(f"can't listen on {host}:{port}: {e.strerror or e}", EXIT_UNAVAILABLE)


def load(path: Path | None, overrides: dict[str, Any] | None = None) -> Config:
    """Return the configuration; where it can't be used, say why and exit with 78."""
    from . import config
    from .errors import ConfigError

    try:
        return config.load(path, overrides)
    except ConfigError as e:
        fail(str(e), EXIT_CONFIG)


def server_flags(host: str | None, port: int | None) -> dict[str, Any]:
    """Return the flags that stand for options of `[server]`, nested as in the file."""
    given = {"host": host, "port": port}
    server = {name: value for name, value in given.items() if value is not None}
    return {"server": server} if server else {}


def columns(titles: list[str], rows: list[list[str]]) -> None:
    """Print rows as aligned columns."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in [titles, *rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def fail(message: str, exit_code: int) -> NoReturn:
    """Say what is wrong on standard error, and exit."""
    import logging

    from .telemetry import logs

    click.echo(logs.told(message, logging.ERROR), err=True)
    sys.exit(exit_code)
