"""What a shell completes, and `aggregator completion`, which makes it do so."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .cli_common import DEFAULT_URL


def channel_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the daemon's channels that begin so, for the completion of a shell; none without."""
    del param
    import json

    from .ask import AskError, ask

    # `watch` has the address of the WebSocket.
    url = str(ctx.params.get("url") or DEFAULT_URL).removesuffix("/ws")
    url = f"http{url[2:]}" if url.startswith("ws") else url
    try:
        names = [each["channel"] for each in json.loads(ask(url, "/channels"))["channels"]]
    except (AskError, ValueError, LookupError, TypeError):
        return []
    return [name for name in names if name.startswith(incomplete)]


def topic_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the topics that begin so, for the completion of a shell."""
    del ctx, param
    from . import handbook

    found = handbook.topics()
    names = {t.name for t in found} | {t.path for t in found} | handbook.ALSO.keys()
    # Where nothing is given yet, the pages' own sections are enough to choose from.
    return sorted(n for n in names if n.startswith(incomplete) and (incomplete or "/" not in n))


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """
    Print what makes SHELL complete commands, options, topics and channels.

    Put one of these lines into ~/.bashrc or ~/.zshrc, or run the third once:

    \b
    eval "$(aggregator completion bash)"
    eval "$(aggregator completion zsh)"
    aggregator completion fish > ~/.config/fish/completions/aggregator.fish
    """  # noqa: D301 - \b is click's mark for a block that is not to be filled
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has these three
    root = ctx.find_root().command
    click.echo(kind(root, {}, "aggregator", "_AGGREGATOR_COMPLETE").source())
