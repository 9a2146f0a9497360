"""Writes a configuration as TOML: every option with its line of documentation and its value."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping

from pydantic import BaseModel, SecretStr

from .config import Account, Config, Feed
from .settings import BudgetLimits

MASK = "********"
"""Stands for a secret, in a comment: so that the text, used as a file, makes none of it."""


def render(config: Config) -> str:
    """Return the effective configuration as TOML, secrets masked."""
    lines = [
        "# The aggregator's configuration: every option with its value. One that is left out has",
        "# its default; without any [feeds.*] section there are the eight standard feeds.",
        "#",
        "# Stronger than this file, in this order: systemd credentials (for the keys of venues and",
        "# ops_token), variables like AGGREGATOR_SERVER__PORT, flags of the command line.",
        "# An option that is commented out with ... is not set.",
        "",
        "# The side of the clients.",
        "[server]",
        *_options(config.server, documented=True),
    ]
    for exchange, limits in config.budgets.items():
        lines += ["", f"[budgets.{_key(exchange)}]", *_options(limits, documented=True)]
    if not config.budgets:
        lines += [
            "",
            "# What all feeds of a venue together may ask of each of its hosts. An option that is",
            "# left out is as the venue's connector says.",
        ]
        lines += ["# [budgets.binance]", *_options(BudgetLimits(), documented=True)]
    lines += ["", "# Keys of venues. Better as variables or as systemd credentials."]
    if config.credentials:
        lines += ["[credentials]", *(f'# {_key(n)} = "{MASK}"' for n in config.credentials)]
    else:
        lines += ["# [credentials]", "# coingecko_api_key = ..."]
    lines += _people(config)
    documented: set[type] = set()
    sections: dict[str, Feed | Account] = {f"feeds.{feed.name}": feed for feed in config.feeds}
    sections |= {f"accounts.{account.name}": account for account in config.accounts}
    for name, section in sections.items():
        lines += ["", f"[{name}]", f"connector = {_value(section.connector)}"]
        if section.options is None:
            lines += [f"# can't be loaded: {' '.join(section.problem.split())}"]
            continue
        lines += _options(section.options, documented=type(section.options) not in documented)
        documented.add(type(section.options))
    return "\n".join(lines) + "\n"


def _people(config: Config) -> Iterator[str]:
    """Yield the sections of who may come, if there are any."""
    sections: dict[str, BaseModel] = {f"tokens.{name}": t for name, t in config.tokens.items()}
    sections |= {f"users.{number}": user for number, user in config.users.items()}
    sections |= {"jwt": config.jwt} if config.jwt else {}
    for name, section in sections.items():
        yield from ("", f"[{name}]", *_options(section, documented=True))


def _options(model: BaseModel, *, documented: bool) -> Iterator[str]:
    values = model.model_dump(mode="json")
    for name, option in type(model).model_fields.items():
        if documented and option.description:
            yield from textwrap.wrap(
                option.description, 98, initial_indent="# ", subsequent_indent="# "
            )
        if isinstance(getattr(model, name), SecretStr):
            yield f'# {name} = "{MASK}"'
        else:
            value = values[name]
            yield f"# {name} = ..." if value is None else f"{name} = {_value(value)}"


def _value(value: object) -> str:
    """Return a JSON value in TOML's notation, which has no null."""
    if isinstance(value, Mapping):
        pairs = (f"{_key(str(k))} = {_value(v)}" for k, v in value.items() if v is not None)
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(_value(each) for each in value if each is not None)}]"
    # Of the others JSON's notation is TOML's, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)
