"""Writes a configuration as TOML: every option with its line of documentation and its value."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from pydantic import BaseModel, SecretStr

from .config import BudgetLimits, Config

MASK = "********"


def render(config: Config) -> str:
    """Return the effective configuration as TOML, secrets masked."""
    lines = [
        "# The aggregator's configuration. Each option has a default and may be left out.",
        "# Stronger than this file: AGGREGATOR_SERVER__PORT-style variables, then flags.",
        "",
        "# The side of the clients.",
        "[server]",
        *_options(config.server, documented=True),
    ]
    for exchange, limits in config.budgets.items():
        lines += ["", f"[budgets.{exchange}]", *_options(limits, documented=True)]
    if not config.budgets:
        lines += ["", "# Requests allowed to a venue, in place of what its connector says."]
        lines += ["# [budgets.binance]", *_options(BudgetLimits(), documented=True)]
    lines += ["", "# Keys of venues. Better as variables or as systemd credentials."]
    if config.credentials:
        lines += ["[credentials]", *(f'{name} = "{MASK}"' for name in config.credentials)]
    else:
        lines += ["# [credentials]", '# coingecko_api_key = ""']
    documented: set[type] = set()
    for feed in config.feeds:
        lines += ["", f"[feeds.{feed.name}]", f"connector = {_value(feed.connector)}"]
        if feed.options is None:
            lines += [f"# can't be loaded: {feed.problem}"]
            continue
        lines += _options(feed.options, documented=type(feed.options) not in documented)
        documented.add(type(feed.options))
    return "\n".join(lines) + "\n"


def _options(model: BaseModel, *, documented: bool) -> Iterator[str]:
    for name, option in type(model).model_fields.items():
        if documented and option.description:
            yield from textwrap.wrap(
                option.description, 98, initial_indent="# ", subsequent_indent="# "
            )
        value = getattr(model, name)
        yield f'# {name} = ""' if value is None else f"{name} = {_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, SecretStr):
        return f'"{MASK}"'
    # Of the kinds of values that options have, JSON's notation is TOML's.
    return json.dumps(value, ensure_ascii=False)
