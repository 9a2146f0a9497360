"""`aggregator token`: keys for users and operators."""

from __future__ import annotations

import click


@click.group()
def token() -> None:
    """Make keys for clients that say who they are."""


@token.command()
@click.option(
    "--user", type=click.IntRange(1, 2**53 - 1), required=True, help="Whose key it is, a number."
)
@click.option(
    "--role",
    type=click.Choice(["reader", "ops", "admin"]),
    default="reader",
    show_default=True,
    help="What it is good for.",
)
@click.option("--id", "token_id", help="The name of the key, a-z and 0-9; else a random one.")
def create(user: int, role: str, token_id: str | None) -> None:
    """
    Make a key: print it, once, and the section of the configuration that lets it in.

    The key is written to stdout and nowhere else; the configuration has only its salted hash.
    """
    import re
    import secrets

    from . import tokens

    token_id = token_id or secrets.token_hex(4)
    if not re.fullmatch(r"[a-z0-9]{1,32}", token_id):
        raise click.UsageError("--id has 1 to 32 of a-z and 0-9")
    key, hashed = tokens.create(token_id)
    click.echo("The key; it is not shown again:", err=True)
    click.echo(key)
    click.echo("In the configuration:\n", err=True)
    section = f'[tokens.{token_id}]\nuser = {user}\nrole = "{role}"\nhash = "{hashed}"'
    click.echo(section, err=True)
