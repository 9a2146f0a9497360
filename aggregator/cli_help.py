"""`aggregator help`."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, ClassVar

import click

from .cli_complete import topic_names

if TYPE_CHECKING:
    from .handbook import Topic

INDENT = "  "
WIDTH = 100
"""Longer lines are harder to read, on however wide a terminal."""


@click.command("help")
@click.argument("topic", required=False, shell_complete=topic_names)
@click.pass_context
def show_help(ctx: click.Context, topic: str | None) -> None:
    """
    Show TOPIC of the manual; without one, list the topics.

    The manual is that of this version: the pages of its docs folder. On a terminal it is shown in
    a pager, elsewhere as the Markdown that it is.

    \b
    aggregator help configuration
    aggregator help exit-codes
    aggregator help protocol/limits
    """  # noqa: D301 - \b is click's mark for a block that is not to be filled
    from . import handbook

    everything = handbook.topics()
    if topic is None:
        click.echo_via_pager(_listed(everything))
        return
    found = handbook.find(topic, everything)
    if found:
        also = ", ".join(f"`aggregator help {other.path}`" for other in found[1:])
        _show(found[0].text + (f"\n\nSee also: {also}" if also else ""))
        return
    commands = ctx.find_root().command
    assert isinstance(commands, click.Group)  # noqa: S101 - it has this command
    if command := commands.get_command(ctx, topic):
        with click.Context(command, info_name=topic, parent=ctx.parent) as shown:
            click.echo(command.get_help(shown))
        return
    mentioned = ", ".join(t.path for t in handbook.mentions(topic, everything))
    hint = f"it is mentioned in: {mentioned}" if mentioned else "`aggregator help` lists them"
    raise click.UsageError(f"there is no topic {topic!r}; {hint}")


def _listed(everything: list[Topic]) -> str:
    """Return the topics as a list for people: the pages, and the sections of each."""
    from .handbook import OFTEN

    blocks = [f"`aggregator help TOPIC` shows a page, or a section of one.\n  {'  '.join(OFTEN)}"]
    for page in (topic for topic in everything if topic.level == 1):
        title = page.text.partition("\n")[0].lstrip("# ")
        names = dict.fromkeys(t.name for t in everything if t.page == page.page and t.level == 2)
        sections = textwrap.fill(
            "  ".join(names),
            78,
            initial_indent=INDENT,
            subsequent_indent=INDENT,
            break_on_hyphens=False,
        )
        blocks.append(f"{page.name}: {title}\n{sections}")
    return "\n\n".join(blocks) + "\n"


def _show(markdown: str) -> None:
    """Print Markdown: laid out and in a pager on a terminal, else as it is."""
    if not sys.stdout.isatty():
        click.echo(markdown)
        return
    import io

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.markdown import Markdown, TableElement
    from rich.table import Table

    class Whole(TableElement):
        """A table that breaks long words, where rich cuts them off."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for table in super().__rich_console__(console, options):
                assert isinstance(table, Table)  # noqa: S101 - it is one
                for column in table.columns:
                    column.overflow = "fold"
                yield table

    class Page(Markdown):
        """Markdown with such tables."""

        elements: ClassVar = {**Markdown.elements, "table_open": Whole}

    width = min(Console().width, WIDTH)
    laid_out = Console(file=io.StringIO(), force_terminal=True, width=width)
    laid_out.print(Page(markdown, hyperlinks=False))
    assert isinstance(laid_out.file, io.StringIO)  # noqa: S101 - as given above
    click.echo_via_pager(laid_out.file.getvalue())
